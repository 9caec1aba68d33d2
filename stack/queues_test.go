package stack_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/stack/stacktest"
	"github.com/sslgate/sslgate/tun/tuntest"
)

// newLabOf is newLab with a device of several queues.
func newLabOf(t testing.TB, queues int, offload bool, cfg stack.Config) *lab {
	t.Helper()
	near, far := tuntest.PairOf(queues, 1500, offload)
	cfg.Device = near
	return newLabOn(t, near, far, cfg)
}

// Flows use all queues, each its own, and what goes in comes out.
func TestQueues(t *testing.T) {
	testenv.Slow(t)
	for _, queues := range []int{2, 3} {
		for _, offload := range []bool{false, true} {
			for _, all := range []bool{false, true} {
				t.Run(fmt.Sprintf("%d/offload=%t/all=%t", queues, offload, all), func(t *testing.T) {
					const flows, each = 48, 300_000
					l := newLabOf(t, queues, offload, stack.Config{Handler: &handler{handle: echo}, AllPorts: all, HandshakeTimeout: patience})
					var wg sync.WaitGroup
					for i := range flows {
						wg.Go(func() {
							c, err := l.tryDial([]netip.AddrPort{server4, server6}[i%2], patience)
							if err != nil {
								t.Error(err)
								return
							}
							defer func() { _ = c.Close() }()
							if err := roundTrip(c, each, uint64(i)); err != nil {
								t.Error(err)
							}
						})
					}
					wg.Wait()
					if n := l.near.Moved(); n != 0 {
						t.Errorf("%d times a flow was written to another queue than before", n)
					}
					st := l.stack.Stats()
					var sum uint64
					for i, n := range st.QueuePackets {
						sum += n
						if n < st.PacketsIn/uint64(4*queues) {
							t.Errorf("queue %d has %d packets of %d", i, n, st.PacketsIn)
						}
					}
					if len(st.QueuePackets) != queues || st.Bad.Total() != 0 || st.FlowsAccepted != flows {
						t.Errorf("stats: %+v", st)
					}
					if err := l.stop(); err != nil { // none is under way any more
						t.Error(err)
					}
					if st := l.stack.Stats(); st.PacketsIn != sumOf(st.QueuePackets) {
						t.Errorf("stats: %+v", st)
					}
				})
			}
		}
	}
}

func sumOf(ns []uint64) (sum uint64) {
	for _, n := range ns {
		sum += n
	}
	return sum
}

// The fragments of one packet come by different queues. A kernel puts them into one
// queue, because without ports they have one hash.
func TestQueuesOfFragments(t *testing.T) {
	testenv.Slow(t)
	for _, dst := range []netip.AddrPort{server4, server6} {
		l := newLabOf(t, 2, false, stack.Config{Handler: &handler{handle: echo}})
		var id, cut atomic.Uint32
		l.far.SetFilter(func(pkt []byte) bool {
			frags := stacktest.Fragments(pkt[stack.VirtioHeaderLen:], id.Add(1), 400)
			if len(frags) == 1 {
				return true
			}
			cut.Add(1)
			for i, f := range frags {
				l.near.InjectQueue(i%2, f)
			}
			return false
		})
		// At most as many packets at a time as one client may have incomplete.
		for i := range uint64(30) {
			c := l.dial(dst)
			if err := roundTrip(c, 8_000, i); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		}
		l.eventually("all put together", func() bool { return l.stack.Stats().Reassembled == uint64(cut.Load()) })
		if st := l.stack.Stats(); st.Bad.Total() != 0 || st.FragmentPackets != 0 || st.FragmentBytes != 0 || st.FragmentsTimedOut+st.FragmentsEvicted != 0 {
			t.Errorf("stats: %+v", st)
		}
	}
}

// Under a flood by all queues, with cookies, clients and their data get in.
func TestQueuesUnderFlood(t *testing.T) {
	l := newLabOf(t, 2, false, stack.Config{Handler: &handler{handle: echo}, MaxHalfOpen: 64})
	var wg sync.WaitGroup
	wg.Go(func() { l.flood(2000, server4) })
	for i := range uint64(4) {
		wg.Go(func() {
			for range 10 {
				c, err := l.tryDial(server4, patience)
				if err != nil {
					t.Error(err)
					return
				}
				if err := roundTrip(c, 10_000, i); err != nil {
					t.Error(err)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	if st := l.stack.Stats(); st.SYNCookiesSent == 0 || st.FlowsAccepted < 40 || st.Bad.Total() != 0 {
		t.Errorf("stats: %+v", st)
	}
}

var errBroken = errors.New("broken")

// breaking is a device one queue of which fails at its next packet.
type breaking struct {
	*tuntest.Device
	queue   int
	broken  atomic.Bool
	reading atomic.Int32 // calls of ReadQueue under way
}

func (b *breaking) ReadQueue(n int, bufs [][][]byte, sizes []int) (int, error) {
	b.reading.Add(1)
	defer b.reading.Add(-1)
	got, err := b.Device.ReadQueue(n, bufs, sizes)
	if n == b.queue && b.broken.Load() {
		return 0, errBroken
	}
	return got, err
}

// The first queue that fails ends Run with its error, the live flows and the
// readers of the other queues.
func TestQueueFails(t *testing.T) {
	for _, queue := range []int{0, 2} {
		near, far := tuntest.PairOf(3, 1500, true)
		dev := &breaking{Device: near, queue: queue}
		h, flows := given()
		l := newLabOn(t, near, far, stack.Config{Device: dev, Handler: h})
		l.dial(server4)
		f := get(t, flows)
		dev.broken.Store(true)
		near.InjectQueue(queue, []byte{0x45})
		select {
		case err := <-l.ran:
			if !errors.Is(err, errBroken) {
				t.Errorf("Run: %v", err)
			}
			l.ran = nil
		case <-time.After(patience):
			t.Fatal("Run does not return")
		}
		if _, err := f.Conn.Read(make([]byte, 1)); err == nil {
			t.Error("the flow lives")
		}
		if n := dev.reading.Load(); n != 0 {
			t.Errorf("%d queues are still read", n)
		}
	}
}
