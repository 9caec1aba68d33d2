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
	// A cookie is good for more than one connection: where a client's segments
	// waited behind the flood until its flow was over, one of them may have
	// made another flow, as with any stack's cookies.
	if st.SYNCookiesSent == 0 || st.FlowsAccepted < clients {
		t.Errorf("stats: %+v", st)
	}
	// And one that comes when the table is full for certain.
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
			const halfOpen = 16
			l := newLab(t, 1500, false, stack.Config{
				Handler: &handler{handle: echo}, AllPorts: all, MaxHalfOpen: halfOpen, HandshakeTimeout: 500 * time.Millisecond,
			})
			l.flood(3*halfOpen, server4)
			l.eventually("handshakes timed out", func() bool { return l.stack.Stats().HandshakesTimedOut == halfOpen })
			st := l.stack.Stats()
			if all && st.SYNOverflow != 2*halfOpen {
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
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %v", d)
			}
		})
	}
}
