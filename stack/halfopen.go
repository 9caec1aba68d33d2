package stack

import (
	"net/netip"
	"sync"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// halfOpenMax bounds the SYNs whose handshake is watched: about 16 MiB when full. At the
// bound the oldest is removed and its handshake ended: if left unwatched, it would end
// after 127 s.
const halfOpenMax = 1 << 16

// halfOpen remembers the SYNs that netstack was given, to end handshakes that take too
// long. Netstack itself sends SYN-ACKs for 127 s. While a port's half-open handshakes are
// at their maximum, every client of the port gets a cookie, and so a connection without
// window scaling.
type halfOpen struct {
	timeout time.Duration
	end     func(synTuple) bool // ends a handshake; false: there was none to end

	mu    sync.Mutex
	early int                  // handshakes ended at halfOpenMax since the last sweep
	queue []pendingSYN         // oldest first
	last  map[synTuple]lastSYN // for each tuple, its newest SYN in queue
}

type synTuple struct{ src, dst netip.AddrPort }

type pendingSYN struct {
	synTuple
	at time.Time
}

type lastSYN struct {
	seq uint32
	at  time.Time
}

func newHalfOpen(timeout time.Duration) *halfOpen {
	return &halfOpen{timeout: timeout, last: make(map[synTuple]lastSYN)}
}

// attach must be called before every other method.
func (h *halfOpen) attach(ns *gstack.Stack) {
	h.end = func(t synTuple) bool { return endHandshake(ns, t) }
}

// add records a SYN before netstack gets it. A retransmitted SYN does not begin a new
// handshake.
func (h *halfOpen) add(s segment, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := synTuple{s.src, s.dst}
	if l, known := h.last[t]; known && l.seq == s.seq {
		return
	}
	if len(h.queue) >= halfOpenMax && h.oldest() {
		h.early++
	}
	h.queue = append(h.queue, pendingSYN{t, at})
	h.last[t] = lastSYN{s.seq, at}
}

// sweep ends the handshakes whose time is up. It returns how many were ended since its
// last call. It holds the lock around each end, so that a SYN of the same tuple reaches
// netstack either before end was called or after end has returned.
func (h *halfOpen) sweep(now time.Time) int {
	ended := 0
	for {
		more := func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			ended += h.early
			h.early = 0
			if len(h.queue) == 0 || now.Sub(h.queue[0].at) < h.timeout {
				return false
			}
			if h.oldest() {
				ended++
			}
			return true
		}()
		if !more {
			return ended
		}
	}
}

// oldest takes the oldest SYN out and ends its handshake, unless the tuple has been used
// again meanwhile: then the tuple's handshake is a younger one. It says whether it ended
// one.
func (h *halfOpen) oldest() bool {
	p := h.queue[0]
	if h.queue = h.queue[1:]; len(h.queue) == 0 {
		h.queue = nil
	}
	if h.last[p.synTuple].at != p.at {
		return false
	}
	delete(h.last, p.synTuple)
	return h.end(p.synTuple)
}

// endHandshake ends the handshake of the tuple. It returns false if the tuple has none:
// the handshake has succeeded or failed already, or the SYN was answered with a cookie.
func endHandshake(ns *gstack.Stack, t synTuple) bool {
	ep, ok := ns.FindTransportEndpoint(t.proto(), tcp.ProtocolNumber, t.id(), nicID).(*tcp.Endpoint)
	// The search also finds the listener, and the connection itself once the
	// handshake is complete.
	if !ok || ep.EndpointState() != tcp.StateSynRecv {
		return false
	}
	ep.Abort()
	return true
}
