package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// room is a Memory that a test opens and closes.
type room struct {
	full, closed atomic.Bool // no SYN, no flow
	held, asked  atomic.Int64
	waits        atomic.Int64
	shut         atomic.Pointer[chan struct{}] // nothing is read for clients until it is closed
}

func (r *room) Refusing(bool) bool { return r.full.Load() }

func (r *room) Take(_ int, done <-chan struct{}) bool {
	r.asked.Add(1)
	shut := r.shut.Load()
	if shut == nil {
		return false
	}
	r.waits.Add(1)
	defer r.waits.Add(-1)
	select {
	case <-*shut:
	case <-done:
	}
	return true
}

func (r *room) Admit(bool) (func(), bool) {
	if r.closed.Load() {
		return nil, false
	}
	r.held.Add(1)
	return func() { r.held.Add(-1) }, true
}

// Without memory a SYN is refused, and so is a flow whose SYN was let through
// before; who is let through gives his room back.
func TestMemoryAdmission(t *testing.T) {
	r := &room{}
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Memory = r })
	if err := h.try(h.alice()); err != nil {
		t.Fatal(err)
	}
	h.record(1)
	if n := r.held.Load(); n != 0 {
		t.Errorf("room for %d flows was not given back", n)
	}
	r.closed.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	// The TCP handshake is let through; the reset may come before Dial returns.
	if c, err := h.client.Dial(ctx, server4); err == nil {
		_ = c.SetDeadline(testenv.Deadline())
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a flow without memory: %v", err)
		}
		_ = c.Close()
	}
	if got := h.record(2); got.str("reason") != string(reason.MemoryLimit) || got.str("verdict") != "refused" {
		t.Errorf("%v", got)
	}
	r.full.Store(true)
	if c, err := h.client.Dial(ctx, server4); err == nil {
		_ = c.Close()
		t.Error("a SYN passed without memory")
	}
	if got := h.record(3); got.str("reason") != string(reason.MemoryLimit) || got.str("step") == "1" {
		t.Errorf("%v", got)
	}
	r.full.Store(false)
	r.closed.Store(false)
	if err := h.try(h.alice()); err != nil {
		t.Errorf("with memory again: %v", err)
	}
}

// While memory says so, nothing more is read for a client. What clients send still goes on, and a
// flow that waits can be ended.
func TestIntakeWaits(t *testing.T) {
	r := &room{}
	var served atomic.Int64 // bytes from the client
	var sent atomic.Int64   // bytes to it
	h := newHouse(t, mtls(), func(conn net.Conn) {
		go func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := conn.Read(buf)
				served.Add(int64(n))
				if err != nil {
					return
				}
			}
		}()
		block := make([]byte, 64<<10)
		for {
			n, err := conn.Write(block)
			sent.Add(int64(n))
			if err != nil {
				return
			}
		}
	}, func(c *Config) { c.Memory = r })
	conn, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	read := func(n int) {
		t.Helper()
		_ = conn.SetReadDeadline(testenv.Deadline())
		if _, err := io.CopyN(io.Discard, conn, int64(n)); err != nil {
			t.Fatal(err)
		}
	}
	read(8 << 20)
	asked := r.asked.Load()
	if asked == 0 {
		t.Error("memory was not asked")
	}
	shut := make(chan struct{})
	r.shut.Store(&shut)
	// What was on its way comes, and then nothing.
	_ = conn.SetReadDeadline(time.Now().Add(time.Second))
	n, err := io.Copy(io.Discard, conn)
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() || n > 16<<20 {
		t.Errorf("%d bytes came, %v", n, err)
	}
	was := testenv.Settled(t, "what the origin could send", sent.Load)
	if n := h.gw.RelayBuffers(); n > bufferLarge+bufferHuge {
		t.Errorf("%d bytes of relay buffers", n)
	}
	// The other way is open, and not counted.
	asked, before := r.asked.Load(), served.Load()
	if _, err := conn.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "4 MiB arrive", func() bool { return served.Load()-before >= 4<<20 }, func() any { return served.Load() - before })
	if now := r.asked.Load(); now != asked || sent.Load() != was {
		t.Errorf("asked %d times meanwhile, %d bytes more were taken", now-asked, sent.Load()-was)
	}
	// And on it goes.
	r.shut.Store(nil)
	close(shut)
	read(8 << 20)
	// A flow that waits ends like any other.
	shut = make(chan struct{})
	r.shut.Store(&shut)
	asked = r.asked.Load()
	go func() { _, _ = io.Copy(io.Discard, conn) }()
	testenv.Eventually(t, "memory is asked again", func() bool { return r.asked.Load() != asked })
	if _, flows := h.gw.Shed(1); flows != 1 {
		t.Errorf("%d flows were ended", flows)
	}
	if got := h.record(1); got.str("end") != string(reason.EndMemory) {
		t.Errorf("%v", got)
	}
	if n := h.gw.RelayBuffers(); n != 0 {
		t.Errorf("%d bytes of relay buffers are still lent", n)
	}
}

// Shedding ends the largest flows of the client that holds the most, and no others.
func TestShedEndsTheLargest(t *testing.T) {
	h := newHouse(t, mtls(), func(conn net.Conn) {
		b := make([]byte, 1)
		if _, err := io.ReadFull(conn, b); err != nil {
			return
		}
		if b[0] == 'f' {
			flood(conn)
			return
		}
		_, _ = conn.Write(b)
		_, _ = io.Copy(conn, conn)
	})
	alice := h.alice()
	// Eight that do not read, from one address, and two that do, from another.
	for range 8 {
		conn, err := h.tlsClient(server4, alice, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("f")); err != nil {
			t.Fatal(err)
		}
	}
	good, err := h.tlsClient(server6, alice, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer good.Close()
	echo(t, good)
	testenv.Eventually(t, "the holders hold 4 MiB", func() bool { return h.stack.Held().Sent >= 4<<20 }, func() any { return h.stack.Held() })
	held := testenv.Settled(t, "what they hold", func() int64 { return h.stack.Held().Sent })
	freed, flows := h.gw.Shed(held / 4)
	if flows < 1 || flows > 4 || freed < held/4 {
		t.Errorf("%d flows with %d of %d bytes were ended", flows, freed, held)
	}
	for i := range flows {
		if r := h.record(i + 1); r.str("end") != string(reason.EndMemory) || r.str("client") == "" {
			t.Errorf("%v", r)
		} else if a := netip.MustParseAddrPort(r.str("client")).Addr(); a != client4 {
			t.Errorf("a flow of %s was ended", a)
		}
	}
	echo(t, good)
	// What was freed is more: relay buffers too.
	waitUntil(t, func() bool { return h.stack.Held().Sent <= held-int64(flows)*held/8/2 })
	// More than there is ends everything, and ends.
	if _, n := h.gw.Shed(1 << 40); n != 9-flows {
		t.Errorf("%d flows were ended, want the other %d", n, 9-flows)
	}
}

// Small clients are told from large ones; a client alone is not small.
func TestSmallClients(t *testing.T) {
	r := newRegistry()
	enter := func(a string, n int) {
		for range n {
			l := &Live{ID: r.nextID(), Client: netip.AddrPortFrom(netip.MustParseAddr(a), 1)}
			r.enter(l)
			t.Cleanup(func() { r.leave(l) })
		}
	}
	small := func(a string, less int) bool { return r.small(netip.MustParseAddr(a), less) }
	enter("192.0.2.1", 10)
	if small("192.0.2.1", 0) || !small("192.0.2.9", 0) {
		t.Error("alone")
	}
	enter("192.0.2.2", 2)
	enter("2001:db8::1", 1)
	enter("2001:db8::2", 2)
	for a, want := range map[string]bool{"192.0.2.1": false, "192.0.2.2": true, "2001:db8::77": false, "192.0.2.3": true} {
		if got := small(a, 0); got != want {
			t.Errorf("%s: %v", a, got)
		}
	}
	if !small("2001:db8::77", 1) {
		t.Error("a flow that is just being asked about counts")
	}
}
