package stack

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
)

// gate decides about every packet before netstack sees it:
//
//  1. a malformed packet is dropped (packet.go), a fragment waits for the
//     others of its packet (reassemble.go);
//  2. of everything that is not TCP only "packet too big" about a packet that
//     we may have sent passes: no pings answered, no port-unreachables sent;
//  3. a TCP checksum that the kernel does not vouch for is verified;
//  4. a SYN is held against our limits, then the Handler is asked; what may not
//     pass is dropped or answered RST (reset.go);
//  5. every other segment passes, with data only while there is memory for it:
//     netstack finds its connection, or answers RST.
//
// All goroutines that receive use the same one; nothing in it changes.
type gate struct {
	handler   Handler
	allPorts  bool
	ports     [1 << 16 / 64]uint64 // a bit for each port taken
	draining  *atomic.Bool
	flows     *flows
	halfOpen  *halfOpen
	early     *early
	recovery  *recovery
	fragments *reassembler
	stats     *counters
	reply     func(pkt []byte) // sends a packet without virtio-net offloads
	flooded   func() bool      // nil: never
	now       func() time.Time
}

// Smallest MTU a "packet too big" may report. Below, it only serves to make us
// send tiny segments: Linux has the same bound for IPv4 (min_pmtu), and every
// IPv6 link must carry 1280 bytes (RFC 8200, section 5).
const (
	minPathMTUv4 = 552
	minPathMTUv6 = 1280
)

func (g *gate) take(port uint16) { g.ports[port/64] |= 1 << (port % 64) }

func (g *gate) taken(port uint16) bool {
	return g.allPorts || g.ports[port/64]&(1<<(port%64)) != 0
}

// admit says whether netstack may see the packet, which is head followed by
// rest; head is all of it or headLen bytes.
func (g *gate) admit(h vnetHeader, head, rest []byte) (packet, bool) {
	p, bad := parseIP(head, len(head)+len(rest))
	pass := false
	if bad == badNothing {
		switch {
		case p.frag.is:
			// Nothing is decided before it is put together (rx.go).
			return p, false
		case p.linkTalk():
			g.stats.ignored.Add(1)
		case p.proto == protoTCP:
			pass, bad = g.admitTCP(h, &p, head, rest)
		case p.v6 && p.proto == protoICMPv6, !p.v6 && p.proto == protoICMP:
			pass, bad = g.admitICMP(p, head, rest)
		default:
			g.stats.ignored.Add(1)
		}
	}
	if bad != badNothing {
		g.stats.bad[bad].Add(1)
		return packet{}, false
	}
	return p, pass
}

func (g *gate) admitTCP(h vnetHeader, p *packet, head, rest []byte) (bool, badKind) {
	s, bad := parseTCP(*p, head)
	if bad != badNothing {
		return false, bad
	}
	p.tcp = s
	if h.flags&(vnetNeedsCsum|vnetDataValid) == 0 && !checksumRight(*p, head, rest) {
		return false, badChecksum
	}
	if !s.isSYN() {
		if s.payload > 0 && g.flooded != nil && g.flooded() {
			g.stats.dataDropped.Add(1)
			return false, badNothing
		}
		return true, badNothing
	}
	now := g.now()
	if taken := g.taken(s.dst.Port()); !taken || g.draining.Load() {
		if !taken {
			g.handler.OnSYN(SYN{Src: s.src, Dst: s.dst, At: now, NotTaken: true})
		}
		g.stats.synReset.Add(1)
		g.reset(s)
		return false, badNothing
	}
	full := g.flows.full(s.src.Addr())
	answer := g.handler.OnSYN(SYN{Src: s.src, Dst: s.dst, At: now, Full: full})
	if full != FullNot && answer != SYNDrop {
		g.stats.synLimited.Add(1)
		g.reset(s)
		return false, badNothing
	}
	switch answer {
	case SYNPass:
		g.stats.synPassed.Add(1)
		if !g.allPorts { // the forwarder has timers of its own
			g.halfOpen.add(s, now)
		}
		return true, badNothing
	case SYNDrop:
		g.stats.synDropped.Add(1)
	default:
		g.stats.synReset.Add(1)
		g.reset(s)
	}
	return false, badNothing
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
	inner := icmp[icmpHeaderLen:]
	if p.v6 {
		if !isTooBig(true, icmp) {
			g.stats.ignored.Add(1)
			return false, badNothing
		}
		if binary.BigEndian.Uint32(icmp[4:]) < minPathMTUv6 || !checksumRight(p, head, rest) ||
			!quotes(inner, ipv6HeaderLen, 6, protoTCP, inner6, p.dst) {
			return false, badICMP
		}
	} else {
		if !isTooBig(false, icmp) {
			g.stats.ignored.Add(1)
			return false, badNothing
		}
		// Its checksum has no pseudo-header: netstack verifies it.
		if binary.BigEndian.Uint16(icmp[6:]) < minPathMTUv4 ||
			!quotes(inner, ipv4HeaderLen, 4, protoTCP, inner4, p.dst) {
			return false, badICMP
		}
	}
	g.stats.tooBig.Add(1)
	return true, badNothing
}

// isTooBig says whether the ICMP message is a "fragmentation needed" or a
// "packet too big".
func isTooBig(v6 bool, icmp []byte) bool {
	if v6 {
		return icmp[0] == 2
	}
	return icmp[0] == 3 && icmp[1] == 4
}

// inner4 and inner6 read protocol and source of a quoted header; ok is false
// if it has options or is a fragment, which we never send.
func inner4(b []byte) (proto uint8, src netip.Addr, ok bool) {
	return b[9], netip.AddrFrom4([4]byte(b[12:16])), b[0] == 0x45 && binary.BigEndian.Uint16(b[6:])&0x3fff == 0
}

func inner6(b []byte) (proto uint8, src netip.Addr, ok bool) {
	return b[6], netip.AddrFrom16([16]byte(b[8:24])), true
}

// quotes says whether b starts with the IP header of a TCP segment sent by
// src, followed by at least the ports and the sequence number.
func quotes(b []byte, hdrLen int, version, proto uint8, inner func([]byte) (uint8, netip.Addr, bool), src netip.Addr) bool {
	if len(b) < hdrLen+8 || b[0]>>4 != version {
		return false
	}
	gotProto, gotSrc, ok := inner(b)
	return ok && gotProto == proto && gotSrc == src
}

// reset answers a SYN with RST.
func (g *gate) reset(s segment) { g.reply(resetFor(s)) }
