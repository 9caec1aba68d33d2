package gateway

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// brokenSink takes no record until it is mended.
type brokenSink struct {
	to   *recordBuffer
	mu   sync.Mutex
	good bool
}

func (s *brokenSink) Write(line []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.good {
		return errors.New("no space left on device")
	}
	_, err := s.to.Write(line)
	return err
}

func (s *brokenSink) mend() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.good = true
}

func (s *brokenSink) Reopen() error { return nil }
func (s *brokenSink) Close() error  { return nil }

// unrecorded is a house whose records cannot be written, with room for one.
func unrecorded(t *testing.T, o audit.OnFull) (*house, *brokenSink) {
	t.Helper()
	s := &brokenSink{}
	log := audit.Start(audit.Config{Sink: s, Name: "disk", Queue: 1, OnFull: o, Log: zap.NewNop()})
	// It closes after the gateway, which may still write the record of the last flow.
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Audit = log })
	s.to = h.records
	t.Cleanup(s.mend)
	return h, s
}

func (h *house) one(t *testing.T) error {
	t.Helper()
	conn, err := h.tlsClient(server4, h.alice(), nil)
	if err == nil {
		err = conn.Close()
	}
	return err
}

func TestRefuseWhileUnrecorded(t *testing.T) {
	h, s := unrecorded(t, audit.Refuse)
	if err := h.one(t); err != nil {
		t.Fatalf("nothing is known to be broken yet: %v", err)
	}
	testenv.Eventually(t, "it is noticed", h.gw.audit.Refusing)
	dials := h.dials.Load()
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	if c, err := h.client.Dial(ctx, server4); err == nil {
		_ = c.Close()
		t.Error("a SYN was answered whose flow cannot be recorded")
	}
	if h.dials.Load() != dials {
		t.Error("its destination was dialled")
	}
	s.mend()
	if r := h.record(2); r.str("reason") != "audit_unavailable" || r.str("verdict") != "failed" {
		t.Errorf("%v", r)
	}
	testenv.Eventually(t, "it refuses no longer", func() bool { return !h.gw.audit.Refusing() })
	if err := h.one(t); err != nil {
		t.Errorf("mended: %v", err)
	}
}

func TestBlockWhileUnrecorded(t *testing.T) {
	t.Parallel()
	h, s := unrecorded(t, audit.Block)
	for range 2 { // one in the writer's hand, one in the queue
		if err := h.one(t); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, "the queue is full", func() bool { return h.gw.audit.Stats().Queued >= 2 })
	// As long as the handshake may take, 3 s here, and then no longer.
	began := time.Now()
	if err := h.one(t); err == nil {
		t.Error("a flow began that cannot be recorded")
	}
	if d := time.Since(began); d < 2*time.Second {
		t.Errorf("it waited %v only", d)
	}
	done := make(chan error, 1)
	go func() { done <- h.one(t) }()
	time.Sleep(100 * time.Millisecond)
	s.mend()
	if err := <-done; err != nil {
		t.Errorf("it waited, and then: %v", err)
	}
	reasons := map[string]int{}
	h.record(4)
	for _, r := range h.records.all(t) {
		reasons[r.str("reason")]++
	}
	if reasons["verified"] != 3 || reasons["audit_unavailable"] != 1 {
		t.Errorf("%v", reasons)
	}
}

func TestDropWhileUnrecorded(t *testing.T) {
	h, _ := unrecorded(t, audit.Drop)
	for i := range 5 {
		if err := h.one(t); err != nil {
			t.Errorf("flow %d: %v", i, err)
		}
	}
	testenv.Eventually(t, "3 are lost", func() bool { return h.gw.audit.Stats().Lost == 3 }, func() any { return h.gw.audit.Stats() })
}
