package stack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// badKind says what is wrong with a packet.
type badKind uint8

const (
	badNothing badKind = iota
	badLength
	badVersion
	badHeaderChecksum
	badOptions
	badFragment
	badOverlap
	badAddress
	badTCPHeader
	badFlags
	badChecksum
	badICMP
	badKinds // how many there are
)

// Protocol numbers (IANA "Assigned Internet Protocol Numbers").
const (
	protoHopByHop = 0
	protoICMP     = 1
	protoTCP      = 6
	protoRouting  = 43
	protoFragment = 44
	protoICMPv6   = 58
	protoDestOpts = 60
)

// TCP flags (RFC 9293, section 3.1).
const (
	flagFIN = 1 << iota
	flagSYN
	flagRST
	flagPSH
	flagACK
	flagURG
)

// headLen is how many bytes of a packet are read into its head. All headers must fit: 40
// bytes of IPv6, at most 60 of TCP, and 156 of extension headers. A packet with a longer
// chain is dropped, as RFC 7112 allows.
const headLen = 256

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	icmpHeaderLen = 8

	fragmentHeaderLen = 8
)

// packet is what the gate knows of an IP packet. The zero value means no packet.
type packet struct {
	src, dst netip.Addr
	v6       bool
	proto    uint8 // of the upper layer
	upper    int   // where the upper layer starts, in bytes from the start of the packet
	size     int   // of the whole packet, in bytes
	frag     fragment
	tcp      segment // set if proto is protoTCP and the gate has parsed the segment
}

// parseIP reads the headers of an IP packet of size bytes up to the upper layer. head is
// all of the packet or its first headLen bytes.
func parseIP(head []byte, size int) (packet, badKind) {
	if len(head) < ipv4HeaderLen || size < len(head) {
		return packet{}, badLength
	}
	var p packet
	var bad badKind
	switch head[0] >> 4 {
	case 4:
		p, bad = parseIPv4(head, size)
	case 6:
		p, bad = parseIPv6(head, size)
	default:
		return packet{}, badVersion
	}
	if bad == badNothing && !sensible(p) && !p.linkTalk() {
		bad = badAddress
	}
	if bad != badNothing {
		return packet{}, bad
	}
	p.size = size
	return p, badNothing
}

// parseIPv4 reads an IPv4 header (RFC 791, section 3.1).
func parseIPv4(head []byte, size int) (packet, badKind) {
	ihl := int(head[0]&0xf) * 4
	if ihl < ipv4HeaderLen || int(binary.BigEndian.Uint16(head[2:])) != size || ihl > size {
		return packet{}, badLength
	}
	p := packet{
		src:   netip.AddrFrom4([4]byte(head[12:16])),
		dst:   netip.AddrFrom4([4]byte(head[16:20])),
		proto: head[9],
		upper: ihl,
	}
	// A packet with options is dropped (RFC 7126 has the reasons; source routes and
	// record route have no place in a captured flow). The exception is a host that joins
	// a group: its packet has an option (RFC 3376, section 4).
	if ihl != ipv4HeaderLen && (len(head) < ihl || !p.linkTalk()) {
		return packet{}, badOptions
	}
	if checksum.Checksum(head[:ihl], 0) != 0xffff {
		return packet{}, badHeaderChecksum
	}
	// It is a fragment if more follow or it has an offset. Don't-fragment is allowed, and
	// the evil bit is ignored.
	if f := binary.BigEndian.Uint16(head[6:]); f&0x3fff != 0 {
		p.frag = fragment{
			is: true, next: p.proto, start: uint16(ihl),
			id: uint32(binary.BigEndian.Uint16(head[4:])), offset: f & 0x1fff << 3, more: f&0x2000 != 0,
		}
	}
	return p, badNothing
}

// parseIPv6 reads an IPv6 header and its extension headers (RFC 8200, sections 3 and 4).
// For a fragment that is not the first, upper is where the fragment's data starts.
func parseIPv6(head []byte, size int) (packet, badKind) {
	if len(head) < ipv6HeaderLen || ipv6HeaderLen+int(binary.BigEndian.Uint16(head[4:])) != size {
		return packet{}, badLength
	}
	p := packet{
		src:   netip.AddrFrom16([16]byte(head[8:24])),
		dst:   netip.AddrFrom16([16]byte(head[24:40])),
		v6:    true,
		proto: head[6],
		upper: ipv6HeaderLen,
	}
	fragmentHeader := false
	for first := true; ; first = false {
		switch p.proto {
		case protoHopByHop, protoRouting, protoDestOpts:
		case protoFragment:
			if fragmentHeader {
				return packet{}, badFragment
			}
			fragmentHeader = true
			rest := head[p.upper:]
			if len(rest) < fragmentHeaderLen {
				return packet{}, badLength
			}
			p.proto = rest[0]
			p.upper += fragmentHeaderLen
			// Neither an offset nor more fragments: a whole packet (RFC 6946).
			if f := binary.BigEndian.Uint16(rest[2:]); f&0xfff9 != 0 {
				p.frag = fragment{
					is: true, next: p.proto, start: uint16(p.upper),
					id: binary.BigEndian.Uint32(rest[4:]), offset: f & 0xfff8, more: f&1 != 0,
				}
				if p.frag.offset != 0 {
					return p, badNothing // data follows, not a header
				}
			}
			continue
		default:
			return p, badNothing
		}
		if p.proto == protoHopByHop && !first {
			return packet{}, badOptions // section 4.1: allowed only right behind the IPv6 header
		}
		rest := head[p.upper:]
		if len(rest) < 8 {
			return packet{}, badLength
		}
		n := 8 + 8*int(rest[1])
		if n > len(rest) {
			if p.upper+n <= size {
				return packet{}, badOptions // the header does not fit into headLen
			}
			return packet{}, badLength
		}
		if p.proto == protoRouting {
			// Segments left: the packet is not at its destination yet (section 4.4).
			if rest[3] != 0 {
				return packet{}, badOptions
			}
		} else if !skippable(rest[2:n]) {
			return packet{}, badOptions
		}
		p.proto = rest[0]
		p.upper += n
	}
}

// skippable says whether all options of a hop-by-hop or destination options header may be
// skipped by a node that does not know them (RFC 8200, section 4.2).
func skippable(options []byte) bool {
	for len(options) > 0 {
		if options[0] == 0 { // Pad1
			options = options[1:]
			continue
		}
		if len(options) < 2 || len(options) < 2+int(options[1]) || options[0]&0xc0 != 0 {
			return false
		}
		options = options[2+int(options[1]):]
	}
	return true
}

// linkTalk says whether hosts send such packets to each other on every link: to look for
// routers and neighbours (RFC 4861), to join groups (RFC 3810, RFC 3376), to discover
// names. This host's own kernel sends some into the TUN as soon as it is up, at first
// without an address. They are nobody's mistake, and we do not need them.
func (p packet) linkTalk() bool {
	return p.dst.IsMulticast() && p.proto != protoTCP && !p.frag.is && (p.src.IsUnspecified() || unicast(p.src))
}

// sensible says whether the addresses of a packet are allowed. Equal source and
// destination are an attack (LAND), except in ICMP errors of this host about packets that
// we send from one of its own addresses.
func sensible(p packet) bool {
	icmp := p.proto == protoICMP && !p.v6 || p.proto == protoICMPv6 && p.v6
	return (p.src != p.dst || icmp) && unicast(p.src) && unicast(p.dst)
}

// unicast says whether the address can belong to one host on a network: it is not
// multicast, broadcast, loopback, unspecified or "this network" (RFC 6890). A v4-mapped
// IPv6 address never belongs on the wire; a dual-stack listener would take it for IPv4.
func unicast(a netip.Addr) bool {
	if a.IsMulticast() || a.IsLoopback() || a.IsUnspecified() || a.Is4In6() {
		return false
	}
	if a.Is4() {
		b := a.As4()
		return b[0] != 0 && b != [4]byte{255, 255, 255, 255}
	}
	return true
}

// segment is what the gate knows of a TCP segment.
type segment struct {
	src, dst netip.AddrPort
	seq, ack uint32
	flags    uint8
	payload  int  // bytes
	sack     bool // it has SACK blocks
	stamped  bool // it has timestamps
}

// parseTCP reads the header of the TCP segment in p (RFC 9293, section 3.1).
func parseTCP(p packet, head []byte) (segment, badKind) {
	if p.size-p.upper < tcpHeaderLen {
		return segment{}, badLength
	}
	tcp := head[p.upper:]
	if len(tcp) < tcpHeaderLen {
		return segment{}, badOptions // pushed out of the head by extension headers
	}
	offset := tcpHeaderSize(tcp)
	srcPort, dstPort := binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])
	if offset < tcpHeaderLen || p.upper+offset > p.size || srcPort == 0 || dstPort == 0 {
		return segment{}, badTCPHeader
	}
	if offset > len(tcp) {
		return segment{}, badOptions
	}
	s := segment{
		src:     netip.AddrPortFrom(p.src, srcPort),
		dst:     netip.AddrPortFrom(p.dst, dstPort),
		seq:     binary.BigEndian.Uint32(tcp[4:]),
		ack:     binary.BigEndian.Uint32(tcp[8:]),
		flags:   tcp[13] & 0x3f,
		payload: p.size - p.upper - offset,
		sack:    hasSACK(tcp[:offset]),
		stamped: hasTimestamps(tcp[:offset]),
	}
	switch {
	case s.flags&flagSYN != 0 && s.flags&(flagFIN|flagRST|flagACK) != 0,
		s.flags&flagRST != 0 && s.flags&flagFIN != 0,
		s.flags&(flagSYN|flagRST|flagACK) == 0:
		return segment{}, badFlags
	}
	return s, badNothing
}

// tcpHeaderSize is the data offset of a TCP header, in bytes.
func tcpHeaderSize(tcp []byte) int { return int(tcp[12]>>4) * 4 }

// isSYN says whether the segment opens a connection.
func (s segment) isSYN() bool { return s.flags&flagSYN != 0 }

// pseudoHeader returns the checksum of the pseudo-header (RFC 9293, section 3.1; RFC
// 8200, section 8.1) for an upper layer of n bytes.
func pseudoHeader(src, dst netip.Addr, proto uint8, n int) uint16 {
	sum := checksum.Checksum(src.AsSlice(), 0)
	sum = checksum.Checksum(dst.AsSlice(), sum)
	return checksum.Checksum([]byte{0, proto, byte(n >> 8), byte(n)}, sum)
}

// checksumRight verifies the checksum of the upper layer of p. rest is the part of the
// packet behind head.
func checksumRight(p packet, head, rest []byte) bool {
	sum := pseudoHeader(p.src, p.dst, p.proto, p.size-p.upper)
	sum = checksum.Checksum(head[p.upper:], sum)
	if (len(head)-p.upper)%2 == 1 && len(rest) > 0 {
		// The sum so far covers an odd number of bytes; the next byte completes the
		// 16-bit word.
		sum = checksum.Combine(sum, uint16(rest[0]))
		rest = rest[1:]
	}
	return checksum.Checksum(rest, sum) == 0xffff
}
