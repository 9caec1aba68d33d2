package stack

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/sslgate/sslgate/stack/sender"
)

// This file is what package sender needs of netstack.

// startPaced starts the sender of package sender, if it was asked for. The function it
// returns ends it; then nothing is sent any more.
func (s *Stack) startPaced(l *link) (end func()) {
	if !s.cfg.Paced {
		return func() {}
	}
	tuple := func(t sender.Tuple) synTuple { return synTuple{t.Client, t.Dest} }
	l.paced = sender.New(sender.Config{
		Device: l, Offload: l.offload, MaxWindow: s.cfg.ReceiveMax,
		Unheard: func(t sender.Tuple, una uint32, window uint16) { s.tellAgain(l, tuple(t), una, window) },
		Alive:   func(t sender.Tuple) bool { return known(s.netstack.Load(), tuple(t)) },
	})
	s.paced.Store(l.paced)
	var wg sync.WaitGroup
	wg.Go(l.paced.Run)
	return func() {
		l.paced.Close()
		wg.Wait()
	}
}

// firstRoom is the send buffer in bytes that a flow may use at once, pacedRoom what it may use
// whatever its path, once the client has taken half as much: twice Linux's default maximum
// (tcp_wmem).
const (
	firstRoom = 1 << 20
	pacedRoom = 8 << 20
)

// takeSendBuffer ends netstack's own tuning of the send buffer. It goes by its congestion
// window, which knows no loss here and grows with all that was sent: each slow download
// would soon hold the most that Config allows.
func (c *Conn) takeSendBuffer(p *sender.Sender) {
	if c.paced = p; p != nil {
		so := c.ep.SocketOptions()
		so.SetSendBufferSize(so.GetSendBufferSize(), true)
	}
}

// fitSendBuffer fits the send buffer to the path of the flow, and to what the client takes.
func (c *Conn) fitSendBuffer() {
	if c.paced == nil {
		return
	}
	room := int64(c.paced.Room(sender.Tuple{Client: c.src, Dest: c.dst}))
	acked, _ := c.Acked()
	so := c.ep.SocketOptions()
	now := so.GetSendBufferSize()
	_, most := so.SendBufferLimits()
	want := min(max(room, firstRoom, min(int64(2*acked), pacedRoom)), most)
	if want <= now && want >= now/2 || want > now && want < now+now/4 && want < most {
		return
	}
	so.SetSendBufferSize(want, true)
	if _, most := so.SendBufferLimits(); want > most { // memory ran short meanwhile
		so.SetSendBufferSize(most, false)
	}
}

// These are the receiver in a tcp.Endpoint, and in it the next sequence number that it wants.
const (
	receiverField = "rcv"
	wantedField   = "RcvNxt"
)

// checkReceiver returns an error for a netstack version without the fields.
func checkReceiver() error {
	rcv, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName(receiverField)
	if ok && rcv.Type.Kind() == reflect.Pointer && rcv.Type.Elem().Kind() == reflect.Struct {
		if f, ok := rcv.Type.Elem().FieldByName(wantedField); ok && f.Type.Kind() == reflect.Uint32 {
			return nil
		}
	}
	return fmt.Errorf("this netstack has no %s.%s: another version of it needs another way to read what it wants next", receiverField, wantedField)
}

// wanted is the next sequence number that an endpoint wants from the client.
func wanted(ep *tcp.Endpoint) (seq uint32, ok bool) {
	ep.LockUser()
	defer ep.UnlockUser()
	rcv := reflect.ValueOf(ep).Elem().FieldByName(receiverField)
	if rcv.IsNil() {
		return 0, false
	}
	return uint32(rcv.Elem().FieldByName(wantedField).Uint()), true
}

func connection(ns *gstack.Stack, t synTuple) (ep *tcp.Endpoint, ok bool) {
	ep, ok = ns.FindTransportEndpoint(t.proto(), tcp.ProtocolNumber, t.id(), nicID).(*tcp.Endpoint)
	return ep, ok && ep.EndpointState() != tcp.StateListen
}

// tellAgain gives netstack an acknowledgement of everything up to una, if it does not know
// it yet. Netstack does not take an acknowledgement whose sequence number is outside of its
// window, not even where the window was closed after the client had sent more.
func (s *Stack) tellAgain(l *link, t synTuple, una uint32, window uint16) {
	ep, ok := connection(s.netstack.Load(), t)
	if !ok {
		return
	}
	if _, at := sendState(ep); int32(una-at) <= 0 {
		return
	}
	seq, ok := wanted(ep)
	if !ok {
		return
	}
	pkt := gstack.NewPacketBuffer(gstack.PacketBufferOptions{Payload: buffer.MakeWithData(bareACKFor(t, seq, una, window))})
	defer pkt.DecRef()
	l.deliver(t.proto(), pkt)
}

// bareACKFor is an acknowledgement of a client. Its TCP checksum is not computed: netstack
// does not look at it.
func bareACKFor(t synTuple, seq, ack uint32, window uint16) []byte {
	src, dst := tcpip.AddrFromSlice(t.src.Addr().AsSlice()), tcpip.AddrFromSlice(t.dst.Addr().AsSlice())
	ip := ipv4HeaderLen
	if t.src.Addr().Is6() {
		ip = ipv6HeaderLen
	}
	b := make([]byte, ip+tcpHeaderLen)
	if ip == ipv6HeaderLen {
		header.IPv6(b).Encode(&header.IPv6Fields{
			PayloadLength: tcpHeaderLen, TransportProtocol: header.TCPProtocolNumber, HopLimit: 64, SrcAddr: src, DstAddr: dst,
		})
	} else {
		h := header.IPv4(b)
		h.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: protoTCP, SrcAddr: src, DstAddr: dst})
		h.SetChecksum(^h.CalculateChecksum())
	}
	p := b[ip:]
	binary.BigEndian.PutUint16(p, t.src.Port())
	binary.BigEndian.PutUint16(p[2:], t.dst.Port())
	binary.BigEndian.PutUint32(p[4:], seq)
	binary.BigEndian.PutUint32(p[8:], ack)
	p[12], p[13] = tcpHeaderLen/4<<4, flagACK
	binary.BigEndian.PutUint16(p[14:], window)
	return b
}
