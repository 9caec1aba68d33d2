package stack

import (
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// halfOpenMax bounds the SYNs whose handshake is watched: about 6 MiB when
// full. The handshake of an unwatched one ends by itself, after 127 s.
const halfOpenMax = 1 << 16

// halfOpen remembers the SYNs that netstack was given, to end the handshakes
// that take too long. Netstack itself sends SYN-ACKs for 127 s, and as long as
// a port's half-open handshakes are at their maximum every client of the port
// gets a cookie and with it a connection without window scaling.
type halfOpen struct {
	timeout time.Duration

	mu    sync.Mutex
	queue []pendingSYN // oldest first
}

type pendingSYN struct {
	src, dst netip.AddrPort
	at       time.Time
}

func (h *halfOpen) add(src, dst netip.AddrPort, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.queue) < halfOpenMax {
		h.queue = append(h.queue, pendingSYN{src, dst, at})
	}
}

// due takes out the SYNs whose time is up.
func (h *halfOpen) due(now time.Time) []pendingSYN {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.queue) && now.Sub(h.queue[n].at) >= h.timeout {
		n++
	}
	out := h.queue[:n:n]
	h.queue = h.queue[n:]
	if len(h.queue) == 0 {
		h.queue = nil
	}
	return out
}

// sweep ends the handshakes whose time is up and returns how many those were.
func (h *halfOpen) sweep(ns *gstack.Stack, now time.Time) int {
	ended := 0
	for _, p := range h.due(now) {
		proto := header.IPv4ProtocolNumber
		if p.src.Addr().Is6() {
			proto = header.IPv6ProtocolNumber
		}
		ep, ok := ns.FindTransportEndpoint(proto, tcp.ProtocolNumber, gstack.TransportEndpointID{
			LocalAddress: tcpip.AddrFromSlice(p.dst.Addr().AsSlice()), LocalPort: p.dst.Port(),
			RemoteAddress: tcpip.AddrFromSlice(p.src.Addr().AsSlice()), RemotePort: p.src.Port(),
		}, nicID).(*tcp.Endpoint)
		// The search also finds the listener, and the connection itself once
		// the handshake is complete.
		if ok && ep.EndpointState() == tcp.StateSynRecv {
			ep.Abort()
			ended++
		}
	}
	return ended
}
