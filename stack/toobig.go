package stack

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"reflect"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// "Packet too big" is the only ICMP error that netstack acts on. Anybody who knows or
// guesses the addresses and ports of a connection can send one that quotes it. Netstack
// believes it, and makes the segments of the connection smaller for good. So the quoted
// segment must be one that we have sent and that is not acknowledged (RFC 5927, section
// 4.1), and the MTU must be one that a real path can have.

// Smallest MTU in bytes that a "packet too big" may report. A smaller one only serves to
// make us send tiny segments. Linux has the same bound for IPv4 (min_pmtu), and every
// IPv6 link must carry 1280 bytes (RFC 8200, section 5).
const (
	minPathMTUv4 = 552
	minPathMTUv6 = 1280
)

// quote is the part of a TCP segment that an ICMP error quotes: its sender, its
// destination, and its sequence number.
type quote struct {
	src, dst netip.AddrPort
	seq      uint32
}

// admitICMP lets "fragmentation needed" (RFC 792, RFC 1191) and "packet too big" (RFC
// 4443, section 3.2) pass: without them a download over a narrower hop hangs. Other
// errors could only end handshakes that time out anyway, and anyone can send them (RFC
// 5927).
func (g *gate) admitICMP(p packet, head, rest []byte) (bool, badKind) {
	if p.size-p.upper < icmpHeaderLen || len(head)-p.upper < icmpHeaderLen {
		return false, badLength
	}
	icmp := head[p.upper:]
	if !isTooBig(p.v6, icmp) {
		g.stats.ignored.Add(1)
		return false, badNothing
	}
	read, mtu, least := quoted4, uint32(binary.BigEndian.Uint16(icmp[6:])), uint32(minPathMTUv4)
	if p.v6 {
		read, mtu, least = quoted6, binary.BigEndian.Uint32(icmp[4:]), minPathMTUv6
	}
	q, ok := read(icmp[icmpHeaderLen:])
	switch {
	case !ok, q.src.Addr() != p.dst, mtu < least:
		return false, badICMP
	case p.v6 && !checksumRight(p, head, rest): // ICMP over IPv4 has no pseudo-header, and netstack verifies its checksum
		return false, badICMP
	}
	switch yes, asked := g.underWay(q); {
	case yes:
		g.stats.tooBig.Add(1)
		return true, badNothing
	case !asked:
		g.stats.tooBigLimited.Add(1)
		return false, badNothing
	}
	return false, badICMP
}

// isTooBig says whether the ICMP message is a "fragmentation needed" or a
// "packet too big".
func isTooBig(v6 bool, icmp []byte) bool {
	if v6 {
		return icmp[0] == 2
	}
	return icmp[0] == 3 && icmp[1] == 4
}

// quoted4 and quoted6 read the IP header of a TCP segment and the first eight bytes
// behind it. ok is false if it is not a TCP segment, or has options or is a fragment: we
// send neither.
func quoted4(b []byte) (q quote, ok bool) {
	if len(b) < ipv4HeaderLen+8 || b[0] != 0x45 || b[9] != protoTCP || binary.BigEndian.Uint16(b[6:])&0x3fff != 0 {
		return quote{}, false
	}
	return quotedTCP(netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20])), b[ipv4HeaderLen:]), true
}

func quoted6(b []byte) (q quote, ok bool) {
	if len(b) < ipv6HeaderLen+8 || b[0]>>4 != 6 || b[6] != protoTCP {
		return quote{}, false
	}
	return quotedTCP(netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[ipv6HeaderLen:]), true
}

func quotedTCP(src, dst netip.Addr, tcp []byte) quote {
	return quote{
		src: netip.AddrPortFrom(src, binary.BigEndian.Uint16(tcp)),
		dst: netip.AddrPortFrom(dst, binary.BigEndian.Uint16(tcp[2:])),
		seq: binary.BigEndian.Uint32(tcp[4:]),
	}
}

// These are the fields in which a tcp.Endpoint keeps its sequence numbers. Netstack shows
// them only to a TCPProbe, which would copy all of the state of every connection for
// every segment.
const (
	senderField  = "snd"
	firstUnacked = "SndUna"
	nextToSend   = "SndNxt"
)

// senderFields are the indexes of three fields: the sender in an endpoint, and in the
// sender the first sequence number that is not acknowledged and the next to send. New
// checks that they exist.
type senderFields struct{ snd, una, nxt []int }

func findSender() (f senderFields, err error) {
	missing := func(name string) error {
		return fmt.Errorf("this netstack has no %s.%s: another version of it needs another way to read what is under way", senderField, name)
	}
	snd, ok := reflect.TypeFor[tcp.Endpoint]().FieldByName(senderField)
	if !ok || snd.Type.Kind() != reflect.Pointer || snd.Type.Elem().Kind() != reflect.Struct {
		return f, missing("")
	}
	f.snd = snd.Index
	for name, at := range map[string]*[]int{firstUnacked: &f.una, nextToSend: &f.nxt} {
		field, ok := snd.Type.Elem().FieldByName(name)
		if !ok || field.Type.Kind() != reflect.Uint32 {
			return f, missing(name)
		}
		*at = field.Index
	}
	return f, nil
}

// underWay says whether an endpoint of netstack has sent a segment with the quoted
// sequence number and it is not acknowledged. Asking takes the endpoint's lock, and
// goroutines that receive packets of all clients wait for that lock. So allow first says
// whether the endpoint of this client may be asked now; asked is false if not.
func (f *senderFields) underWay(ns *gstack.Stack, q quote, allow func(client netip.Addr) bool) (yes, asked bool) {
	proto := header.IPv4ProtocolNumber
	if q.src.Addr().Is6() {
		proto = header.IPv6ProtocolNumber
	}
	ep, ok := ns.FindTransportEndpoint(proto, tcp.ProtocolNumber, gstack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(q.src.Addr().AsSlice()), LocalPort: q.src.Port(),
		RemoteAddress: tcpip.AddrFromSlice(q.dst.Addr().AsSlice()), RemotePort: q.dst.Port(),
	}, nicID).(*tcp.Endpoint)
	if !ok || ep.EndpointState() == tcp.StateListen { // a listener has no sender
		return false, true
	}
	if !allow(q.dst.Addr()) {
		return false, false
	}
	ep.LockUser()
	defer ep.UnlockUser()
	snd := reflect.ValueOf(ep).Elem().FieldByIndex(f.snd)
	if snd.IsNil() {
		return false, true
	}
	una := uint32(snd.Elem().FieldByIndex(f.una).Uint())
	nxt := uint32(snd.Elem().FieldByIndex(f.nxt).Uint())
	return q.seq-una < nxt-una, true // modulo 2^32 (RFC 9293, section 3.4)
}
