package stack

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// leastBuffer is the least that SetBufferRoom leaves each flow and direction, in bytes:
// one TLS record (RFC 8446, section 5.2). With less, one record takes several round
// trips.
const leastBuffer = 16 << 10

// SetBufferRoom limits the socket buffers of all flows together to about room bytes, in
// equal shares, from now on; 0 restores the bounds of Config. A window that the client
// was told of stays open, so data that it already may send can still come. Once the bound
// is raised, buffers grow again by themselves as they are used.
func (s *Stack) SetBufferRoom(room int64) {
	ns := s.netstack.Load()
	if ns == nil {
		return // not running yet
	}
	conns := s.flows.all()
	receive, send := int64(s.cfg.ReceiveMax), int64(s.cfg.SendMax)
	if room > 0 {
		share := max(room/2/int64(len(conns)+1), leastBuffer)
		receive, send = min(receive, share), min(send, share)
	}
	s.setBufferMax(ns, int(receive), int(send))
	for _, c := range conns {
		so := c.ep.SocketOptions()
		// Without notification: after a notification netstack would never let the buffer
		// grow again.
		if so.GetReceiveBufferSize() > receive {
			so.SetReceiveBufferSize(receive, false)
		}
		if so.GetSendBufferSize() > send {
			so.SetSendBufferSize(send, false)
		}
	}
}

// setBufferMax changes the initial buffer size of new flows and the maximum of all flows.
func (s *Stack) setBufferMax(ns *gstack.Stack, receive, send int) {
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: min(s.cfg.BufferSize, receive), Max: receive}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: min(s.cfg.BufferSize, send), Max: send}
	// Neither call fails if the range is valid, as these are.
	_ = ns.SetTransportProtocolOption(tcp.ProtocolNumber, &rcv)
	_ = ns.SetTransportProtocolOption(tcp.ProtocolNumber, &snd)
}

// DropLingering resets the closed flows that still deliver their last bytes, for when
// memory runs out. It returns how many bytes they held and how many flows it reset.
func (s *Stack) DropLingering() (bytes int64, flows int) {
	conns := s.flows.forgetClosing()
	for _, c := range conns {
		bytes += int64(sendQueue(c.ep))
		abort(c)
	}
	return bytes, len(conns)
}

// closing returns the closed connections that still deliver.
func (f *flows) closing() []*Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closingLocked()
}

// forgetClosing returns the closed connections that still deliver, and forgets them.
func (f *flows) forgetClosing() []*Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	cs := f.closingLocked()
	f.lingering = nil
	return cs
}

func (f *flows) closingLocked() []*Conn {
	cs := make([]*Conn, 0, len(f.lingering))
	for _, l := range f.lingering {
		cs = append(cs, l.conn)
	}
	return cs
}
