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

// "Packet too big" is the one ICMP error that netstack acts on. Anybody can send
// one that quotes a connection whose addresses and ports he knows or guesses, and
// netstack believes it: it makes the segments of that connection smaller, for good.
// So what is quoted must be a segment that we have sent and that nobody has
// acknowledged (RFC 5927, section 4.1), and the MTU no less than any path has.

// Smallest MTU a "packet too big" may report. Below, it only serves to make us
// send tiny segments: Linux has the same bound for IPv4 (min_pmtu), and every
// IPv6 link must carry 1280 bytes (RFC 8200, section 5).
const (
	minPathMTUv4 = 552
	minPathMTUv6 = 1280
)

// quote is what an ICMP error quotes of a TCP segment: who sent it, to whom, and
// where it begins.
type quote struct {
	src, dst netip.AddrPort
	seq      uint32
}

// admitICMP lets "fragmentation needed" (RFC 792, RFC 1191) and "packet too
// big" (RFC 4443, section 3.2) pass, without which a download over a narrower
// hop hangs. Other errors could only end handshakes that time out anyway, and
// anyone can send them (RFC 5927).
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
	case p.v6 && !checksumRight(p, head, rest): // IPv4's has no pseudo-header: netstack verifies it
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
// behind it; ok is false if it is no such thing, or has options or is a fragment,
// which we never send.
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

// sender is where a tcp.Endpoint keeps its sequence numbers: netstack tells them
// to nobody but a TCPProbe, which would copy all of the state of every connection
// for every segment.
const (
	senderField  = "snd"
	firstUnacked = "SndUna"
	nextToSend   = "SndNxt"
)

// senderFields are the places of the sender in an endpoint, and in the sender of
// what is not acknowledged and what is sent next. That they are there is checked
// by New.
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

// underWay says whether a segment that begins there was sent by an endpoint of
// netstack and is not acknowledged. To ask takes the lock of the endpoint, for which
// those wait that receive packets of everybody. So allow is asked first whether its
// client may be asked about now; asked is false where it may not.
func (f *senderFields) underWay(ns *gstack.Stack, q quote, allow func(client netip.Addr) bool) (yes, asked bool) {
	proto := header.IPv4ProtocolNumber
	if q.src.Addr().Is6() {
		proto = header.IPv6ProtocolNumber
	}
	ep, ok := ns.FindTransportEndpoint(proto, tcp.ProtocolNumber, gstack.TransportEndpointID{
		LocalAddress: tcpip.AddrFromSlice(q.src.Addr().AsSlice()), LocalPort: q.src.Port(),
		RemoteAddress: tcpip.AddrFromSlice(q.dst.Addr().AsSlice()), RemotePort: q.dst.Port(),
	}, nicID).(*tcp.Endpoint)
	if !ok || ep.EndpointState() == tcp.StateListen { // it has no sender
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
