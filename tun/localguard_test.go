package tun

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"go.uber.org/zap"
)

// listenIn serves an echo in the namespace; what it accepts is sent.
func listenIn(t *testing.T, n *ns, addr string) <-chan net.Conn {
	t.Helper()
	var ln net.Listener
	n.do(func() (err error) {
		ln, err = net.Listen("tcp", addr)
		return err
	})
	got := make(chan net.Conn, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			got <- c
		}
	}()
	t.Cleanup(func() {
		_ = ln.Close()
		<-done
		for {
			select {
			case c := <-got:
				_ = c.Close()
			default:
				return
			}
		}
	})
	return got
}

func dialIn(n *ns, addr string, timeout time.Duration) (c net.Conn, err error) {
	err = n.try(func() (err error) {
		c, err = net.DialTimeout("tcp", addr, timeout)
		return err
	})
	return c, err
}

// wordsBetween sends a word each way.
func wordsBetween(a, b net.Conn) error {
	for _, c := range [][2]net.Conn{{a, b}, {b, a}} {
		if _, err := io.WriteString(c[0], "word"); err != nil {
			return err
		}
		_ = c[1].SetReadDeadline(testenv.Deadline())
		if _, err := io.ReadFull(c[1], make([]byte, 4)); err != nil {
			return err
		}
	}
	return nil
}

// Connections to this host's own services that are older than the guard end: the
// kernel hands their packets to the socket before it asks any rule of routing.
func TestLocalOlderFlows(t *testing.T) {
	for name, local := range map[string]bool{"guard alone": false, "captured": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			type pair struct{ client, server net.Conn }
			var pairs []pair
			for _, addr := range []string{"10.0.1.1:443", "[fd00:1::1]:443", "10.0.2.1:8443"} {
				got := listenIn(t, l.gw, addr)
				c, err := dialIn(l.client, addr, testenv.Patience())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				p := pair{c, <-got}
				defer p.server.Close()
				if err := wordsBetween(p.client, p.server); err != nil {
					t.Fatal(err)
				}
				pairs = append(pairs, p)
			}
			if local {
				g := &gateway{lab: l}
				g.open(t)
				l.gw.do(func() (err error) {
					g.steer, err = Steer(localConfig(), zap.NewNop())
					return err
				})
				t.Cleanup(func() { _ = g.steer.Close(false) })
			} else {
				l.gw.do(func() error { return Guard(testConfig()) })
			}
			for _, p := range pairs {
				_, _ = io.WriteString(p.server, "from the server first") // what connection tracking sees first
				_, _ = io.WriteString(p.client, "more")
				_ = p.server.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
				if n, err := p.server.Read(make([]byte, 4)); n > 0 {
					t.Errorf("%s: the service read %d bytes more (%v)", p.server.LocalAddr(), n, err)
				}
				if local {
					continue // the stack behind the TUN tells the client
				}
				_ = p.client.SetReadDeadline(testenv.Deadline())
				if _, err := io.Copy(io.Discard, p.client); err != nil && strings.Contains(err.Error(), "timeout") {
					t.Errorf("%s: the client was not told: %v", p.server.LocalAddr(), err)
				}
			}
		})
	}
}

// With all ports captured, this host's own outgoing connections go on, by whatever
// interface the answers come in. Its excepted ports are reached, others are not.
func TestLocalAllPorts(t *testing.T) {
	cfg := localConfig()
	cfg.Ports, cfg.AllPorts, cfg.ExceptPorts = nil, true, []uint16{22, 2222}
	g := newGateway(t, cfg)
	for _, addr := range []string{"10.0.1.2:9000", "[fd00:1::2]:9000"} {
		got := listenIn(t, g.client, addr) // behind the captured interface
		c, err := dialIn(g.gw, addr, testenv.Patience())
		if err != nil {
			t.Errorf("this host's own connection to %s: %v", addr, err)
			continue
		}
		server := <-got
		if err := wordsBetween(c, server); err != nil {
			t.Errorf("this host's own connection to %s: %v", addr, err)
		}
		_, _ = c.Close(), server.Close()
	}
	for _, addr := range []string{"10.0.1.1:22", "[fd00:1::1]:2222", "10.0.2.1:22"} {
		got := listenIn(t, g.gw, addr)
		c, err := dialIn(g.client, addr, testenv.Patience())
		if err != nil {
			t.Errorf("excepted %s: %v", addr, err)
			continue
		}
		server := <-got
		if err := wordsBetween(c, server); err != nil {
			t.Errorf("excepted %s: %v", addr, err)
		}
		_, _ = c.Close(), server.Close()
	}
	for _, p := range localSYNs(62000) {
		g.send(g.client, "c0", "g0", p)
		until(t, g.tun, 62000)
	}
}

// A DNAT of this host to one of its own ports, or to a container's port, that is not
// captured does not evade the guard alone.
func TestGuardBehindDNAT(t *testing.T) {
	l := newLab(t)
	for i, to := range []string{"10.0.1.1:7777", "10.0.2.2:7777"} {
		l.gw.run("nft add table ip others")
		l.gw.run("nft add chain ip others pre { type nat hook prerouting priority dstnat ; }")
		l.gw.run("nft add rule ip others pre iifname g0 tcp dport 443 dnat to " + to)
		at, host := l.gw, "10.0.1.1:7777"
		if i == 1 {
			at, host = l.server, "10.0.2.2:7777"
		}
		got := listenIn(t, at, host)
		c, err := dialIn(l.client, "10.0.1.1:443", testenv.Patience())
		if err != nil {
			t.Fatalf("without a guard: %v", err)
		}
		_ = c.Close()
		_ = (<-got).Close()
		l.gw.do(func() error { return Guard(testConfig()) })
		if c, err := dialIn(l.client, "10.0.1.1:443", 2*time.Second); err == nil {
			_ = c.Close()
			t.Errorf("through a DNAT to %s a client came past the guard", to)
		}
		l.gw.do(func() error { return Release(testConfig()) })
		l.gw.run("nft delete table ip others")
	}
}

// A forged packet cannot make a client's connection look like one that this host has
// opened: neither a SYN "from this host" that it forwards, nor one of the host's own
// packets without a SYN.
func TestLocalForgedDirection(t *testing.T) {
	l := newLab(t)
	got := listenIn(t, l.gw, "[fd00:1::1]:443")
	l.gw.do(func() error { return Guard(testConfig()) })
	forged := packet{src: "fd00:1::1", dst: "fd00:1::2", proto: 6, sport: 443, dport: 45000}
	l.send(l.other, "x0", "o0", forged.bytes())
	l.send(l.server, "s0", "g1", forged.bytes())
	l.send(l.client, "c0", "g0", forged.bytes())
	var c net.Conn
	err := l.client.try(func() (err error) {
		d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP("fd00:1::2"), Port: 45000}}
		c, err = d.Dial("tcp", "[fd00:1::1]:443")
		return err
	})
	if err == nil {
		_ = c.Close()
		t.Error("a client came past the guard as an answer")
	}
	select {
	case c := <-got:
		_ = c.Close()
		t.Error("the service accepted it")
	default:
	}
}

// A host that forwards from the captured interface alone captures what is delivered
// to it, and answers come back to the client.
func TestLocalForwardingAlone(t *testing.T) {
	g := newGateway(t, localConfig())
	g.gw.run("sysctl -qw net.ipv4.ip_forward=0")
	g.gw.run("sysctl -qw net.ipv4.conf.g0.forwarding=1 net.ipv4.conf.t0.forwarding=1")
	g.gw.do(func() error { return CheckForwarding("g0") })
	g.send(g.client, "c0", "g0", localSYNs(62100)[0])
	until(t, g.tun, 62100)
	back := newSniffer(t, g.client, "c0")
	g.write(t, packet{src: "10.0.1.1", dst: "10.0.1.2", proto: 6, sport: 443, dport: 62100, synack: true}.bytes())
	until(t, back.got, 443)
}
