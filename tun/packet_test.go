package tun

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// packet is an IP packet to be built: a TCP SYN, a UDP datagram or an ICMP
// message with payload behind its 8 bytes of header.
type packet struct {
	src, dst     string
	proto        byte
	sport, dport uint16
	payload      []byte
	ext          []byte // IPv6: kinds of extension headers (0 hop-by-hop, 60 destination, 43 routing, 44 atomic fragment)
	icmpType     byte
	icmpCode     byte
	fragment     int  // bytes of payload a fragment, multiple of 8; 0: whole
	synack       bool // TCP: SYN|ACK instead of SYN
	flags        byte // TCP: these instead, if not 0
	icmpMTU      uint16
	ack          uint32 // TCP
	seq          uint32 // TCP; 0: 1
}

func (p packet) transport() []byte {
	var h []byte
	sum := 0
	switch p.proto {
	case unix.IPPROTO_TCP:
		flags := byte(0x02)
		if p.synack {
			flags = 0x12
		}
		if p.flags != 0 {
			flags = p.flags
		}
		h = binary.BigEndian.AppendUint16(h, p.sport)
		h = binary.BigEndian.AppendUint16(h, p.dport)
		h = append(h, 0, 0, 0, 1, 0, 0, 0, 0, 5<<4, flags, 0xff, 0xff, 0, 0, 0, 0)
		binary.BigEndian.PutUint32(h[4:], max(p.seq, 1))
		binary.BigEndian.PutUint32(h[8:], p.ack)
		sum = 16
	case unix.IPPROTO_UDP:
		h = binary.BigEndian.AppendUint16(h, p.sport)
		h = binary.BigEndian.AppendUint16(h, p.dport)
		h = binary.BigEndian.AppendUint16(h, uint16(8+len(p.payload)))
		h = append(h, 0, 0)
		sum = 6
	default:
		h = []byte{p.icmpType, p.icmpCode, 0, 0, 0, 0, byte(p.icmpMTU >> 8), byte(p.icmpMTU)}
		sum = 2
	}
	h = append(h, p.payload...)
	var pseudo []byte
	if p.proto != unix.IPPROTO_ICMP {
		pseudo = append(netip.MustParseAddr(p.src).AsSlice(), netip.MustParseAddr(p.dst).AsSlice()...)
		pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(h)))
		pseudo = append(pseudo, 0, 0, 0, p.proto)
	}
	binary.BigEndian.PutUint16(h[sum:], checksum(append(pseudo, h...)))
	return h
}

// checksum of RFC 1071.
func checksum(b []byte) uint16 {
	var s uint32
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

func (p packet) bytes() []byte { return p.packets()[0] }

// packets is the packet, or its fragments.
func (p packet) packets() [][]byte {
	if netip.MustParseAddr(p.src).Is4() {
		return p.packets4()
	}
	return p.packets6()
}

func (p packet) packets4() [][]byte {
	body := p.transport()
	step := p.fragment
	if step == 0 {
		step = len(body)
	}
	var all [][]byte
	for off := 0; off < len(body); off += step {
		part := body[off:min(off+step, len(body))]
		h := []byte{0x45, 0}
		h = binary.BigEndian.AppendUint16(h, uint16(20+len(part)))
		h = binary.BigEndian.AppendUint16(h, p.sport) // identification
		frag := uint16(off / 8)
		if off+step < len(body) {
			frag |= 0x2000
		}
		h = binary.BigEndian.AppendUint16(h, frag)
		h = append(h, 64, p.proto, 0, 0)
		h = append(h, netip.MustParseAddr(p.src).AsSlice()...)
		h = append(h, netip.MustParseAddr(p.dst).AsSlice()...)
		binary.BigEndian.PutUint16(h[10:], checksum(h))
		all = append(all, append(h, part...))
	}
	return all
}

func (p packet) packets6() [][]byte {
	next, body := p.proto, p.transport()
	for i := len(p.ext) - 1; i >= 0; i-- {
		h := []byte{next, 0, 1, 4, 0, 0, 0, 0} // PadN of 4
		switch p.ext[i] {
		case unix.IPPROTO_ROUTING:
			h = []byte{next, 0, 4, 0, 0, 0, 0, 0} // segment routing type, no segments left
		case unix.IPPROTO_FRAGMENT:
			h = []byte{next, 0, 0, 0, 0, 0, 0, 7}
		}
		next, body = p.ext[i], append(h, body...)
	}
	step := p.fragment
	if step == 0 {
		return [][]byte{p.header6(next, body)}
	}
	var all [][]byte
	for off := 0; off < len(body); off += step {
		h := []byte{next, 0}
		frag := uint16(off)
		if off+step < len(body) {
			frag |= 1
		}
		h = binary.BigEndian.AppendUint16(h, frag)
		h = binary.BigEndian.AppendUint32(h, uint32(p.sport))
		all = append(all, p.header6(unix.IPPROTO_FRAGMENT, append(h, body[off:min(off+step, len(body))]...)))
	}
	return all
}

func (p packet) header6(next byte, body []byte) []byte {
	h := []byte{0x60, 0, 0, 0}
	h = binary.BigEndian.AppendUint16(h, uint16(len(body)))
	h = append(h, next, 64)
	h = append(h, netip.MustParseAddr(p.src).AsSlice()...)
	h = append(h, netip.MustParseAddr(p.dst).AsSlice()...)
	return append(h, body...)
}

// info is what is read from a packet that arrived.
type info struct {
	src, dst     netip.Addr
	proto        byte
	sport, dport uint16
	fragment     bool
	body         []byte // transport header and what follows
}

func (i info) String() string {
	return fmt.Sprintf("proto %d %v:%d > %v:%d fragment=%v", i.proto, i.src, i.sport, i.dst, i.dport, i.fragment)
}

func describe(packets [][]byte) []string {
	var all []string
	for _, p := range packets {
		all = append(all, parse(p).String())
	}
	return all
}

// parse walks the headers; the zero value is anything that is not IP.
func parse(p []byte) info {
	var i info
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		i.src, i.dst = netip.AddrFrom4([4]byte(p[12:16])), netip.AddrFrom4([4]byte(p[16:20]))
		i.proto, i.body = p[9], p[int(p[0]&15)*4:]
		frag := binary.BigEndian.Uint16(p[6:])
		i.fragment = frag&0x3fff != 0
		if frag&0x1fff != 0 {
			return i
		}
	case len(p) >= 40 && p[0]>>4 == 6:
		i.src, i.dst = netip.AddrFrom16([16]byte(p[8:24])), netip.AddrFrom16([16]byte(p[24:40]))
		i.proto, i.body = p[6], p[40:]
		for len(i.body) >= 8 {
			size := 8 + int(i.body[1])*8
			switch i.proto {
			case unix.IPPROTO_HOPOPTS, unix.IPPROTO_DSTOPTS, unix.IPPROTO_ROUTING:
			case unix.IPPROTO_FRAGMENT:
				size = 8
				frag := binary.BigEndian.Uint16(i.body[2:])
				i.fragment = i.fragment || frag&0xfff9 != 0
				if frag&0xfff8 != 0 {
					return i
				}
			default:
				size = 0
			}
			if size == 0 || size > len(i.body) {
				break
			}
			i.proto, i.body = i.body[0], i.body[size:]
		}
	default:
		return i
	}
	if (i.proto == unix.IPPROTO_TCP || i.proto == unix.IPPROTO_UDP) && len(i.body) >= 4 {
		i.sport, i.dport = binary.BigEndian.Uint16(i.body), binary.BigEndian.Uint16(i.body[2:])
	}
	return i
}
