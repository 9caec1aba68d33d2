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
	// stallBytes is what a peer must take of the data that waits for it within
	// limits.stall, or all of it where that is less. With the default of one
	// minute these are 273 bytes a second: less than any line, and more than
	// what it takes to hold a flow open on purpose.
	stallBytes = 16 << 10
	// stallLooks is how often a peer is looked at within limits.stall; so it
	// may hold a flow up to half as long again.
	stallLooks = 4
)

// relayWatch ends a relay that nothing goes through: for limits.idle either
// way, for limits.half_closed once one side has closed, for limits.stall
// although data waits for one side.
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

// next is when to look again: left is when the relay is idle for too long.
func (w *relayWatch) next(left time.Duration) time.Duration {
	return max(min(left, w.r.stall/stallLooks, w.r.halfClosed), time.Millisecond)
}

func (w *relayWatch) look() {
	now := time.Now()
	if w.keepAlive != nil {
		w.keepAlive()
		w.keepAlive = nil
	}
	// While data waits, that is for limits.stall. When a wait has ended since the last
	// look, nothing has been quiet for longer than that.
	waits := w.client.waits() || w.dest.waits()
	if waits || w.waited {
		w.r.last.Store(int64(now.Sub(w.r.began)))
	}
	w.waited = waits
	quiet := now.Sub(w.r.began) - w.r.quietSince(now.Sub(w.r.began))
	switch {
	case w.r.settling.Load(): // only what is on its way is waited for
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

// stir notes that something moves.
func (r *relay) stir() { r.last.Store(int64(time.Since(r.began))) }

// quietSince is when something last moved, and now where a reader waits for
// memory: that nothing moves is the gateway's doing then, and no peer's. Both are
// times since the relay began.
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

// look says whether data has waited for longer than limit, and if so whether
// the peer is alive for all that is known. A wait ends, and the next one begins,
// when the peer has taken all that waited when it began, or stallBytes.
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
	// Not to answer what nobody asked is no sign of death: into a window that
	// is too small for a segment nothing is sent.
	return p.Heard != s.first.Heard || p.Sent == s.first.Sent, now.Sub(s.since) >= limit
}

// progressOf says how the peer of a connection takes its data; nil where
// nobody knows.
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
		waiting = 0 // for nobody: SIOCOUTQ stays what it was before the RST
	}
	// Segs_in counts what is dropped as out of the window too; all of it is
	// the peer's.
	return stack.Progress{Waiting: waiting, Taken: info.Bytes_acked, Sent: uint64(info.Segs_out), Heard: uint64(info.Segs_in)}, true
}
