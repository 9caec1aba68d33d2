package tun

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// head is a header in front of what follows: its bytes but for the first, which
// names the next one.
type head struct {
	proto byte
	rest  []byte
}

var (
	hopByHop = head{0, []byte{0, 1, 4, 0, 0, 0, 0}}
	destOpts = head{60, []byte{0, 1, 4, 0, 0, 0, 0}}
	routing  = head{43, []byte{0, 4, 0, 0, 0, 0, 0}}
	auth     = head{51, []byte{1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1}} // RFC 4302: 12 bytes
)

// part is a Fragment header (RFC 8200, section 4.5); off is in bytes.
func part(off int, more bool, id byte) head {
	v := uint16(off)
	if more {
		v |= 1
	}
	return head{44, []byte{0, byte(v >> 8), byte(v), 0, 0, 0, id}}
}

// unknown is a header as RFC 6564 wants it, of a protocol that Linux does not skip.
func unknown(proto byte) head { return head{proto, []byte{0, 0, 0, 0, 0, 0, 0}} }

// chain6 is an IPv6 packet of these headers, and behind them body of protocol last.
func chain6(src, dst string, last byte, body []byte, heads ...head) []byte {
	next := last
	for i := len(heads) - 1; i >= 0; i-- {
		body = append(append([]byte{next}, heads[i].rest...), body...)
		next = heads[i].proto
	}
	return packet{src: src, dst: dst}.header6(next, body)
}

// ip4 is an IPv4 packet with options, whose length is a multiple of 4.
func ip4(src, dst string, proto byte, options, body []byte) []byte {
	h := []byte{0x40 | byte(5+len(options)/4), 0}
	h = binary.BigEndian.AppendUint16(h, uint16(20+len(options)+len(body)))
	h = append(h, 0, 7, 0, 0, 64, proto, 0, 0)
	h = append(h, netip.MustParseAddr(src).AsSlice()...)
	h = append(append(h, netip.MustParseAddr(dst).AsSlice()...), options...)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, body...)
}

// hidden are packets from src4 and src6, all with source port sport, that hide TCP, or
// UDP 443, to a captured port: behind headers that stacks read differently, in fragments
// of fragments, in tunnels, or with headers that cannot be read.
func hidden(src4, src6 string, sport uint16) map[string][][]byte {
	const dst4, dst6 = "10.0.2.2", "fd00:2::2"
	tcp6 := packet{src: src6, dst: dst6, proto: unix.IPPROTO_TCP, sport: sport, dport: 443}
	tcp4 := packet{src: src4, dst: dst4, proto: unix.IPPROTO_TCP, sport: sport, dport: 443}
	udp6 := packet{src: src6, dst: dst6, proto: unix.IPPROTO_UDP, sport: sport, dport: 443, payload: make([]byte, 40)}
	seg6, seg4, gram6 := tcp6.transport(), tcp4.transport(), udp6.transport()
	six := func(last byte, body []byte, heads ...head) []byte { return chain6(src6, dst6, last, body, heads...) }
	all := map[string][][]byte{
		"atomic, then fragments, headers split":    {six(6, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, seg6...)[:8], part(0, false, 2), part(0, true, 3)), six(60, seg6, part(0, false, 2), part(8, false, 3))},
		"atomic, then fragments, DSTOPTS in first": {six(60, []byte{6, 0, 1, 4, 0, 0, 0, 0}, part(0, false, 4), part(0, true, 5)), six(60, seg6, part(0, false, 4), part(8, false, 5))},
		"two atomic, then fragments":               {six(60, []byte{6, 0, 1, 4, 0, 0, 0, 0}, part(0, false, 6), part(0, false, 7), part(0, true, 8)), six(60, seg6, part(0, false, 6), part(0, false, 7), part(8, false, 8))},
		"options, atomic, options, fragments":      {six(60, []byte{6, 0, 1, 4, 0, 0, 0, 0}, destOpts, part(0, false, 9), destOpts, part(0, true, 10)), six(60, seg6, destOpts, part(0, false, 9), destOpts, part(8, false, 10))},
		"fragment in fragment":                     {six(60, []byte{6, 0, 1, 4, 0, 0, 0, 0}, part(0, true, 11), part(0, true, 12)), six(60, seg6, part(8, false, 11), part(8, false, 12))},
		"routing, atomic, fragments":               {six(60, []byte{6, 0, 1, 4, 0, 0, 0, 0}, routing, part(0, false, 13), part(0, true, 14)), six(60, seg6, routing, part(0, false, 13), part(8, false, 14))},
		"UDP, atomic, then fragments":              {six(60, []byte{17, 0, 1, 4, 0, 0, 0, 0}, part(0, false, 15), part(0, true, 16)), six(60, gram6, part(0, false, 15), part(8, false, 16))},
		"last piece alone":                         {six(60, seg6, part(0, false, 17), part(8, false, 18))},
		"authentication":                           {six(6, seg6, auth)},
		"authentication twice":                     {six(6, seg6, auth, auth)},
		"hop-by-hop in the middle":                 {six(6, seg6, destOpts, hopByHop)},
		"no next header, TCP behind":               {six(59, seg6)},
		"no next header, options, TCP behind":      {six(59, append([]byte{6, 0, 1, 4, 0, 0, 0, 0}, seg6...), destOpts)},
		"options longer than the packet":           {six(6, seg6, head{60, []byte{200, 1, 4, 0, 0, 0, 0}})},
		"chain that ends in the air":               {six(60, nil)},
		"two bytes of TCP":                         {six(6, seg6[:2]), ip4(src4, dst4, 6, nil, seg4[:2])},
		"three bytes of UDP":                       {six(17, gram6[:3])},
		"ICMP in IPv6":                             {six(1, seg6)},
		"ICMPv6 in IPv4":                           {ip4(src4, dst4, 58, nil, seg4)},
		"loose source route":                       {ip4(src4, dst4, 6, []byte{131, 7, 4, 10, 0, 2, 2, 0}, seg4)},
		"strict source route":                      {ip4(src4, dst4, 6, []byte{137, 7, 4, 10, 0, 2, 2, 0}, seg4)},
		"source route by the gateway":              {ip4(src4, "10.0.1.1", 6, []byte{131, 7, 4, 10, 0, 2, 2, 0}, seg4)},
		"record route":                             {ip4(src4, dst4, 6, []byte{7, 7, 4, 0, 0, 0, 0, 0}, seg4)},
		"router alert":                             {ip4(src4, dst4, 6, []byte{148, 4, 0, 0}, seg4), six(6, seg6, head{0, []byte{0, 5, 2, 0, 0, 1, 0}})},
		"40 bytes of options":                      {ip4(src4, dst4, 6, make([]byte, 40), seg4)},
	}
	for _, nh := range []byte{2, 33, 50, 89, 103, 114, 132, 135, 136, 137, 139, 140, 143, 200, 253, 254, 255} {
		all[fmt.Sprintf("unknown header %d", nh)] = [][]byte{six(6, seg6, unknown(nh))}
		all[fmt.Sprintf("unknown header %d, UDP", nh)] = [][]byte{six(17, gram6, unknown(nh))}
		all[fmt.Sprintf("unknown header %d behind options", nh)] = [][]byte{six(6, seg6, hopByHop, destOpts, unknown(nh))}
		all[fmt.Sprintf("unknown header %d behind an atomic fragment", nh)] = [][]byte{six(6, seg6, part(0, false, 30), unknown(nh))}
		all[fmt.Sprintf("protocol %d of IPv4", nh)] = [][]byte{ip4(src4, dst4, nh, nil, append([]byte{6, 0, 0, 0, 0, 0, 0, 0}, seg4...))}
	}
	gre := func(ether uint16, inner []byte) []byte {
		return append(binary.BigEndian.AppendUint16([]byte{0, 0}, ether), inner...)
	}
	for name, inner := range map[string][]byte{"4": ip4(src4, dst4, 6, nil, seg4), "6": six(6, seg6)} {
		number := map[string]byte{"4": 4, "6": 41}[name]
		ether := map[string]uint16{"4": 0x0800, "6": 0x86dd}[name]
		all["IPv"+name+" in IPv4"] = [][]byte{ip4(src4, dst4, number, nil, inner)}
		all["IPv"+name+" in IPv6"] = [][]byte{six(number, inner)}
		all["IPv"+name+" in GRE in IPv4"] = [][]byte{ip4(src4, dst4, 47, nil, gre(ether, inner))}
		all["IPv"+name+" in GRE in IPv6"] = [][]byte{six(47, gre(ether, inner), destOpts)}
	}
	return all
}

// warm makes the gateway learn the server's link addresses, so that no packet has to wait
// for them in a short queue.
func (l *lab) warm() {
	for _, p := range []packet{
		{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: 7, dport: 53},
		{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_UDP, sport: 8, dport: 53},
	} {
		l.send(l.client, "c0", "g0", p.bytes())
		until(l.gw.t, l.sniff.got, p.sport)
	}
}

// arrived sends packets from a peer and returns those that reach the server's wire, of
// whatever kind.
func (l *lab) arrived(from *ns, ifc, gwIf, src4, src6 string, packets ...[]byte) []string {
	from.t.Helper()
	l.sport++
	l.send(from, ifc, gwIf, packets...)
	l.send(from, ifc, gwIf, packet{src: src4, dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: l.sport, dport: 9}.bytes())
	before := until(from.t, l.sniff.got, l.sport)
	for linger := time.After(10 * time.Millisecond); ; { // for one that overtook
		select {
		case p := <-l.sniff.got:
			before = append(before, p)
			continue
		case <-linger:
		}
		break
	}
	var all []string
	for _, p := range before {
		if i := parse(p); i.src == netip.MustParseAddr(src4) || i.src == netip.MustParseAddr(src6) {
			all = append(all, fmt.Sprintf("%v: %x", i, p))
		}
	}
	return all
}

// No packet that hides TCP or QUIC to a captured port is forwarded, neither from a
// captured interface nor from one that is not exempt: with the guard alone, with the
// steering, for some ports and for all, and without connection tracking.
func TestHiddenHeaders(t *testing.T) {
	all := testConfig()
	all.AllPorts, all.Ports = true, nil
	for mode, set := range map[string]func(*testing.T) *lab{
		"steered":   func(t *testing.T) *lab { return newGateway(t, testConfig()).lab },
		"all ports": func(t *testing.T) *lab { return newGateway(t, all).lab },
		"guard alone": func(t *testing.T) *lab {
			l := newLab(t)
			l.gw.do(func() error { return Guard(testConfig()) })
			return l
		},
		"untracked": func(t *testing.T) *lab {
			g := newGateway(t, testConfig())
			g.gw.run("nft add table inet fast")
			g.gw.run("nft add chain inet fast raw { type filter hook prerouting priority -500 ; }")
			g.gw.run("nft add rule inet fast raw notrack")
			return g.lab
		},
	} {
		t.Run(mode, func(t *testing.T) {
			l := set(t)
			l.warm()
			// The worst case: the host accepts source routes.
			l.gw.run("sysctl -qw net.ipv4.conf.all.accept_source_route=1 net.ipv4.conf.g0.accept_source_route=1 net.ipv4.conf.o0.accept_source_route=1")
			for _, way := range []struct {
				from                 *ns
				ifc, gwIf, src4, six string
			}{{l.client, "c0", "g0", "10.0.1.2", "fd00:1::2"}, {l.other, "x0", "o0", "10.0.3.2", "fd00:3::2"}} {
				names := map[string]string{}
				var packets [][]byte
				for name, some := range hidden(way.src4, way.six, 33333) {
					for _, p := range some {
						names[fmt.Sprintf("%x", p[:min(len(p), 64)][20:])] += name + "; "
					}
					packets = append(packets, some...)
				}
				for _, got := range l.arrived(way.from, way.ifc, way.gwIf, way.src4, way.six, packets...) {
					t.Errorf("from %s: %s\n%v", way.gwIf, got, names)
				}
			}
		})
	}
}

// Packets that do not evade capture are forwarded as before, whatever headers they have,
// and so are the protocols that the configuration lists.
func TestKnownHeadersPass(t *testing.T) {
	cfg := testConfig()
	cfg.Protocols = []uint8{unix.IPPROTO_ESP, unix.IPPROTO_SCTP}
	g := newGateway(t, cfg)
	v4 := packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_UDP, dport: 53, payload: make([]byte, 100)}
	v6 := packet{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_UDP, dport: 53, payload: make([]byte, 100)}
	pass := func(name string, p packet) {
		t.Helper()
		g.sport++
		p.sport = g.sport
		g.send(g.client, "c0", "g0", p.packets()...)
		until(t, g.sniff.got, p.sport)
		g.leaked("g0") // takes what is left of fragments
	}
	with := func(p packet, f func(*packet)) packet { f(&p); return p }
	pass("v4", v4)
	pass("v6", v6)
	pass("v4 fragments", with(v4, func(p *packet) { p.fragment = 16 }))
	pass("v6 fragments", with(v6, func(p *packet) { p.fragment = 24 }))
	pass("v6 options", with(v6, func(p *packet) { p.ext = []byte{0, 60, 43, 60} }))
	pass("v6 options, TCP", with(v6, func(p *packet) { p.ext, p.proto, p.dport = []byte{0, 60}, unix.IPPROTO_TCP, 80 }))
	for name, p := range map[string][]byte{
		"ping":    packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_ICMP, icmpType: 8}.bytes(),
		"ping 6":  packet{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_ICMPV6, icmpType: 128}.bytes(),
		"ESP":     ip4("10.0.1.2", "10.0.2.2", unix.IPPROTO_ESP, nil, make([]byte, 32)),
		"SCTP":    ip4("10.0.1.2", "10.0.2.2", unix.IPPROTO_SCTP, nil, make([]byte, 32)),
		"ESP, v6": chain6("fd00:1::2", "fd00:2::2", unix.IPPROTO_ESP, make([]byte, 32), destOpts),
	} {
		if got := g.arrived(g.client, "c0", "g0", "10.0.1.2", "fd00:1::2", p); len(got) != 1 {
			t.Errorf("%s: %v arrived, want it alone", name, got)
		}
	}
}
