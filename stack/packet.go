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

// headLen is how many bytes of a packet are read into its head, where all
// headers must fit: 40 of IPv6, 60 of TCP at most, and 156 of extension
// headers. A longer chain is dropped (RFC 7112 allows to).
const headLen = 256

const (
	ipv4HeaderLen = 20
	ipv6HeaderLen = 40
	tcpHeaderLen  = 20
	icmpHeaderLen = 8

	fragmentHeaderLen = 8
)

// packet is what the gate knows of an IP packet. Its zero value is no packet.
type packet struct {
	src, dst netip.Addr
	v6       bool
	proto    uint8 // of the upper layer
	upper    int   // where that starts, in bytes from the start of the packet
	size     int   // of the whole packet, in bytes
	frag     fragment
	tcp      segment // where proto is protoTCP and the gate has passed it
}

// parseIP reads the headers of an IP packet of size bytes up to the upper
// layer. head is its first bytes: all of it, or headLen.
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

// parseIPv4: RFC 791, section 3.1.
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
	// Options are dropped with their packet (RFC 7126 has the reasons; source
	// routes and record route have no place in a captured flow). Who joins a group
	// has one (RFC 3376, section 4).
	if ihl != ipv4HeaderLen && (len(head) < ihl || !p.linkTalk()) {
		return packet{}, badOptions
	}
	if checksum.Checksum(head[:ihl], 0) != 0xffff {
		return packet{}, badHeaderChecksum
	}
	// More fragments, or an offset. Don't-fragment is fine; the evil bit is not ours.
	if f := binary.BigEndian.Uint16(head[6:]); f&0x3fff != 0 {
		p.frag = fragment{
			is: true, next: p.proto, start: uint16(ihl),
			id: uint32(binary.BigEndian.Uint16(head[4:])), offset: f & 0x1fff << 3, more: f&0x2000 != 0,
		}
	}
	return p, badNothing
}

// parseIPv6: RFC 8200, sections 3 and 4. Of a fragment that is not the first,
// upper is where the fragment's data start.
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
					return p, badNothing // what follows is no header
				}
			}
			continue
		default:
			return p, badNothing
		}
		if p.proto == protoHopByHop && !first {
			return packet{}, badOptions // section 4.1: only right behind the IPv6 header
		}
		rest := head[p.upper:]
		if len(rest) < 8 {
			return packet{}, badLength
		}
		n := 8 + 8*int(rest[1])
		if n > len(rest) {
			if p.upper+n <= size {
				return packet{}, badOptions // longer than headLen
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

// skippable says whether all options of a hop-by-hop or destination options
// header may be skipped by one who does not know them (RFC 8200, section 4.2).
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

// linkTalk says whether the packet is one of those that hosts send to each other on
// every link: looking for routers and neighbours, joining groups (RFC 4861, RFC 3810,
// RFC 3376), discovery by name. This host's own kernel sends some into the TUN as soon
// as it is up, from no address yet. Nobody's mistake, and nothing to us.
func (p packet) linkTalk() bool {
	return p.dst.IsMulticast() && p.proto != protoTCP && !p.frag.is && (p.src.IsUnspecified() || unicast(p.src))
}

// sensible says whether a packet may have its addresses. Equal ones are an attack
// (LAND), but for the ICMP errors of this host about what we send from an address
// of its own.
func sensible(p packet) bool {
	icmp := p.proto == protoICMP && !p.v6 || p.proto == protoICMPv6 && p.v6
	return (p.src != p.dst || icmp) && unicast(p.src) && unicast(p.dst)
}

// unicast says whether one host on a network can have the address: neither
// multicast, broadcast, loopback, unspecified nor "this network" (RFC 6890).
// A v4-mapped IPv6 address never belongs on the wire, and to a dual-stack
// listener it would look like IPv4.
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

// pseudoHeader is the checksum of the pseudo-header (RFC 9293, section 3.1;
// RFC 8200, section 8.1) for an upper layer of n bytes.
func pseudoHeader(src, dst netip.Addr, proto uint8, n int) uint16 {
	sum := checksum.Checksum(src.AsSlice(), 0)
	sum = checksum.Checksum(dst.AsSlice(), sum)
	return checksum.Checksum([]byte{0, proto, byte(n >> 8), byte(n)}, sum)
}

// checksumRight verifies the checksum of the upper layer of p; rest is what of
// the packet lies behind head.
func checksumRight(p packet, head, rest []byte) bool {
	sum := pseudoHeader(p.src, p.dst, p.proto, p.size-p.upper)
	sum = checksum.Checksum(head[p.upper:], sum)
	if (len(head)-p.upper)%2 == 1 && len(rest) > 0 {
		// An odd number so far: the next byte completes the 16-bit word.
		sum = checksum.Combine(sum, uint16(rest[0]))
		rest = rest[1:]
	}
	return checksum.Checksum(rest, sum) == 0xffff
}
