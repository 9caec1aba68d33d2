package stack

import (
	"sync/atomic"
	"time"
)

// gate decides about every packet before netstack sees it:
//
//  1. A malformed packet is dropped (packet.go). A fragment waits for the others of its
//     packet (reassemble.go).
//  2. Of everything that is not TCP, only one kind passes: a "packet too big" about a
//     segment that is under way (toobig.go). So no pings are answered and no
//     port-unreachables sent.
//  3. A TCP checksum that the kernel does not vouch for is verified.
//  4. A SYN is checked against our limits, then the Handler is asked. If it may not
//     pass, it is dropped or answered RST (reset.go).
//  5. Every other segment passes; one with data only while there is memory for it.
//     Netstack finds its connection, or answers RST.
//
// All receiving goroutines share one gate; none of its fields changes.
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
	underWay  func(quote) (yes, asked bool) // whether the quoted segment is sent and not acknowledged
	stamped   *stampedSYNs
	agreed    func(synTuple) (uint32, bool) // see agreedTimestamps
	reply     func(pkt []byte)              // sends a packet without virtio-net offloads
	flooded   func() bool                   // nil: never
	now       func() time.Time
}

func (g *gate) take(port uint16) { g.ports[port/64] |= 1 << (port % 64) }

func (g *gate) taken(port uint16) bool {
	return g.allPorts || g.ports[port/64]&(1<<(port%64)) != 0
}

// admit says whether netstack may see the packet. The packet is head followed by rest;
// head is all of it or its first headLen bytes.
func (g *gate) admit(h vnetHeader, head, rest []byte) (packet, bool) {
	p, bad := parseIP(head, len(head)+len(rest))
	pass := false
	if bad == badNothing {
		switch {
		case p.frag.is:
			// The decision is made once the packet is put together (rx.go).
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
	if s.flags&flagURG != 0 {
		g.stats.urgent.Add(1)
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
		if !g.allPorts { // the forwarder times its handshakes itself
			g.halfOpen.add(s, now)
		}
		if s.stamped {
			g.stamped.add(synTuple{s.src, s.dst}, now)
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

// reset answers a SYN with RST.
func (g *gate) reset(s segment) { g.reply(resetFor(s)) }
