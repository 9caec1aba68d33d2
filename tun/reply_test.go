package tun

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// A peer that makes connection tracking believe that a captured port began a connection
// reverses the direction of its own packets: none of them is forwarded, from interfaces
// neither captured nor exempt, whatever the host's rp_filter is.
func TestForgedReplies(t *testing.T) {
	t.Parallel()
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
	} {
		t.Run(mode, func(t *testing.T) {
			l := set(t)
			l.warm()
			l.gw.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.o0.rp_filter=0 net.ipv4.conf.g0.rp_filter=0 net.netfilter.nf_conntrack_tcp_loose=1")
			me := uint16(41000)
			for _, f := range []struct{ me, server, gw string }{{"10.0.3.2", "10.0.2.2", "10.0.3.1"}, {"fd00:3::2", "fd00:2::2", "fd00:3::1"}} {
				for _, forged := range []struct {
					name, dst string
					ifc       string // where it is sent
					flags     []byte
					fragment  int
				}{
					{name: "SYN", dst: f.me, ifc: "o0", flags: []byte{0x02}},
					{name: "SYN by a captured interface", dst: f.me, ifc: "g0", flags: []byte{0x02}},
					{name: "whole handshake", dst: f.me, ifc: "o0", flags: []byte{0x02, 0x12, 0x10}},
					{name: "ACK, as of an old connection", dst: f.me, ifc: "o0", flags: []byte{0x10}},
					{name: "SYN in fragments", dst: f.me, ifc: "o0", flags: []byte{0x02}, fragment: 8},
					{name: "SYN|ACK", dst: f.me, ifc: "o0", flags: []byte{0x12}},
					{name: "SYN to the gateway", dst: f.gw, ifc: "o0", flags: []byte{0x02}},
				} {
					for _, port := range []uint16{443, 8443} {
						me++
						from, ifc := l.other, "x0"
						if forged.ifc == "g0" {
							from, ifc = l.client, "c0"
						}
						p := packet{src: f.server, dst: forged.dst, proto: unix.IPPROTO_TCP, sport: port, dport: me, fragment: forged.fragment}
						for _, p.flags = range forged.flags {
							l.send(from, ifc, forged.ifc, p.packets()...)
						}
						var mine [][]byte
						for _, flags := range []byte{0x02, 0x42, 0xc2, 0x03, 0x10, 0x18, 0x12, 0x02} {
							mine = append(mine, packet{src: f.me, dst: f.server, proto: unix.IPPROTO_TCP, sport: me, dport: port, flags: flags}.packets()...)
						}
						if got := l.arrived(l.other, "x0", "o0", "10.0.3.2", "fd00:3::2", mine...); len(got) > 0 {
							t.Errorf("%s, forged %s from port %d: reached the server: %v", f.server, forged.name, port, got)
						}
					}
				}
			}
		})
	}
}

// mute keeps the namespace's kernel from ending connections that it does not know.
func (n *ns) mute() {
	n.t.Helper()
	n.run("nft add table inet mute")
	n.run("nft add chain inet mute out { type filter hook output priority 0 ; }")
	n.run("nft add rule inet mute out meta l4proto tcp drop")
}

// A reply to a captured port passes if the connection did begin there; a new connection
// that looks like it does not.
func TestTrueRepliesPass(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.gw.do(func() error { return Guard(testConfig()) })
	l.warm()
	l.other.mute()
	l.server.mute()
	back := newSniffer(t, l.other, "x0")
	for i, f := range []struct{ me, server string }{{"10.0.3.2", "10.0.2.2"}, {"fd00:3::2", "fd00:2::2"}} {
		port := uint16(61000 + i)
		out := packet{src: f.server, dst: f.me, proto: unix.IPPROTO_TCP, sport: 8443, dport: port}
		l.send(l.server, "s0", "g1", out.bytes())
		until(t, back.got, 8443)
		in := packet{src: f.me, dst: f.server, proto: unix.IPPROTO_TCP, sport: port, dport: 8443}
		if got := l.arrived(l.other, "x0", "o0", "10.0.3.2", "fd00:3::2", in.bytes()); len(got) > 0 {
			t.Errorf("a SYN of the other side reached the server: %v", got)
		}
		for _, flags := range []byte{0x12, 0x10, 0x18, 0x11} {
			in.flags = flags
			want := fmt.Sprintf("flags %#x", flags)
			if got := l.arrived(l.other, "x0", "o0", "10.0.3.2", "fd00:3::2", in.bytes()); len(got) != 1 {
				t.Errorf("%s: %v, want it at the server", want, got)
			}
		}
	}
}

// What the gateway writes to its clients passes even if connection tracking has forgotten
// who began: it comes from a captured port and by the TUN.
func TestForgottenConnectionsGoOn(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testConfig())
	back := newSniffer(t, g.client, "c0")
	for i, p := range []packet{
		{src: "10.0.2.2", dst: "10.0.1.2", proto: unix.IPPROTO_TCP, sport: 443, dport: 42000, flags: 0x18},
		{src: "fd00:2::2", dst: "fd00:1::2", proto: unix.IPPROTO_TCP, sport: 8443, dport: 42000, flags: 0x18},
	} {
		if n, err := g.dev.WriteBatch([][][]byte{{make([]byte, headerLen), p.bytes()}}); n != 1 || err != nil {
			t.Fatal(i, n, err)
		}
		until(t, back.got, p.sport)
	}
}
