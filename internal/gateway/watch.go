package gateway

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack"
)

const (
	// stallBytes is what a peer must take within limits.stall of the data that waits for it,
	// or all of it if that is less. With the default of one minute that is 273 bytes a second:
	// less than any line carries, but more than a peer takes that holds flows open on purpose.
	stallBytes = 16 << 10
	// stallLooks is how often a peer is checked within limits.stall. So a stalled peer may
	// hold a flow for up to half as long again.
	stallLooks = 4
)

// relayWatch ends a relay through which nothing moves: for limits.idle in both directions,
// for limits.half_closed once one side has closed, or for limits.stall while data waits for
// one side.
type relayWatch struct {
	r            *relay
	client, dest *stall

	keepAlive func() // of the destination, at the first look
	waited    bool   // at the last look

	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func newRelayWatch(r *relay, now time.Time) *relayWatch {
	w := &relayWatch{
		r:      r,
		client: newStall(r.clientProgress, now),
		dest:   newStall(r.destProgress, now),
	}
	w.keepAlive = r.keepAlive
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.next(r.idle), w.look)
	return w
}

// next is the time until the next look. left is the time until the relay is idle for too long.
func (w *relayWatch) next(left time.Duration) time.Duration {
	return max(min(left, w.r.stall/stallLooks, w.r.halfClosed), time.Millisecond)
}

func (w *relayWatch) look() {
	now := time.Now()
	if w.keepAlive != nil {
		w.keepAlive()
		w.keepAlive = nil
	}
	// While data waits, limits.stall applies and not limits.idle. A wait that has ended since
	// the last look counts as movement, so the quiet time is at most the time since then.
	waits := w.client.waits() || w.dest.waits()
	if waits || w.waited {
		w.r.last.Store(int64(now.Sub(w.r.began)))
	}
	w.waited = waits
	quiet := now.Sub(w.r.began) - w.r.quietSince(now.Sub(w.r.began))
	switch {
	case w.r.settling.Load(): // only data in transit is waited for
		quiet = 0
	case quiet >= w.r.idle:
		w.r.fail(reason.EndIdle)
		return
	case w.r.half.Load() && quiet >= w.r.halfClosed:
		w.r.fail(reason.EndHalfClosed)
		return
	}
	for _, side := range []struct {
		s             *stall
		stalled, lost reason.Code
	}{
		{w.client, reason.EndClientStalled, reason.EndClientLost},
		{w.dest, reason.EndDestinationStalled, reason.EndDestinationLost},
	} {
		switch alive, over := side.s.look(now, w.r.stall); {
		case over && alive:
			w.r.fail(side.stalled)
			return
		case over:
			w.r.fail(side.lost)
			return
		}
	}
	left := w.r.idle - quiet
	if w.r.half.Load() {
		left = min(left, w.r.halfClosed-quiet)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.stopped {
		w.timer.Reset(w.next(left))
	}
}

// stir notes that data moves.
func (r *relay) stir() { r.last.Store(int64(time.Since(r.began))) }

// quietSince is when data last moved. While a reader waits for memory it is now: then the
// gateway itself is what stops the data, not a peer. Both times count from the start of the
// relay.
func (r *relay) quietSince(now time.Duration) time.Duration {
	if r.waits.Load() > 0 {
		return now
	}
	return time.Duration(r.last.Load())
}

func (w *relayWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

// stall watches how one peer takes what is sent to it.
type stall struct {
	progress func() (stack.Progress, bool)
	since    time.Time      // of first
	first    stack.Progress // where the present wait began
}

// waits says whether data waits for the peer.
func (s *stall) waits() bool {
	if s.progress == nil {
		return false
	}
	p, ok := s.progress()
	return ok && p.Waiting > 0
}

func newStall(progress func() (stack.Progress, bool), now time.Time) *stall {
	return &stall{progress: progress, since: now}
}

// look says whether data has waited for longer than limit, and whether the peer seems alive.
// A wait ends, and the next one begins, when the peer has taken all data that waited at the
// beginning, or stallBytes.
func (s *stall) look(now time.Time, limit time.Duration) (alive, over bool) {
	if s.progress == nil {
		return false, false
	}
	p, ok := s.progress()
	if !ok {
		return false, false
	}
	due := min(s.first.Waiting, stallBytes)
	if s.first.Waiting == 0 || p.Waiting == 0 || p.Taken >= s.first.Taken+uint64(due) {
		s.first, s.since = p, now
		return false, false
	}
	// If nothing was sent, silence is no sign of death: into a window that is too small for
	// a segment nothing is sent.
	return p.Heard != s.first.Heard || p.Sent == s.first.Sent, now.Sub(s.since) >= limit
}

// progressOf returns a function that says how the peer of a connection takes its data; nil
// if that is unknown.
func progressOf(c any) func() (stack.Progress, bool) {
	switch c := c.(type) {
	case interface{ Progress() stack.Progress }:
		return func() (stack.Progress, bool) { return c.Progress(), true }
	case *net.TCPConn:
		return func() (stack.Progress, bool) { return kernelProgress(c) }
	}
	return nil
}

// kernelProgress asks the kernel about one of its sockets (tcp(7), TCP_INFO).
func kernelProgress(c *net.TCPConn) (p stack.Progress, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, false
	}
	var info *unix.TCPInfo
	var waiting int
	var failed error
	err = raw.Control(func(fd uintptr) {
		if info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); failed == nil {
			waiting, failed = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
		}
	})
	if err != nil || failed != nil {
		return p, false // closed
	}
	if info.State == unix.BPF_TCP_CLOSE {
		waiting = 0 // nothing waits any more: after a RST, SIOCOUTQ keeps its old value
	}
	// Segs_in also counts segments that are dropped as out of the window. That is fine: they
	// came from the peer as well.
	return stack.Progress{Waiting: waiting, Taken: info.Bytes_acked, Sent: uint64(info.Segs_out), Heard: uint64(info.Segs_in)}, true
}
