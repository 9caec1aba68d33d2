package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// The TCP flags (RFC 9293, section 3.1).
const (
	FIN = 0x01
	SYN = 0x02
	RST = 0x04
	PSH = 0x08
	ACK = 0x10
)

// Packet is what a sniffer records of one IP packet.
type Packet struct {
	At       time.Time
	Src, Dst netip.AddrPort // port 0 if there is none: not TCP or UDP, or a later fragment
	Proto    uint8          // the transport protocol, after IPv6 extension headers
	Flags    uint8          // of TCP
	Fragment bool
	Len      int    // of the whole IP packet in bytes
	Raw      []byte // the whole IP packet, as long as a sniffer's keep looks at it; nil afterwards
}

// ParsePacket reads the headers of an IPv4 or IPv6 packet (RFC 791, RFC 8200).
func ParsePacket(b []byte) (Packet, bool) {
	if len(b) < 20 {
		return Packet{}, false
	}
	p := Packet{Len: len(b)}
	var src, dst netip.Addr
	var transport []byte
	switch b[0] >> 4 {
	case 4:
		hl := int(b[0]&15) * 4
		if hl < 20 || len(b) < hl {
			return Packet{}, false
		}
		src, dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
		p.Proto = b[9]
		frag := binary.BigEndian.Uint16(b[6:])
		p.Fragment = frag&0x3fff != 0
		if frag&0x1fff == 0 {
			transport = b[hl:]
		}
	case 6:
		if len(b) < 40 {
			return Packet{}, false
		}
		src, dst = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
		p.Proto, transport = b[6], b[40:]
		for extension(p.Proto) && len(transport) >= 8 {
			n := (int(transport[1]) + 1) * 8
			if p.Proto == unix.IPPROTO_FRAGMENT {
				p.Fragment, n = true, 8
				if binary.BigEndian.Uint16(transport[2:])&0xfff8 != 0 {
					p.Proto, transport = transport[0], nil
					break
				}
			}
			p.Proto, transport = transport[0], transport[min(n, len(transport)):]
		}
	default:
		return Packet{}, false
	}
	var sport, dport uint16
	if (p.Proto == unix.IPPROTO_TCP || p.Proto == unix.IPPROTO_UDP) && len(transport) >= 4 {
		sport, dport = binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:])
	}
	if p.Proto == unix.IPPROTO_TCP && len(transport) >= 14 {
		p.Flags = transport[13]
	}
	p.Src, p.Dst = netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport)
	return p, true
}

func extension(proto uint8) bool {
	switch proto {
	case unix.IPPROTO_HOPOPTS, unix.IPPROTO_ROUTING, unix.IPPROTO_FRAGMENT, unix.IPPROTO_DSTOPTS:
		return true
	}
	return false
}

// Segment is a TCP segment to be forged.
type Segment struct {
	Src, Dst netip.AddrPort
	Seq, Ack uint32
	Flags    uint8
	Payload  []byte
}

// TCP returns the segment with its checksum, without an IP header: 20 bytes, 32 for a SYN. A
// SYN has options so that it can be cut after byte 24: over IPv6, receivers drop a first
// fragment that does not hold the whole fixed TCP header (RFC 8200, section 4.5).
func (s Segment) TCP() []byte {
	b := make([]byte, 20, 32+len(s.Payload))
	binary.BigEndian.PutUint16(b, s.Src.Port())
	binary.BigEndian.PutUint16(b[2:], s.Dst.Port())
	binary.BigEndian.PutUint32(b[4:], s.Seq)
	binary.BigEndian.PutUint32(b[8:], s.Ack)
	b[12], b[13] = 5<<4, s.Flags
	binary.BigEndian.PutUint16(b[14:], 64240)
	if s.Flags&SYN != 0 {
		b[12] = 8 << 4
		b = append(b, 2, 4, 1220>>8, 1220&255, 1, 1, 1, 1, 1, 1, 1, 1) // MSS, NOPs
	}
	b = append(b, s.Payload...)
	sum := pseudo(s.Src.Addr(), s.Dst.Addr(), unix.IPPROTO_TCP, len(b))
	binary.BigEndian.PutUint16(b[16:], ^fold(add(sum, b)))
	return b
}

// Packet returns the segment as one IP packet.
func (s Segment) Packet() []byte {
	return ipPacket(s.Src.Addr(), s.Dst.Addr(), unix.IPPROTO_TCP, s.TCP(), 0, 0)
}

// Fragments returns the segment as two IP fragments, cut after at bytes of TCP, a multiple of
// 8. id distinguishes datagrams and must not be 0.
func (s Segment) Fragments(at int, id uint16) ([][]byte, error) {
	tcp := s.TCP()
	if at <= 0 || at%8 != 0 || at >= len(tcp) {
		return nil, fmt.Errorf("cannot cut %d bytes of TCP after %d", len(tcp), at)
	}
	src, dst := s.Src.Addr(), s.Dst.Addr()
	if src.Is4() {
		return [][]byte{
			ipPacket(src, dst, unix.IPPROTO_TCP, tcp[:at], id, 0x2000),
			ipPacket(src, dst, unix.IPPROTO_TCP, tcp[at:], id, uint16(at/8)),
		}, nil
	}
	frag := func(part []byte, offset uint16) []byte {
		h := []byte{unix.IPPROTO_TCP, 0, byte(offset >> 8), byte(offset), 0, 0, byte(id >> 8), byte(id)}
		return ipPacket(src, dst, unix.IPPROTO_FRAGMENT, append(h, part...), 0, 0)
	}
	return [][]byte{frag(tcp[:at], 1), frag(tcp[at:], uint16(at))}, nil
}

// BehindOptions returns the segment as an IPv6 packet with a destination options extension
// header before TCP (RFC 8200, section 4.6).
func (s Segment) BehindOptions() []byte {
	h := []byte{unix.IPPROTO_TCP, 0, 1, 4, 0, 0, 0, 0} // PadN of 4 bytes
	return ipPacket(s.Src.Addr(), s.Dst.Addr(), unix.IPPROTO_DSTOPTS, append(h, s.TCP()...), 0, 0)
}

// SendRaw sends whole IP packets out of a namespace, routed by their
// destination. The kernel fills in the IPv4 header checksum.
func (l *Lab) SendRaw(ns NS, packets ...[]byte) error {
	return l.Do(ns, func() error {
		for _, b := range packets {
			p, ok := ParsePacket(b)
			if !ok {
				return errors.New("send raw: not an IP packet")
			}
			family, to := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: as4(p.Dst.Addr())})
			if p.Dst.Addr().Is6() {
				family, to = unix.AF_INET6, &unix.SockaddrInet6{Addr: p.Dst.Addr().As16()}
			}
			fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				return fmt.Errorf("send raw: %w", err)
			}
			err = unix.Sendto(fd, b, 0, to)
			_ = unix.Close(fd)
			if err != nil {
				return fmt.Errorf("send raw to %s: %w", p.Dst.Addr(), err)
			}
		}
		return nil
	})
}

func as4(a netip.Addr) [4]byte {
	if a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

func ipPacket(src, dst netip.Addr, proto uint8, payload []byte, id, frag uint16) []byte {
	if src.Is4() {
		h := make([]byte, 20, 20+len(payload))
		h[0], h[8], h[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(h[2:], uint16(20+len(payload)))
		binary.BigEndian.PutUint16(h[4:], id)
		binary.BigEndian.PutUint16(h[6:], frag)
		s, d := src.As4(), dst.As4()
		copy(h[12:], s[:])
		copy(h[16:], d[:])
		binary.BigEndian.PutUint16(h[10:], ^fold(add(0, h)))
		return append(h, payload...)
	}
	h := make([]byte, 40, 40+len(payload))
	h[0], h[6], h[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(h[4:], uint16(len(payload)))
	s, d := src.As16(), dst.As16()
	copy(h[8:], s[:])
	copy(h[24:], d[:])
	return append(h, payload...)
}

// pseudo is the sum over the pseudo header (RFC 9293, section 3.1; RFC 8200,
// section 8.1).
func pseudo(src, dst netip.Addr, proto uint8, n int) uint32 {
	return add(add(add(0, src.AsSlice()), dst.AsSlice()), []byte{0, proto, byte(n >> 8), byte(n)})
}

func add(sum uint32, b []byte) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
