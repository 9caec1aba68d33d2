package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack/stacktest"
)

// limited is a house with these limits.
func limited(l Limits) option {
	return func(c *Config) {
		l.Handshake, l.Refusals, l.RefusalsPerClient = c.Limits.Handshake, c.Limits.Refusals, c.Limits.RefusalsPerClient
		c.Limits = l
	}
}

// slow sends a whole ClientHello and then nothing more, so that the handshake
// stays in flight until its deadline.
func (h *house) slow(dst netip.AddrPort) *stacktest.Conn {
	h.t.Helper()
	c := h.dial(dst)
	hello := make(chan struct{})
	conn := tls.Client(&oneWrite{Conn: c, done: hello}, &tls.Config{ServerName: "pay.example", RootCAs: h.ca.Pool()})
	go func() { _ = conn.Handshake() }()
	<-hello
	return c
}

// oneWrite lets one write pass and fails everything after it.
type oneWrite struct {
	*stacktest.Conn
	once sync.Once
	done chan struct{}
}

func (o *oneWrite) Write(b []byte) (n int, err error) {
	err = errors.New("no more")
	o.once.Do(func() {
		n, err = o.Conn.Write(b)
		close(o.done)
	})
	return n, err
}

func (o *oneWrite) Read([]byte) (int, error) { return 0, errors.New("nothing is read") }

// One client with hundreds of slow handshakes does not keep another client from its own.
func TestSlowHandshakesHoldNobodyUp(t *testing.T) {
	// A slow handshake ends long after the other client has made all of its own.
	lasting := func(c *Config) { c.Limits.Handshake = 2 * testenv.Patience() }
	h := newHouse(t, mtls(), nil, limited(Limits{Handshakes: 32, HandshakesPerClient: 8, HandshakesPerSecond: 1000}), lasting)
	alice := h.alice()
	var slow []*stacktest.Conn
	for range 300 {
		slow = append(slow, h.slow(server4)) // from client4
	}
	waitUntil(t, func() bool { s := h.gw.Handshakes(); return s.InFlight == 8 && s.Waiting > 0 })
	for range 20 { // from client6
		start := time.Now()
		conn, err := h.tlsClient(server6, alice, nil)
		if err != nil {
			t.Fatalf("the other client: %v, %+v", err, h.gw.Handshakes())
		}
		echo(t, conn)
		if took := time.Since(start); took > testenv.Patience() {
			t.Errorf("the other client waited %s", took)
		}
		_ = conn.Close()
	}
	for _, c := range slow {
		c.Reset()
	}
	waitUntil(t, func() bool { s := h.gw.Handshakes(); return s.InFlight == 0 && s.Waiting == 0 })
	codes := map[string]int{}
	waitUntil(t, func() bool { return len(h.records.all(t)) == 320 })
	for _, r := range h.records.all(t) {
		codes[r.str("reason")]++
	}
	if codes[string(reason.OK)] != 20 {
		t.Errorf("reasons: %v", codes)
	}
}

// Beyond the queue a handshake is refused with a RST and a record; one that
// waits longer than the whole handshake may take is, too.
func TestHandshakeLimit(t *testing.T) {
	t.Parallel()
	h := newHouse(t, mtls(), nil, limited(Limits{Handshakes: 1, HandshakesPerClient: 1, HandshakesPerSecond: 1000}))
	first := h.slow(server4)
	defer first.Reset()
	waitUntil(t, func() bool { return h.gw.Handshakes().InFlight == 1 })
	for range waitingTimes + 3 {
		defer h.slow(server4).Reset()
	}
	waitUntil(t, func() bool { return h.gw.Handshakes().Refused == 3 })
	for i := range 3 {
		r := h.record(i + 1)
		if r.str("reason") != string(reason.HandshakeLimit) || r.str("detail") == "" || r.str("verdict") != "refused" {
			t.Errorf("record %d: %v", i+1, r)
		}
		if r["alert_sent"] != nil {
			t.Errorf("an alert was sent: %v", r)
		}
	}
	// The others' deadlines, counted from the accept, pass right behind that of
	// the first: each while it waits, or just after its turn has come.
	waitUntil(t, func() bool { s := h.gw.Handshakes(); return s.InFlight == 0 && s.Waiting == 0 })
	if s := h.gw.Handshakes(); s.Begun+s.Expired != waitingTimes+1 {
		t.Errorf("%+v", s)
	}
}

// The bucket slows a client down, not the one beside it; a reload changes it.
func TestHandshakesPerSecond(t *testing.T) {
	h := newHouse(t, mtls(), nil, limited(Limits{HandshakesPerSecond: 5}))
	alice := h.alice()
	connect := func(dst netip.AddrPort) {
		conn, err := h.tlsClient(dst, alice, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	start := time.Now()
	for range 10 {
		connect(server4)
	}
	if took := time.Since(start); took < 800*time.Millisecond {
		t.Errorf("10 handshakes took %s, at 5 a second and a bucket of 5", took)
	}
	waited := h.gw.Handshakes().Waited
	connect(server6)
	if h.gw.Handshakes().Waited != waited {
		t.Error("another client had to wait")
	}
	now := h.gw.current.Load()
	l := now.limits
	l.HandshakesPerSecond = 100000
	setPolicy(h.gw, now.set, nil, l)
	for range 20 {
		connect(server4)
	}
	if n := h.gw.Handshakes().Waited - waited; n > 5 { // at 5 a second 15 would
		t.Errorf("after the reload %d of 20 handshakes waited", n)
	}
}

// A flow that is ended while it waits gives its place up.
func TestEndWhileWaiting(t *testing.T) {
	t.Parallel()
	h := newHouse(t, mtls(), nil, limited(Limits{Handshakes: 1, HandshakesPerClient: 1, HandshakesPerSecond: 1000}))
	defer h.slow(server4).Reset()
	waitUntil(t, func() bool { return h.gw.Handshakes().InFlight == 1 })
	_ = h.slow(server4)
	waitUntil(t, func() bool { return h.gw.Handshakes().Waiting == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
	defer cancel()
	if err := h.gw.Drain(ctx); err != nil {
		t.Errorf("drain: %v", err)
	}
}

func waitUntil(t testing.TB, ok func() bool) {
	t.Helper()
	testenv.Eventually(t, "what this line waits for", ok)
}
