package tun

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// oneArmed makes routes whose next router is on the client's own link.
func (l *lab) oneArmed() {
	mac := strings.Fields(l.client.run("ip -br link show c0"))[2]
	for _, line := range []string{
		"ip neigh replace 10.0.1.3 lladdr " + mac + " dev g0", "ip route replace 10.0.9.0/24 via 10.0.1.3",
		"ip -6 neigh replace fe80::3 lladdr " + mac + " dev g0", "ip -6 route replace fd00:9::/64 via fe80::3 dev g0",
	} {
		l.gw.run(line)
	}
}

// redirects sends packets that the gateway forwards by the interface on which they came
// in, and returns the redirects that the client gets. Each packet has a source of its
// own, because the kernel bounds redirects by source. With both it waits for one of each
// protocol, without it long enough to see one that should not come.
func (l *lab) redirects(back *sniffer, gwIf string, both bool) []string {
	mac := strings.Fields(l.client.run("ip -br link show c0"))[2]
	l.sport++
	src4, src6 := fmt.Sprintf("10.0.1.%d", 10+l.sport%200), fmt.Sprintf("fd00:1::%x", l.sport)
	l.gw.run("ip neigh replace " + src4 + " lladdr " + mac + " dev " + gwIf)
	l.gw.run("ip neigh replace " + src6 + " lladdr " + mac + " dev " + gwIf)
	l.send(l.client, "c0", "g0",
		packet{src: src4, dst: "10.0.9.9", proto: unix.IPPROTO_UDP, sport: 100, dport: 53}.bytes(),
		packet{src: src6, dst: "fd00:9::9", proto: unix.IPPROTO_UDP, sport: 100, dport: 53}.bytes())
	l.leaked("g0")
	var got []string
	patience := 50 * time.Millisecond
	if both {
		patience = testenv.Patience()
	}
	for quiet := time.After(patience); ; {
		if both && slices.Contains(got, "protocol 1") && slices.Contains(got, "protocol 58") {
			return got
		}
		select {
		case p := <-back.got:
			i := parse(p)
			if len(i.body) > 0 && (i.proto == unix.IPPROTO_ICMP && i.body[0] == 5 || i.proto == unix.IPPROTO_ICMPV6 && i.body[0] == 137) {
				got = append(got, fmt.Sprintf("protocol %d", i.proto))
			}
			continue
		case <-quiet:
		}
		return got
	}
}

// Captured interfaces are sent no redirects, whatever the sysctls say.
func TestNoRedirects(t *testing.T) {
	l := newLab(t)
	l.oneArmed()
	back := newSniffer(t, l.client, "c0")
	l.gw.run("sysctl -qw net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.g0.send_redirects=1")
	if got := strings.Join(l.redirects(back, "g0", true), " "); !strings.Contains(got, "protocol 1") || !strings.Contains(got, "protocol 58") {
		t.Fatalf("without the guard the client is sent %q, want both kinds", got)
	}
	name := "g0"
	none := func(when string) {
		t.Helper()
		if got := l.redirects(back, name, false); len(got) > 0 {
			t.Errorf("%s: the client is sent redirects: %v", when, got)
		}
	}
	l.gw.do(func() error { return Guard(testConfig()) })
	none("guard")
	g := &gateway{lab: l}
	g.open(t)
	l.gw.do(func() (err error) { g.steer, err = Steer(testConfig(), zap.NewNop()); return err })
	none("steered")
	l.gw.run("sysctl -qw net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.g0.send_redirects=1")
	none("switched on again")
	l.gw.run("ip link set g0 down")
	l.gw.run("ip link set g0 name h0")
	l.gw.run("ip link set h0 up")
	name = "h0"
	for _, line := range []string{"ip addr replace fd00:1::1/64 dev h0 nodad", "ip neigh replace 10.0.1.3 lladdr 02:00:00:00:00:01 dev h0", "ip route replace 10.0.9.0/24 via 10.0.1.3", "ip neigh replace fe80::3 lladdr 02:00:00:00:00:01 dev h0", "ip -6 route replace fd00:9::/64 via fe80::3 dev h0"} {
		l.gw.run(line)
	}
	none("renamed")
	// Without the gateway the redirects are sent.
	g.stop(true)
	if got := strings.Join(l.redirects(back, name, true), " "); !strings.Contains(got, "protocol 1") || !strings.Contains(got, "protocol 58") {
		t.Errorf("released: the client is sent %q, want both kinds", got)
	}
}

// send_redirects is switched off where it is on, and on again when the steering is
// removed, however the process that switched it off ended. Where it was off it stays off.
func TestSendRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		before, after string // of all, g0 and o0
		then          func(*gateway)
	}{
		"stopped closed":        {"1 1 1", "0 0 1", func(g *gateway) { _ = g.steer.Close(false) }},
		"stopped open":          {"1 1 1", "1 1 1", func(g *gateway) { g.stop(true) }},
		"was off":               {"0 0 1", "0 0 1", func(g *gateway) { g.stop(true) }},
		"one was off":           {"0 1 0", "0 1 0", func(g *gateway) { g.stop(true) }},
		"all was on":            {"1 0 0", "1 0 0", func(g *gateway) { g.stop(true) }},
		"killed, released":      {"1 1 1", "1 1 1", func(g *gateway) { g.release(g.gw.t) }},
		"was off, released":     {"0 0 0", "0 0 0", func(g *gateway) { g.release(g.gw.t) }},
		"killed, started again": {"1 1 1", "1 1 1", func(g *gateway) { _ = g.steer.Close(false); g.steerGRO(g.gw.t, false); g.release(g.gw.t) }},
		"killed, guarded, released": {"1 1 1", "1 1 1", func(g *gateway) {
			_ = g.dev.Close()
			g.gw.do(func() error { return Guard(testConfig()) })
			if got := g.sendRedirects(); got != "0 0 1" {
				g.gw.t.Errorf("guarded: %s", got)
			}
			g.release(g.gw.t)
		}},
		"switched on by somebody": {"0 0 1", "1 1 1", func(g *gateway) {
			g.gw.run("sysctl -qw net.ipv4.conf.all.send_redirects=1 net.ipv4.conf.g0.send_redirects=1")
			g.gw.do(func() error { return g.steer.check() }) // in the namespace, as the process is
			if got := g.sendRedirects(); got != "0 0 1" {
				g.gw.t.Errorf("not repaired: %s", got)
			}
			g.stop(true)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := &gateway{lab: newLab(t)}
			for i, key := range []string{"all", "g0", "o0"} {
				g.gw.run("sysctl -qw net.ipv4.conf." + key + ".send_redirects=" + strings.Fields(c.before)[i])
			}
			g.open(t)
			g.steerGRO(t, false)
			if got := g.sendRedirects(); !strings.HasPrefix(got, "0 0 ") {
				t.Errorf("steered: %s", got)
			}
			c.then(g)
			if got := g.sendRedirects(); got != c.after {
				t.Errorf("all, g0 and o0 are %s, want %s", got, c.after)
			}
			_ = g.steer.Close(false)
		})
	}
}

func (l *lab) sendRedirects() string {
	l.gw.t.Helper()
	return strings.Join(strings.Fields(l.gw.run("sysctl -n net.ipv4.conf.all.send_redirects net.ipv4.conf.g0.send_redirects net.ipv4.conf.o0.send_redirects")), " ")
}

// stop closes the steering in its namespace, as the process does.
func (g *gateway) stop(open bool) {
	g.gw.t.Helper()
	g.gw.do(func() error { return g.steer.Close(open) })
}
