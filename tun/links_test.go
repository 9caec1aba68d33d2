package tun

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// setMAC notes the hardware address of an interface for send.
func (l *lab) setMAC(n *ns, ifc, as string) {
	n.t.Helper()
	mac, err := net.ParseMAC(strings.Fields(n.run("ip -br link show " + ifc))[2])
	if err != nil {
		n.t.Fatal(err)
	}
	l.macs[as] = mac
}

// looseFilter switches reverse path filters off, so that they do not drop the packets
// first.
func (l *lab) looseFilter() {
	l.gw.script("for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 >$f; done")
}

// captures sends the ways to begin a connection, and expects them in the TUN alone.
func (g *gateway) captures(t *testing.T, from *ns, ifc, gwIf string) {
	t.Helper()
	for name, p := range syns(46300) {
		if got := g.leakedFrom(from, ifc, gwIf, "10.0.1.2", p.packets()...); len(got) > 0 {
			t.Errorf("%s by %s: reached the server: %v", name, gwIf, got)
		}
		until(t, g.tun, 46300)
	}
}

// A bridge with two ports whose frames netfilter sees (br_netfilter): what is routed is
// captured as ever, and what would be switched from one port to the other is dropped.
func TestBridgeNetfilter(t *testing.T) {
	l := newLab(t)
	if _, err := l.gw.command("sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1"); err != nil {
		t.Skip("this kernel has no br_netfilter")
	}
	l.gw.script(`ip link add br0 type bridge; ip link set br0 up
ip addr flush dev g0; ip addr flush dev o0; ip addr add 10.0.1.1/24 dev br0; ip addr add fd00:1::1/64 dev br0 nodad
ip link set g0 master br0; ip link set o0 master br0`)
	l.setMAC(l.gw, "br0", "br0")
	l.setMAC(l.other, "x0", "x0")
	cfg := testConfig()
	cfg.Interfaces = []string{"br0"}
	g := &gateway{lab: l}
	g.open(t)
	g.gw.do(func() (err error) { g.steer, err = Steer(cfg, zap.NewNop()); return err })
	t.Cleanup(func() { _ = g.steer.Close(false) })
	g.captures(t, g.client, "c0", "br0")

	across := newSniffer(t, g.other, "x0")
	switched := func() []string {
		g.sport++
		for _, p := range []packet{
			{src: "10.0.1.2", dst: "10.0.3.2", proto: unix.IPPROTO_TCP, sport: 46400, dport: 443},
			{src: "fd00:1::2", dst: "fd00:3::2", proto: unix.IPPROTO_TCP, sport: 46400, dport: 8443},
			{src: "10.0.1.2", dst: "10.0.3.2", proto: unix.IPPROTO_TCP, sport: 46400, dport: 443, fragment: 8},
		} {
			g.send(g.client, "c0", "x0", p.packets()...)
		}
		g.send(g.client, "c0", "x0", packet{src: "10.0.1.2", dst: "10.0.3.2", proto: unix.IPPROTO_UDP, sport: g.sport, dport: 9}.bytes())
		var tcp []string
		for _, p := range until(t, across.got, g.sport) {
			if i := parse(p); i.proto == unix.IPPROTO_TCP {
				tcp = append(tcp, i.String())
			}
		}
		return tcp
	}
	said := func() (text string) {
		g.gw.do(func() error {
			all, err := CheckInterfaces([]string{"br0"}, nil, "t0")
			for _, t := range all {
				text += t.String()
			}
			return err
		})
		return text
	}
	if got := said(); got != "" {
		t.Errorf("with br_netfilter: %s", got)
	}
	if got := switched(); len(got) > 0 {
		t.Errorf("switched past the gateway: %v", got)
	}
	g.gw.run("sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0")
	if got := switched(); len(got) == 0 {
		t.Error("without br_netfilter nothing was switched: this tests nothing")
	}
	if got := said(); !strings.Contains(got, "the bridge br0 switches from one of its ports to another (") || !strings.Contains(got, "IPv4 and IPv6 of it passes") {
		t.Errorf("without br_netfilter: %q", got)
	}
	g.gw.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1")
	if got := said(); !strings.Contains(got, "and IPv6 of it passes") {
		t.Errorf("for IPv4 alone: %q", got)
	}
	g.captures(t, g.client, "c0", "br0")
}

// A macvlan on a captured interface takes packets off it, which are captured too.
func TestMacvlan(t *testing.T) {
	g := newGateway(t, testConfig())
	g.watch(t)
	g.gw.script("ip link add mv0 link g0 type macvlan mode bridge; ip link set mv0 up")
	g.setMAC(g.gw, "mv0", "mv0")
	g.looseFilter()
	within(t, func() string {
		if now := g.gw.run("nft list set inet sslgate captured"); !strings.Contains(now, "mv0") {
			return now
		}
		return ""
	})
	g.captures(t, g.client, "c0", "mv0")
	if got := g.leakedFrom(g.client, "c0", "mv0", "10.0.1.2", quic(9)...); len(got) > 0 {
		t.Errorf("QUIC reached the server: %v", got)
	}
}

// Packets out of a tunnel that ends here are captured if the tunnel's interface is. If
// not, TCP to captured ports is dropped, with or without a captured link below the
// tunnel.
func TestTunnelEndsHere(t *testing.T) {
	for _, captured := range []string{"vx0", "g0"} {
		t.Run(captured+" is captured", func(t *testing.T) {
			l := newLab(t)
			vxlan := "ip link add vx0 type vxlan id 5 dstport 4789 local 10.0.1.%d remote 10.0.1.%d dev %s; ip link set vx0 up"
			l.client.script(fmt.Sprintf(vxlan, 2, 1, "c0"))
			l.gw.script(fmt.Sprintf(vxlan, 1, 2, "g0"))
			l.setMAC(l.gw, "vx0", "vx0")
			l.looseFilter()
			cfg := testConfig()
			cfg.Interfaces = []string{captured}
			g := &gateway{lab: l}
			g.open(t)
			g.gw.do(func() (err error) { g.steer, err = Steer(cfg, zap.NewNop()); return err })
			t.Cleanup(func() { _ = g.steer.Close(false) })
			if captured == "vx0" {
				g.captures(t, g.client, "vx0", "vx0")
				return
			}
			for name, p := range syns(46500) {
				if got := g.leakedFrom(g.client, "vx0", "vx0", "10.0.1.2", p.packets()...); len(got) > 0 {
					t.Errorf("%s: reached the server: %v", name, got)
				}
			}
		})
	}
}

// Two captured interfaces: a client that takes an address of the other link, a flow that
// moves to the other interface, a flow from one to the other. All of them go into the
// TUN.
func TestSeveralInterfaces(t *testing.T) {
	cfg := testConfig()
	cfg.Interfaces = []string{"g0", "o0"}
	g := newGateway(t, cfg)
	g.warm()
	g.looseFilter()
	across := newSniffer(t, g.other, "x0")
	sport := uint16(46600)
	for _, f := range []struct{ src, dst, across string }{{"10.0.1.2", "10.0.2.2", "10.0.3.2"}, {"fd00:1::2", "fd00:2::2", "fd00:3::2"}} {
		for _, dst := range []string{f.dst, f.across} {
			for _, flags := range []byte{0x02, 0x10, 0x18, 0x11} {
				for _, ifc := range []string{"g0", "o0"} {
					sport++
					p := packet{src: f.src, dst: dst, proto: unix.IPPROTO_TCP, sport: sport, dport: 443, flags: flags}
					from, at := g.client, "c0"
					if ifc == "o0" {
						from, at = g.other, "x0"
					}
					if got := g.leakedFrom(from, at, ifc, "10.0.1.2", p.bytes()); len(got) > 0 {
						t.Errorf("%s %#x by %s: reached the server: %v", dst, flags, ifc, got)
					}
					until(t, g.tun, sport)
					if flags == 0x02 { // it goes on by the other one
						p.flags = 0x18
						if ifc == "g0" {
							g.send(g.other, "x0", "o0", p.bytes())
						} else {
							g.send(g.client, "c0", "g0", p.bytes())
						}
						until(t, g.tun, sport)
					}
				}
			}
		}
	}
	for len(across.got) > 0 {
		if i := parse(<-across.got); i.proto == unix.IPPROTO_TCP {
			t.Errorf("went across: %v", i)
		}
	}
}

// echo says what it hears at an address of the namespace.
func (n *ns) echo(address string) {
	n.t.Helper()
	var ln net.Listener
	n.do(func() (err error) { ln, err = net.Listen("tcp", address); return err })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				b := make([]byte, 1)
				for {
					if _, err := c.Read(b); err != nil {
						return
					}
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	n.t.Cleanup(func() { _ = ln.Close(); <-done })
}

func (n *ns) dial(address string, from *net.TCPAddr, timeout time.Duration) (net.Conn, error) {
	var c net.Conn
	err := n.try(func() (err error) {
		d := net.Dialer{Timeout: timeout, FallbackDelay: -1}
		if from != nil {
			d.LocalAddr = from
		}
		c, err = d.Dial("tcp", address)
		return err
	})
	return c, err
}

func alive(t *testing.T, what string, c net.Conn, err error) {
	t.Helper()
	if err == nil {
		_ = c.SetDeadline(testenv.Deadline())
		b := []byte{'x'}
		if _, err = c.Write(b); err == nil {
			_, err = c.Read(b)
		}
	}
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// With every port captured, connections under the clients' addresses and an exempt
// interface, nobody is locked out of the host's excepted service, not even older
// sessions, and everything passes from the exempt interface.
func TestAllPortsLockNobodyOut(t *testing.T) {
	l := newLab(t)
	cfg := sourceConfig()
	cfg.AllPorts, cfg.Ports, cfg.Local, cfg.ExceptPorts, cfg.Exempt = true, nil, true, []uint16{22}, []string{"o0"}
	l.gw.echo(":22")
	l.server.echo(":443")
	l.server.echo(":22")
	old, err := l.client.dial("10.0.1.1:22", nil, testenv.Patience())
	alive(t, "a session of before", old, err)
	if err != nil {
		t.FailNow()
	}
	defer func() { _ = old.Close() }()
	g := &gateway{lab: l}
	g.open(t)
	g.gw.do(func() (err error) { g.steer, err = Steer(cfg, zap.NewNop()); return err })
	t.Cleanup(func() { _ = g.steer.Close(false) })
	alive(t, "a session of before, now", old, nil)
	for _, way := range []struct {
		from    *ns
		address string
	}{
		{l.client, "10.0.1.1:22"}, {l.client, "[fd00:1::1]:22"}, {l.client, "10.0.2.1:22"},
		{l.other, "10.0.3.1:22"}, {l.other, "[fd00:3::1]:22"},
		{l.other, "10.0.2.2:443"}, {l.other, "[fd00:2::2]:443"}, {l.other, "10.0.2.2:22"},
	} {
		c, err := way.from.dial(way.address, nil, testenv.Patience())
		alive(t, way.from.name+" to "+way.address, c, err)
		if err == nil {
			_ = c.Close()
		}
	}
	for _, address := range []string{"10.0.2.2:22", "10.0.2.2:443", "10.0.1.1:443"} {
		if c, err := l.client.dial(address, nil, 200*time.Millisecond); err == nil {
			_ = c.Close()
			t.Errorf("the client reached %s", address)
		}
	}
}

// Client and server open towards each other at once (RFC 9293, section 3.5), the server
// from its captured port: no connection past the gateway results.
func TestSimultaneousOpen(t *testing.T) {
	g := newGateway(t, testConfig())
	g.warm()
	for i, port := range []int{443, 8443} {
		mine := 45100 + i
		result := make(chan error, 2)
		go func() {
			c, err := g.server.dial(fmt.Sprintf("10.0.1.2:%d", mine), &net.TCPAddr{IP: net.IPv4(10, 0, 2, 2), Port: port}, 1500*time.Millisecond)
			if err == nil {
				_ = c.Close()
			}
			result <- err
		}()
		go func() {
			c, err := g.client.dial(fmt.Sprintf("10.0.2.2:%d", port), &net.TCPAddr{IP: net.IPv4(10, 0, 1, 2), Port: mine}, 1500*time.Millisecond)
			if err == nil {
				_ = c.Close()
			}
			result <- err
		}()
		for range 2 {
			if err := <-result; err == nil {
				t.Errorf("port %d: a connection past the gateway", port)
			}
		}
	}
}

// This host gets answers to its own UDP to a captured port, though QUIC of clients is
// refused.
func TestOwnUDPIsAnswered(t *testing.T) {
	all := testConfig()
	all.AllPorts, all.Ports = true, nil
	for name, cfg := range map[string]SteerConfig{"ports": testConfig(), "all ports": all} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, cfg)
			for _, f := range []struct{ me, peer string }{{"10.0.1.1", "10.0.1.2"}, {"fd00:1::1", "fd00:1::2"}} {
				var c net.Conn
				g.gw.do(func() (err error) { c, err = net.Dial("udp", net.JoinHostPort(f.peer, "443")); return err })
				if _, err := c.Write([]byte("?")); err != nil {
					t.Fatal(err)
				}
				local := c.LocalAddr().(*net.UDPAddr)
				g.send(g.client, "c0", "g0", packet{src: f.peer, dst: f.me, proto: unix.IPPROTO_UDP, sport: 443, dport: uint16(local.Port), payload: []byte("!")}.bytes())
				_ = c.SetDeadline(testenv.Deadline())
				b := make([]byte, 4)
				for {
					n, err := c.Read(b)
					if err != nil && strings.Contains(err.Error(), "refused") {
						continue // the client has nobody at that port, and says so
					}
					if err != nil || string(b[:n]) != "!" {
						t.Errorf("%s: %q, %v", f.peer, b[:n], err)
					}
					break
				}
				_ = c.Close()
			}
		})
	}
}
