package stack

import (
	"fmt"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// listener takes the connections to one port at any address, IPv4 and IPv6.
type listener struct {
	ep tcpip.Endpoint
	wq waiter.Queue
}

// listen opens a listener. When backlog handshakes are under way, SYNs are
// answered with cookies.
func listen(ns *gstack.Stack, port uint16, backlog int) (*listener, error) {
	l := new(listener)
	ep, terr := ns.NewEndpoint(tcp.ProtocolNumber, ipv6.ProtocolNumber, &l.wq)
	if terr != nil {
		return nil, fmt.Errorf("listen on port %d: %s", port, terr)
	}
	ep.SocketOptions().SetV6Only(false)
	if terr = ep.Bind(tcpip.FullAddress{NIC: nicID, Port: port}); terr == nil {
		// Netstack starts with cookies one handshake before its backlog is full.
		terr = ep.Listen(backlog + 1)
	}
	if terr != nil {
		ep.Close()
		return nil, fmt.Errorf("listen on port %d: %s", port, terr)
	}
	l.ep = ep
	return l, nil
}

// serve hands accepted connections to accept until stop is closed. Connections that have
// not been accepted by then are reset.
func (l *listener) serve(stop <-chan struct{}, accept func(tcpip.Endpoint, *waiter.Queue)) {
	entry, ready := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	l.wq.EventRegister(&entry)
	defer l.wq.EventUnregister(&entry)
	defer l.ep.Close()
	for {
		select {
		case <-stop:
			return
		default:
		}
		ep, wq, terr := l.ep.Accept(nil)
		switch terr.(type) {
		case nil:
			accept(ep, wq)
		case *tcpip.ErrWouldBlock:
			select {
			case <-ready:
			case <-stop:
			}
		default:
			return // no longer listening
		}
	}
}

// accept makes a flow of an established connection and starts its handler. The goroutines
// that call it are ones that Run waits for.
func (s *Stack) accept(ep tcpip.Endpoint, wq *waiter.Queue) {
	src, dst, ok := addresses(ep)
	if !ok { // netstack has no addresses for it: never seen to happen
		ep.Abort()
		ep.Close()
		return
	}
	c := newConn(ep, wq, src, dst, s.flows.ended)
	c.takeSendBuffer(s.paced.Load())
	if err := setConnOptions(ep, s.cfg); err != nil {
		s.cfg.Log.Warn("connection options not set", zap.Error(err))
	}
	if s.draining.Load() || !s.flows.add(c) {
		c.Reset()
		return
	}
	s.early.release(synTuple{src, dst})
	f := &Flow{Src: src, Dst: dst, At: time.Now(), Conn: c, helpers: &s.helpers}
	s.handlers.Go(func() { s.handle(f) })
}

func (s *Stack) handle(f *Flow) {
	defer f.Conn.Reset()
	s.cfg.Handler.HandleFlow(s.flowCtx, f)
}

// addresses returns the addresses of the client and of the destination it meant. It also
// works if the client has reset the connection already: the connection was established,
// so it gets its record like any other.
func addresses(ep tcpip.Endpoint) (src, dst netip.AddrPort, ok bool) {
	info, ok := ep.Info().(*gstack.TransportEndpointInfo)
	if !ok {
		return src, dst, false
	}
	src, okSrc := addrPort(tcpip.FullAddress{Addr: info.ID.RemoteAddress, Port: info.ID.RemotePort})
	dst, okDst := addrPort(tcpip.FullAddress{Addr: info.ID.LocalAddress, Port: info.ID.LocalPort})
	return src, dst, okSrc && okDst
}

func addrPort(a tcpip.FullAddress) (netip.AddrPort, bool) {
	ip, ok := netip.AddrFromSlice(a.Addr.AsSlice())
	return netip.AddrPortFrom(ip.Unmap(), a.Port), ok
}
