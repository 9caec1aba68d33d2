package stack_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
)

// lossy returns a filter that loses a part of the packets at random, always the same ones.
func lossy(part float64, seed uint64) func([]byte) bool {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test that can be repeated
	return func([]byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return r.Float64() >= part
	}
}

// losesToo returns a filter that loses the n-th packet with data too.
func losesToo(n int64, filter func([]byte) bool) func([]byte) bool {
	var data atomic.Int64
	return func(pkt []byte) bool {
		if wire(pkt) > 1000 && data.Add(1) == n {
			return false
		}
		return filter(pkt)
	}
}

// nothingKept waits until the sender has given everything back.
func (l *lab) nothingKept() {
	l.t.Helper()
	l.eventually("nothing kept", func() bool {
		st := l.stack.Stats()
		return st.PacedPackets == 0 && st.PacedFlows == 0
	})
}

// The paced sender brings all bytes over a path that loses packets in both directions, and
// keeps nothing.
func TestPacedLoss(t *testing.T) {
	for _, offload := range []bool{false, true} {
		for _, dst := range []netip.AddrPort{server4, server6} {
			t.Run(fmt.Sprintf("offload=%t/%v", offload, dst.Addr()), func(t *testing.T) {
				h, flows := given()
				l := newLab(t, 1500, offload, stack.Config{Handler: h, Paced: true})
				c := l.dial(dst)
				f := get(t, flows)
				// With offload there are few packets, and the part may lose none of them.
				l.near.SetFilter(losesToo(5, lossy(0.03, 1)))
				l.far.SetFilter(lossy(0.03, 2))
				const size = 4 << 20
				done := make(chan error, 1)
				var sum [32]byte
				go func() {
					var err error
					sum, err = pump(f.Conn, size, 6)
					done <- err
				}()
				got, n, err := drain(c)
				if err != nil || n != size {
					t.Fatalf("read %d bytes, %v (%+v)", n, err, l.stack.Stats())
				}
				if err := testenv.Receive(t, "the end of the sender", done); err != nil || got != sum {
					t.Fatalf("other bytes, %v", err)
				}
				l.near.SetFilter(nil)
				l.far.SetFilter(nil)
				st := l.stack.Stats()
				if st.Retransmits == 0 {
					t.Errorf("nothing was sent again: %+v", st)
				}
				// A segment is sent again because it, or the answer to it, was lost. When this
				// machine stands still, all that is under way is taken as lost.
				const segments = size / 1448
				if most := segments/2 + st.Timeouts*segments; st.Retransmits > most {
					t.Errorf("%d segments were sent again after %d timeouts, more than %d", st.Retransmits, st.Timeouts, most)
				}
				f.Conn.Reset()
				l.nothingKept()
			})
		}
	}
}

// Without loss nothing is sent again.
func TestPacedWithoutLoss(t *testing.T) {
	l := newLab(t, 1500, true, stack.Config{Handler: &handler{handle: echo}, Paced: true})
	c := l.dial(server4)
	if err := roundTrip(c, 4<<20, 3); err != nil {
		t.Fatal(err)
	}
	if st := l.stack.Stats(); st.PacedRefused != 0 {
		t.Errorf("acknowledgements were refused: %+v", st)
	}
	l.nothingKept()
}

// The path carries less than before: what is under way is cut and sent again.
func TestPacedNarrowHop(t *testing.T) {
	const hopMTU, size = 1400, 1 << 20
	for _, offload := range []bool{false, true} {
		t.Run(fmt.Sprintf("offload=%t", offload), func(t *testing.T) {
			h, flows := given()
			l := newLab(t, 1500, offload, stack.Config{Handler: h, Paced: true})
			var tooBigs atomic.Int64
			l.near.SetFilter(func(pkt []byte) bool {
				if wire(pkt) <= hopMTU {
					return true
				}
				tooBigs.Add(1)
				l.near.Inject(tooBig(netip.MustParseAddr("10.9.9.9"), pkt[stack.VirtioHeaderLen:], hopMTU))
				return false
			})
			c := l.dial(server4)
			f := get(t, flows)
			done := make(chan error, 1)
			var sum [32]byte
			go func() {
				var err error
				sum, err = pump(f.Conn, size, 6)
				done <- err
			}()
			got, n, err := drain(c)
			if err != nil || n != size {
				t.Fatalf("read %d bytes, %v", n, err)
			}
			if err := testenv.Receive(t, "the end of the sender", done); err != nil || got != sum {
				t.Fatalf("other bytes, %v", err)
			}
			if tooBigs.Load() == 0 {
				t.Error("no packet was too big")
			}
		})
	}
}

// What waits to be sent to a client that no longer reads is as much as its path needs, not
// as much as Config allows.
func TestPacedSendBuffer(t *testing.T) {
	h, flows := given()
	l := newLab(t, 1500, true, stack.Config{Handler: h, Paced: true, SendMax: 128 << 20})
	c := l.dial(server4)
	f := get(t, flows)
	// Netstack's congestion window grows with all that is sent.
	const size = 48 << 20
	done := make(chan error, 1)
	go func() {
		_, err := f.Conn.Write(make([]byte, size))
		done <- err
	}()
	if _, err := io.CopyN(io.Discard, c, size); err != nil {
		t.Fatal(err)
	}
	if err := testenv.Receive(t, "the end of the sender", done); err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 4<<20)
	for n, err := 1, error(nil); n > 0; { // until nothing more fits
		_ = f.Conn.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		if n, err = f.Conn.Write(part); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	_, sent := f.Conn.Held()
	t.Logf("%d bytes wait", sent)
	if sent > 40<<20 {
		t.Errorf("%d bytes wait for a client that does not read", sent)
	}
	f.Conn.Reset()
	l.nothingKept()
}
