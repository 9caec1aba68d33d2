package stack_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/stack"
)

// flood sends n SYNs from addresses that nobody has.
func (l *lab) flood(n int, dst netip.AddrPort) {
	r := rand.New(rand.NewPCG(3, 4))
	for i := range n {
		src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 16 + byte(i>>16), byte(i >> 8), byte(i)}), uint16(1024+r.IntN(60000)))
		l.near.Inject(seg{src: src, dst: dst, seq: r.Uint32(), flags: syn, opts: []byte{2, 4, 5, 0xb4}}.ip())
	}
}

// Under a flood of spoofed SYNs clients still get in: by cookies.
func TestSYNFlood(t *testing.T) {
	const spoofed, clients = 5000, 100
	l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}, MaxHalfOpen: 256})
	var wg sync.WaitGroup
	wg.Go(func() { l.flood(spoofed, server4) })
	for w := range 4 {
		wg.Go(func() {
			for range clients / 4 {
				c, err := l.tryDial(server4, patience)
				if err != nil {
					t.Error(err)
					return
				}
				if err := roundTrip(c, 10_000, uint64(w)); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	l.eventually("all SYNs seen", func() bool { return l.stack.Stats().SYNPassed >= spoofed+clients })
	st := l.stack.Stats()
	// A cookie is good for more than one connection. If a client's segments waited behind
	// the flood until its flow was over, one of them may have made another flow, as with
	// any stack's cookies.
	if st.SYNCookiesSent == 0 || st.FlowsAccepted < clients {
		t.Errorf("stats: %+v", st)
	}
	// And a client that comes when the table is certainly full.
	c, err := l.tryDial(server4, patience)
	if err != nil {
		t.Fatal(err)
	}
	if err := roundTrip(c, 1<<20, 9); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	if after := l.stack.Stats(); after.SYNCookiesAccepted == 0 {
		t.Errorf("stats: %+v", after)
	}
}

// Handshakes that are never completed end after HandshakeTimeout, and leave
// room for others: with listeners and without.
func TestHandshakeTimeout(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("AllPorts=%t", all), func(t *testing.T) {
			t.Parallel()
			const halfOpen = 16
			l := newLab(t, 1500, false, stack.Config{
				Handler: &handler{handle: echo}, AllPorts: all, MaxHalfOpen: halfOpen,
				HandshakeTimeout: 3 * time.Second, // none ends before all have come
			})
			l.flood(3*halfOpen, server4)
			l.eventually("handshakes timed out", func() bool { return l.stack.Stats().HandshakesTimedOut == halfOpen })
			st := l.stack.Stats()
			if all && st.SYNOverflow+st.HandshakesEvicted != 2*halfOpen {
				t.Errorf("stats: %+v", st)
			}
			if !all && st.SYNCookiesSent != 2*halfOpen {
				t.Errorf("stats: %+v", st)
			}
			c := l.dial(server4)
			if err := roundTrip(c, 10_000, 1); err != nil {
				t.Error(err)
			}
			if again := l.stack.Stats(); again.SYNCookiesSent != st.SYNCookiesSent {
				t.Errorf("still cookies: %+v", again)
			}
		})
	}
}

// Run does not wait for handshakes under way.
func TestRunEndsHandshakes(t *testing.T) {
	for _, all := range []bool{false, true} {
		t.Run(fmt.Sprintf("AllPorts=%t", all), func(t *testing.T) {
			l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}, AllPorts: all, HandshakeTimeout: time.Hour})
			l.flood(100, server4)
			l.eventually("SYNs seen", func() bool { return l.stack.Stats().SYNPassed == 100 })
			start := time.Now()
			if err := l.stop(); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(start); d > patience {
				t.Errorf("took %v", d)
			}
		})
	}
}

// With all ports, other clients still complete handshakes during floods: from one
// address, from one /64 with an address for each SYN, from an address for each SYN, and
// from one that repeats its SYNs.
func TestAllPortsSYNFlood(t *testing.T) {
	const halfOpen = 64
	one := netip.MustParseAddr("172.16.0.9")
	for _, c := range []struct {
		name string
		src  func(i int) netip.Addr
		dst  func(i int) netip.AddrPort
	}{
		{"one address", func(int) netip.Addr { return one }, func(int) netip.AddrPort { return server4 }},
		{"one address, every port", func(int) netip.Addr { return one }, func(i int) netip.AddrPort {
			return netip.AddrPortFrom(server4.Addr(), uint16(1+i%60000))
		}},
		{"one /64", func(i int) netip.Addr {
			return netip.AddrFrom16([16]byte{0x20, 1, 0x0d, 0xb8, 0, 9, 0, 1, 9, 9, 9, 9, 9, byte(i >> 16), byte(i >> 8), byte(i)})
		}, func(int) netip.AddrPort { return server6 }},
		{"an address for each SYN", func(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 17 + byte(i>>16), byte(i >> 8), byte(i)}) },
			func(int) netip.AddrPort { return server4 }},
		{"twice each", func(i int) netip.Addr { return one }, func(i int) netip.AddrPort { return server4 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, 1500, false, stack.Config{Handler: &handler{handle: echo}, AllPorts: true, MaxHalfOpen: halfOpen, HandshakeTimeout: time.Hour})
			syn := func(i int) {
				l.near.Inject(seg{src: netip.AddrPortFrom(c.src(i), uint16(1024+i%60000)), dst: c.dst(i), seq: uint32(i), flags: syn, opts: []byte{2, 4, 5, 0xb4}}.ip())
			}
			sent := 0
			more := func(n int) {
				for range n {
					syn(sent)
					sent++
				}
			}
			more(3 * halfOpen)
			l.eventually("the table is full", func() bool { st := l.stack.Stats(); return st.HandshakesEvicted+st.SYNOverflow >= 2*halfOpen })
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() { // goes on while clients come
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
						more(2)
					}
				}
			})
			defer func() { close(stop); wg.Wait() }()
			for i := range 5 {
				dst := server4
				if i%2 == 1 {
					dst = server6
				}
				start := time.Now()
				conn, err := l.tryDial(dst, patience)
				if err != nil {
					t.Fatalf("client %d: %v, %+v", i, err, l.stack.Stats())
				}
				if err := roundTrip(conn, 10_000, uint64(i)); err != nil {
					t.Error(err)
				}
				// A SYN that was dropped would be sent again after a second.
				t.Logf("client %d after %v", i, time.Since(start))
				_ = conn.Close()
			}
			if st := l.stack.Stats(); st.HandshakesEvicted == 0 {
				t.Errorf("nothing was evicted: %+v", st)
			}
		})
	}
}
