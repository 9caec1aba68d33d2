package tun

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A client that uses an address of the gateway itself, or one that belongs to nobody
// (multicast, broadcast, loopback), is not captured and goes nowhere. The stack's answers
// would be delivered to this host, whose kernel would then send a RST to a destination
// that the client was not let through to.
func TestOwnSourceIsDropped(t *testing.T) {
	for mode, cfg := range map[string]SteerConfig{"gateway": testConfig(), "client": sourceConfig(), "local": localConfig()} {
		t.Run(mode, func(t *testing.T) {
			g := newGateway(t, cfg)
			g.warm()
			g.gw.run("sysctl -qw net.ipv4.conf.all.accept_local=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.g0.rp_filter=0")
			sport := uint16(47000)
			for _, src := range []string{"10.0.1.1", "10.0.2.1", "10.0.1.255", "fd00:1::1", "fd00:2::1", "fd00:3::1"} {
				dst := servers[0]
				if src[0] == 'f' {
					dst = servers[1]
				}
				for _, flags := range []byte{0x02, 0x12, 0x10, 0x04} {
					sport++
					p := packet{src: src, dst: dst, proto: unix.IPPROTO_TCP, sport: sport, dport: 443, flags: flags}
					if got := g.leaked("g0", p.bytes()); len(got) > 0 {
						t.Errorf("%s: reached the server: %v", src, got)
					}
				}
			}
			last := syns(46999)["v4"]
			g.send(g.client, "c0", "g0", last.bytes())
			if got := until(t, g.tun, 46999); len(got) > 0 {
				t.Errorf("came to the stack: %v", describe(got))
			}
		})
	}
}

// Redirects are for a neighbour: none is forwarded, and none from a captured interface is
// believed. Otherwise a redirect sent through the gateway, in the name of a router on the
// client's link, would lead the client past the gateway.
func TestRedirectsOfStrangers(t *testing.T) {
	g := newGateway(t, testConfig())
	g.warm()
	g.gw.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.g1.rp_filter=0 net.ipv4.conf.o0.rp_filter=0 net.ipv4.conf.g0.rp_filter=0")
	g.gw.run("sysctl -qw net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.g0.accept_redirects=1 net.ipv4.conf.all.secure_redirects=0 net.ipv4.conf.g0.secure_redirects=0 net.ipv4.conf.all.shared_media=1")
	back := newSniffer(t, g.client, "c0")
	for _, from := range []struct {
		ns        *ns
		ifc, gwIf string
	}{{g.server, "s0", "g1"}, {g.other, "x0", "o0"}} {
		v4 := packet{src: "10.0.1.3", dst: "10.0.1.2", proto: unix.IPPROTO_ICMP, icmpType: icmpRedirect, icmpCode: 1,
			payload: packet{src: "10.0.1.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: 48000, dport: 443}.bytes()}
		v6 := packet{src: "fd00:1::3", dst: "fd00:1::2", proto: unix.IPPROTO_ICMPV6, icmpType: icmpv6Redirect,
			payload: make([]byte, 32)}
		raw6 := v6.bytes()
		fixICMPv6(raw6)
		g.send(from.ns, from.ifc, from.gwIf, v4.bytes(), raw6,
			packet{src: "10.0.2.2", dst: "10.0.1.2", proto: unix.IPPROTO_UDP, sport: 48001, dport: 9}.bytes())
		for _, p := range until(t, back.got, 48001) {
			if i := parse(p); len(i.body) > 0 && (i.proto == unix.IPPROTO_ICMP && i.body[0] == icmpRedirect || i.proto == unix.IPPROTO_ICMPV6 && i.body[0] == icmpv6Redirect) {
				t.Errorf("from %s: the client is sent %v", from.gwIf, i)
			}
		}
	}
}

// A redirect from a neighbour on a captured link is not believed. The route stays as it
// is, even if forwarding is on for single interfaces only, where Linux goes on believing
// redirects.
func TestRedirectsAreNotBelieved(t *testing.T) {
	l := newLab(t)
	l.gw.run("sysctl -qw net.ipv4.ip_forward=0 net.ipv4.conf.all.accept_redirects=1 net.ipv4.conf.all.secure_redirects=0 net.ipv4.conf.all.rp_filter=0")
	for _, ifc := range []string{"g0", "g1", "o0"} {
		of := "net.ipv4.conf." + ifc
		l.gw.run("sysctl -qw " + of + ".forwarding=1 " + of + ".accept_redirects=1 " + of + ".secure_redirects=0 " + of + ".rp_filter=0")
	}
	l.oneArmed()
	mac := strings.Fields(l.client.run("ip -br link show c0"))[2]
	l.gw.run("ip neigh replace 10.0.1.2 lladdr " + mac + " dev g0") // who is not known is not believed at once
	believed := func(dst string) bool {
		quoted := packet{src: "10.0.1.1", dst: dst, proto: unix.IPPROTO_ICMP}.bytes() // an echo reply: no socket is asked
		p := packet{src: "10.0.1.3", dst: "10.0.1.1", proto: unix.IPPROTO_ICMP, icmpType: icmpRedirect, icmpCode: 1, payload: quoted}.bytes()
		copy(p[24:28], []byte{10, 0, 1, 2}) // the router that it names
		copy(p[22:24], []byte{0, 0})
		sum := checksum(p[20:])
		p[22], p[23] = byte(sum>>8), byte(sum)
		l.send(l.client, "c0", "g0", p)
		l.leaked("g0")
		return strings.Contains(l.gw.run("ip route get "+dst), "via 10.0.1.2")
	}
	if !believed("10.0.9.9") {
		t.Fatal("without the guard the host does not believe a redirect: this tests nothing")
	}
	l.gw.do(func() error { return Guard(testConfig()) })
	if believed("10.0.9.10") {
		t.Error("a redirect that came in by a captured interface was believed")
	}
}
