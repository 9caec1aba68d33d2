package stack

import (
	"net/netip"
	"sync"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// halfOpenMax bounds the SYNs whose handshake is watched: about 16 MiB when
// full. The handshake of an unwatched one ends by itself, after 127 s.
const halfOpenMax = 1 << 16

// halfOpen remembers the SYNs that netstack was given, to end the handshakes
// that take too long. Netstack itself sends SYN-ACKs for 127 s, and as long as
// a port's half-open handshakes are at their maximum every client of the port
// gets a cookie and with it a connection without window scaling.
type halfOpen struct {
	timeout time.Duration

	mu    sync.Mutex
	queue []pendingSYN         // oldest first
	last  map[synTuple]lastSYN // the newest in queue of each tuple
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

// add is told of a SYN before netstack gets it. One that was sent again does
// not begin a new handshake.
func (h *halfOpen) add(s segment, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t := synTuple{s.src, s.dst}
	if l, known := h.last[t]; known && l.seq == s.seq || len(h.queue) >= halfOpenMax {
		return
	}
	h.queue = append(h.queue, pendingSYN{t, at})
	h.last[t] = lastSYN{s.seq, at}
}

// sweep ends the handshakes whose time is up and returns how many those were.
func (h *halfOpen) sweep(ns *gstack.Stack, now time.Time) int {
	return h.due(now, func(t synTuple) bool { return endHandshake(ns, t) })
}

// due calls end for the SYNs whose time is up and returns how often that was
// true. A tuple that has been used again meanwhile is left alone: its
// handshake is a younger one. The lock is held around end, so that such a SYN
// gets to netstack either before end was asked or after it has returned.
func (h *halfOpen) due(now time.Time, end func(synTuple) bool) int {
	ended := 0
	for {
		more := func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.queue) == 0 || now.Sub(h.queue[0].at) < h.timeout {
				return false
			}
			p := h.queue[0]
			if h.queue = h.queue[1:]; len(h.queue) == 0 {
				h.queue = nil
			}
			if h.last[p.synTuple].at == p.at {
				delete(h.last, p.synTuple)
				if end(p.synTuple) {
					ended++
				}
			}
			return true
		}()
		if !more {
			return ended
		}
	}
}

// endHandshake ends the handshake of the tuple; false if it has none, because
// it is over in either way, or was answered with a cookie.
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
