package stack_test

import (
	"encoding/binary"
	"net/netip"
)

// The packets of these tests are made by hand, without the code under test.

const (
	fin = 1
	syn = 2
	rst = 4
	psh = 8
	ack = 16
)

// seg is a TCP segment to be made.
type seg struct {
	src, dst netip.AddrPort
	seq, ack uint32
	flags    uint8
	urgent   uint16 // the urgent pointer
	opts     []byte // multiple of 4
	payload  []byte
}

// ip is the finished packet.
func (s seg) ip() []byte {
	tcp := make([]byte, 20, 20+len(s.opts)+len(s.payload))
	binary.BigEndian.PutUint16(tcp, s.src.Port())
	binary.BigEndian.PutUint16(tcp[2:], s.dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], s.seq)
	binary.BigEndian.PutUint32(tcp[8:], s.ack)
	tcp[12] = byte(20+len(s.opts)) / 4 << 4
	tcp[13] = s.flags
	binary.BigEndian.PutUint16(tcp[14:], 65535)
	binary.BigEndian.PutUint16(tcp[18:], s.urgent)
	tcp = append(append(tcp, s.opts...), s.payload...)
	binary.BigEndian.PutUint16(tcp[16:], ^sum16(pseudo(s.src.Addr(), s.dst.Addr(), 6, len(tcp)), tcp))
	return ipPacket(s.src.Addr(), s.dst.Addr(), 6, tcp)
}

// ipPacket puts an IP header in front of the upper layer.
func ipPacket(src, dst netip.Addr, proto uint8, upper []byte) []byte {
	var h []byte
	if src.Is4() {
		h = make([]byte, 20)
		h[0], h[8], h[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(upper)))
		copy(h[12:], src.AsSlice())
		copy(h[16:], dst.AsSlice())
		fixIPv4(h)
	} else {
		h = make([]byte, 40)
		h[0], h[6], h[7] = 0x60, proto, 64
		binary.BigEndian.PutUint16(h[4:], uint16(len(upper)))
		copy(h[8:], src.AsSlice())
		copy(h[24:], dst.AsSlice())
	}
	return append(h, upper...)
}

// withRouterAlert puts that IPv4 option (RFC 2113) into a packet.
func withRouterAlert(pkt []byte) []byte {
	out := append(append(append([]byte(nil), pkt[:20]...), 0x94, 4, 0, 0), pkt[20:]...)
	out[0], out[10], out[11] = 0x46, 0, 0
	binary.BigEndian.PutUint16(out[2:], uint16(len(out)))
	binary.BigEndian.PutUint16(out[10:], ^sum16(0, out[:24]))
	return out
}

// fixIPv4 makes the checksum of an IPv4 header of 20 bytes right.
func fixIPv4(pkt []byte) {
	pkt[10], pkt[11] = 0, 0
	binary.BigEndian.PutUint16(pkt[10:], ^sum16(0, pkt[:20]))
}

// withExtension puts an IPv6 extension header behind the fixed one.
func withExtension(pkt []byte, proto uint8, ext []byte) []byte {
	out := append([]byte(nil), pkt[:40]...)
	ext = append([]byte(nil), ext...)
	ext[0] = out[6]
	out[6] = proto
	out = append(append(out, ext...), pkt[40:]...)
	binary.BigEndian.PutUint16(out[4:], uint16(len(out)-40))
	return out
}

func pseudo(src, dst netip.Addr, proto uint8, n int) uint16 {
	s := sum16(0, src.AsSlice())
	s = sum16(s, dst.AsSlice())
	return sum16(s, []byte{0, proto, byte(n >> 8), byte(n)})
}

// sum16 is the one's complement sum of RFC 1071.
func sum16(start uint16, b []byte) uint16 {
	s := uint32(start)
	for i := 0; i < len(b); i += 2 {
		w := uint32(b[i]) << 8
		if i+1 < len(b) {
			w |= uint32(b[i+1])
		}
		s += w
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return uint16(s)
}

// tooBig is the ICMP error of a hop at router with the given MTU about pkt.
func tooBig(router netip.Addr, pkt []byte, mtu int) []byte {
	if pkt[0]>>4 == 4 {
		src := netip.AddrFrom4([4]byte(pkt[12:16]))
		b := make([]byte, 8, 8+28)
		b[0], b[1] = 3, 4
		binary.BigEndian.PutUint16(b[6:], uint16(mtu))
		b = append(b, pkt[:min(len(pkt), 28)]...)
		binary.BigEndian.PutUint16(b[2:], ^sum16(0, b))
		return ipPacket(router, src, 1, b)
	}
	src := netip.AddrFrom16([16]byte(pkt[8:24]))
	b := make([]byte, 8, 1240)
	b[0] = 2
	binary.BigEndian.PutUint32(b[4:], uint32(mtu))
	b = append(b, pkt[:min(len(pkt), 1200)]...)
	binary.BigEndian.PutUint16(b[2:], ^sum16(pseudo(router, src, 58, len(b)), b))
	return ipPacket(router, src, 58, b)
}
