package sender

import (
	"encoding/binary"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Tuple names a flow: the client, and the destination that the client meant.
type Tuple struct{ Client, Dest netip.AddrPort }

// TCP flags (RFC 9293, section 3.1) and kinds of options.
const (
	flagFIN = 1
	flagSYN = 2
	flagRST = 4
	flagPSH = 8
	flagACK = 16

	optionEnd       = 0
	optionNOP       = 1
	optionSACK      = 5 // RFC 2018, section 3
	optionTimestamp = 8 // RFC 7323, section 3.2

	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	timestampsLen = 12 // NOP, NOP, timestamps
	maxSACKBlocks = 4  // that fit into the options of a header
	stampsAsUsual = 0x0101080a
	headerIPv4    = 0x45 // version 4, no options
	protoTCP      = 6
)

// tupleOf reads the flow of a packet that netstack sends. tcp is its TCP header.
func tupleOf(ip, tcp []byte) (t Tuple, ok bool) {
	if len(tcp) < tcpHeaderLen {
		return t, false
	}
	var src, dst netip.Addr
	switch {
	case len(ip) >= ipv4HeaderLen && ip[0] == headerIPv4 && ip[9] == protoTCP:
		src, dst = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
	case len(ip) >= ipv6HeaderLen && ip[0]>>4 == 6 && ip[6] == protoTCP:
		src, dst = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
	default:
		return t, false
	}
	return Tuple{
		Client: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
		Dest:   netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)),
	}, true
}

// block is a range of sequence numbers [from, to).
type block struct{ from, to uint32 }

// ack is what an incoming segment says about the bytes that were sent.
type ack struct {
	seq, ack uint32
	window   uint16 // as it stands in the header
	flags    uint8
	payload  int
	stamped  bool
	echo     uint32 // of a timestamp of ours
	blocks   [maxSACKBlocks]block
	sacks    int // blocks that are there
}

// readACK reads a TCP header that was checked: it has all of its options. SACK blocks are
// overwritten with NOPs, and netstack hears nothing of them.
func readACK(tcp []byte, payload int) ack {
	a := ack{
		seq: binary.BigEndian.Uint32(tcp[4:]), ack: binary.BigEndian.Uint32(tcp[8:]),
		window: binary.BigEndian.Uint16(tcp[14:]), flags: tcp[13], payload: payload,
	}
	o := tcp[tcpHeaderLen:]
	if len(o) == timestampsLen && binary.BigEndian.Uint32(o) == stampsAsUsual {
		a.stamped, a.echo = true, binary.BigEndian.Uint32(o[8:])
		return a
	}
	for len(o) > 0 {
		switch {
		case o[0] == optionEnd:
			return a
		case o[0] == optionNOP:
			o = o[1:]
			continue
		case len(o) < 2 || o[1] < 2 || int(o[1]) > len(o):
			return a // netstack reads no further either
		case o[0] == optionTimestamp && o[1] == 10:
			a.stamped, a.echo = true, binary.BigEndian.Uint32(o[6:])
		case o[0] == optionSACK:
			n := int(o[1])
			for b := o[2:n]; len(b) >= 8 && a.sacks < maxSACKBlocks; b = b[8:] {
				a.blocks[a.sacks] = block{binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])}
				a.sacks++
			}
			for i := range n {
				o[i] = optionNOP
			}
			o = o[n:]
			continue
		}
		o = o[o[1]:]
	}
	return a
}

// newest is what the headers of a flow say at the moment. A packet that is sent again
// gets it in place of what was true when it was sent first.
type newest struct {
	ack     uint32
	window  uint16
	stamped bool
	value   uint32 // timestamp
	echo    uint32
	at      time.Duration // when netstack wrote the timestamp
}

// note takes the newest from the header of a packet that netstack sends now.
func (n *newest) note(tcp []byte, now time.Duration) {
	if tcp[13]&flagACK == 0 {
		return
	}
	n.ack, n.window, n.at = binary.BigEndian.Uint32(tcp[8:]), binary.BigEndian.Uint16(tcp[14:]), now
	if o := tcp[tcpHeaderLen:]; len(o) >= timestampsLen && binary.BigEndian.Uint32(o) == stampsAsUsual {
		n.stamped, n.value, n.echo = true, binary.BigEndian.Uint32(o[4:]), binary.BigEndian.Uint32(o[8:])
	}
}

// stamp is the timestamp of a packet that is sent now: netstack's clock has a tick of a
// millisecond.
func (n *newest) stamp(now time.Duration) uint32 {
	return n.value + uint32((now-n.at)/time.Millisecond)
}

// head writes the IP and TCP header for a part of the packet p that is sent now: size
// bytes from at on, in segments of mss bytes. partial says that the device completes the
// checksum; then the field holds that of the pseudo-header.
func (n *newest) head(p *packet, at, size int, now time.Duration, partial bool) []byte {
	ip := p.pkt.NetworkHeader().Slice()
	h := n.write(ip, p.pkt.TransportHeader().Slice(), p.seq+uint32(at), now)
	t := h[len(ip):]
	switch {
	case at+size < p.size:
		t[13] &^= flagPSH | flagFIN
	case p.fin(p.size) > 0:
		t[13] |= flagFIN // netstack has sent it in a packet of its own: see finish
	}
	data := size - p.fin(at+size)
	sum := finish(h, len(ip), at/p.mss, data)
	if !partial {
		sum = ^checksum.Combine(checksum.Checksum(t, sum), sumOf(p.pkt, at, data))
	}
	binary.BigEndian.PutUint16(t[16:], sum)
	return h
}

// probe writes a packet without data that asks the client for its window: its sequence
// number is acknowledged, so that every TCP answers it (RFC 9293, section 3.10.7.4).
func (n *newest) probe(template []byte, ip int, una uint32, now time.Duration) []byte {
	h := n.write(template[:ip], template[ip:], una-1, now)
	t := h[ip:]
	t[13] = flagACK
	binary.BigEndian.PutUint16(t[16:], ^checksum.Checksum(t, finish(h, ip, 0, 0)))
	return h
}

// write makes an IP and TCP header out of another of the flow. Lengths and checksums are
// left to finish.
func (n *newest) write(ip, tcp []byte, seq uint32, now time.Duration) []byte {
	options := 0
	if n.stamped {
		options = timestampsLen
	}
	h := make([]byte, 0, len(ip)+tcpHeaderLen+timestampsLen)
	h = append(append(h, ip...), tcp[:tcpHeaderLen]...)
	if n.stamped {
		h = binary.BigEndian.AppendUint32(h, stampsAsUsual)
		h = binary.BigEndian.AppendUint32(h, n.stamp(now))
		h = binary.BigEndian.AppendUint32(h, n.echo)
	}
	t := h[len(ip):]
	binary.BigEndian.PutUint32(t[4:], seq)
	binary.BigEndian.PutUint32(t[8:], n.ack)
	t[12] = byte((tcpHeaderLen + options) / 4 << 4)
	binary.BigEndian.PutUint16(t[14:], n.window)
	binary.BigEndian.PutUint16(t[16:], 0)
	return h
}

// finish writes the lengths of a header for size bytes of data, and the checksum of the
// IP header. It returns the checksum of the pseudo-header. id is added to the identifier.
func finish(h []byte, ip, id, size int) uint16 {
	length := uint16(len(h) - ip + size)
	if ip == ipv4HeaderLen {
		v4 := header.IPv4(h)
		v4.SetTotalLength(uint16(ip) + length)
		v4.SetID(v4.ID() + uint16(id))
		v4.SetChecksum(0)
		v4.SetChecksum(^v4.CalculateChecksum())
		return header.PseudoHeaderChecksum(header.TCPProtocolNumber, v4.SourceAddress(), v4.DestinationAddress(), length)
	}
	v6 := header.IPv6(h)
	v6.SetPayloadLength(length)
	return header.PseudoHeaderChecksum(header.TCPProtocolNumber, v6.SourceAddress(), v6.DestinationAddress(), length)
}

// sumOf is the checksum of size bytes of the data of a packet, from at on.
func sumOf(pkt *gstack.PacketBuffer, at, size int) uint16 {
	var sum checksum.Checksumer
	Data(pkt, at, size, func(b []byte) { sum.Add(b) })
	return sum.Checksum()
}

// Data calls yield with the pieces of size bytes of a packet's data, from at on.
func Data(pkt *gstack.PacketBuffer, at, size int, yield func([]byte)) {
	views, offset := pkt.AsViewList()
	at += offset + pkt.HeaderSize()
	for v := views.Front(); v != nil && size > 0; v = v.Next() {
		b := v.AsSlice()
		if at >= len(b) {
			at -= len(b)
			continue
		}
		b = b[at:]
		b = b[:min(len(b), size)]
		at, size = 0, size-len(b)
		yield(b)
	}
}

// before says whether a sequence number comes before another one (RFC 9293, section 3.4).
func before(a, b uint32) bool { return int32(a-b) < 0 }
