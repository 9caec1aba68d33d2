package tun

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// guarded sends every SYN from the client and expects nothing at the server.
func (l *lab) guarded(t *testing.T, when string) {
	t.Helper()
	l.sport++
	sport := l.sport
	for name, p := range syns(sport) {
		if got := l.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("%s: %s reached the server: %v", when, name, got)
		}
	}
	for name, p := range brokenSYNs(sport) {
		if got := l.leaked("g0", p.packets()...); len(got) > 0 {
			t.Errorf("%s: %s reached the server: %v", when, name, got)
		}
	}
}

// passes sends plain SYNs from the client and expects them at the server.
func (l *lab) passes(t *testing.T) {
	t.Helper()
	for _, name := range []string{"v4", "v6", "v4 fragments"} {
		l.sport++
		l.send(l.client, "c0", "g0", syns(l.sport)[name].packets()...)
		until(t, l.sniff.got, l.sport)
	}
	l.leaked("g0") // takes what is left of the fragments
}

// TestGuardAlone: before the first start nothing passes, also where the
// interface does not exist yet when the guard is set.
func TestGuardAlone(t *testing.T) {
	l := newLab(t)
	before := l.gw.state()
	l.passes(t)
	l.gw.do(func() error { return Guard(testConfig()) })
	l.guarded(t, "guard")
	l.gw.do(func() error { return Guard(testConfig()) }) // again is no mistake
	l.guarded(t, "guard, set twice")

	l.gw.run("ip link delete g0")
	l.gw.do(func() error { return Guard(testConfig()) })
	l.wire("g0", l.client, "c0", 1)
	l.guarded(t, "interface made after the guard")
	l.gw.run("ip link delete g0")
	l.wire("h0", l.client, "c0", 1)
	l.macs["g0"] = l.macs["h0"]
	l.guarded(t, "interface with another name")
	l.gw.run("ip link delete h0")
	l.wire("g0", l.client, "c0", 1)

	l.gw.do(func() error { return Release(testConfig()) })
	l.passes(t)
	l.gw.do(func() error { return Release(testConfig()) }) // again is no mistake
	if a, b := rulesOf(before), rulesOf(l.gw.state()); a != b {
		t.Errorf("before:\n%s\nafter:\n%s", a, b)
	}
}

// rulesOf is a state without the routes, which differ by the interfaces made anew.
func rulesOf(state string) string {
	s, _, _ := strings.Cut(state, "# ip route")
	return s
}

// TestGuardOtherInterfaces: only what is exempt passes uninspected, answers do.
func TestGuardOtherInterfaces(t *testing.T) {
	syn := packet{src: "10.0.3.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: 56000, dport: 443}
	cfg := testConfig()
	l := newLab(t)
	l.gw.do(func() error { return Guard(cfg) })
	if got := l.leakedFrom(l.other, "x0", "o0", "10.0.3.2", syn.bytes()); len(got) > 0 {
		t.Errorf("not exempt: reached the server: %v", got)
	}
	// A connection from a captured port to one that is not: its answers go to
	// a captured port, and pass.
	out := packet{src: "10.0.3.2", dst: "10.0.2.2", proto: unix.IPPROTO_TCP, sport: 443, dport: 80}
	back := newSniffer(t, l.other, "x0")
	l.send(l.other, "x0", "o0", out.bytes())
	until(t, l.sniff.got, 443)
	answer := packet{src: "10.0.2.2", dst: "10.0.3.2", proto: unix.IPPROTO_TCP, sport: 80, dport: 443, synack: true}
	l.send(l.server, "s0", "g1", answer.bytes())
	until(t, back.got, 80)

	cfg.Exempt = []string{"o0"}
	l.gw.do(func() error { return Guard(cfg) })
	syn.sport++
	l.send(l.other, "x0", "o0", syn.bytes())
	until(t, l.sniff.got, syn.sport)
	l.guarded(t, "another is exempt")

	// A captured interface that takes the name of the exempt one is captured.
	l.gw.run("ip link delete o0")
	l.gw.run("ip link set g0 down")
	l.gw.run("ip link set g0 name o0")
	l.gw.run("ip link set o0 up")
	l.gw.run("ip addr add fd00:1::1/64 dev o0 nodad")
	l.guarded(t, "the captured one has the name of the exempt one")
}

// TestCloseRemovesExactly: what was there before is there again.
func TestCloseRemovesExactly(t *testing.T) {
	l := newLab(t)
	for _, line := range []string{
		"nft add table inet filter", "nft add chain inet filter forward { type filter hook forward priority 0 ; }",
		"nft add rule inet filter forward tcp dport 443 counter", "nft add table ip sslgate",
		"ip rule add pref 5519 fwmark 0x1 lookup 5520", "ip route add 203.0.113.0/24 via 10.0.2.2 table 5519",
		"ip -6 route add 2001:db8::/32 via fd00:2::2 table 5519",
	} {
		l.gw.run(line)
	}
	before := l.gw.state()
	g := &gateway{lab: l}
	steer := func(cfg SteerConfig) {
		t.Helper()
		l.gw.do(func() (err error) {
			g.steer, err = Steer(cfg, zap.NewNop())
			return err
		})
	}
	g.open(t)
	withTUN := l.gw.state()
	steer(testConfig())

	t.Run("open", func(t *testing.T) {
		l.gw.do(func() error { return g.steer.Close(true) })
		if after := l.gw.state(); normal(after) != normal(withTUN) {
			t.Errorf("before:\n%s\nafter:\n%s", withTUN, after)
		}
		l.passes(t)
		if err := g.steer.Close(true); err != nil {
			t.Errorf("closing again: %v", err)
		}
	})
	t.Run("closed", func(t *testing.T) {
		steer(testConfig())
		l.gw.do(func() error { return g.steer.Close(false) })
		l.guarded(t, "closed, device still there")
	})
	t.Run("leftovers adopted", func(t *testing.T) {
		old := testConfig()
		old.Mark, old.Mask, old.Table, old.Preference = 0x77, 0xffffffff, 77, 77
		steer(old) // and dies
		steer(testConfig())
		now := l.gw.state()
		for _, s := range []string{"lookup 77", "table 77", "0x77"} {
			if strings.Contains(now, s) {
				t.Errorf("%q is left of the earlier run:\n%s", s, now)
			}
		}
		if n := strings.Count(now, "lookup 5519"); n != 6 { // mark and two ports, v4 and v6
			t.Errorf("%d rules, want 6:\n%s", n, now)
		}
		sport := uint16(57000)
		l.send(l.client, "c0", "g0", syns(sport)["v4"].bytes())
		until(t, g.tun, sport)
	})
	t.Run("released", func(t *testing.T) {
		_ = g.dev.Close() // as if killed
		l.gw.do(func() error { return Release(testConfig()) })
		if after := l.gw.state(); normal(after) != normal(before) {
			t.Errorf("before:\n%s\nafter:\n%s", before, after)
		}
	})
}

func TestManyPorts(t *testing.T) {
	cfg := testConfig()
	cfg.Ports = nil
	for p := range 3000 {
		cfg.Ports = append(cfg.Ports, uint16(2*p+443))
	}
	g := newGateway(t, cfg)
	p := syns(58000)["v6"]
	p.dport = 443 + 2*2999
	g.send(g.client, "c0", "g0", p.bytes())
	until(t, g.tun, 58000)
	if n := strings.Count(g.gw.run("ip rule"), "lookup 5519"); n != 1 {
		t.Errorf("%d rules: more than one by mark with so many ports", n)
	}
}

func TestCheckForwarding(t *testing.T) {
	l := newLab(t)
	l.gw.do(func() error { return CheckForwarding("g0", "nosuch0") })
	check := func(want string) {
		t.Helper()
		err := l.gw.try(func() error { return CheckForwarding("g0") })
		if err == nil || !strings.Contains(err.Error(), "sysctl -w "+want) {
			t.Errorf("%v, want it to name %s", err, want)
		}
	}
	l.gw.run("sysctl -qw net.ipv6.conf.g0.forwarding=0") // Linux asks all alone
	l.gw.do(func() error { return CheckForwarding("g0") })
	l.gw.run("sysctl -qw net.ipv6.conf.all.forwarding=0")
	check("net/ipv6/conf/all/forwarding=1")
	l.gw.run("sysctl -qw net.ipv4.ip_forward=0")
	check("net/ipv4/ip_forward=1")
	l.gw.run("sysctl -qw net.ipv4.ip_forward=1")
	for _, lines := range [][]string{
		{"ip -6 addr del fd00:1::1/64 dev g0"},                                         // its link-local address stays
		{"ip -6 addr add fd00:1::1/64 dev g0 nodad valid_lft 9000 preferred_lft 9000"}, // as an advertisement gives it
		{"ip -6 addr add fd00:1::1/128 dev lo"},
		{"sysctl -qw net.ipv6.conf.g0.disable_ipv6=1"},
		{"sysctl -qw net.ipv6.conf.all.disable_ipv6=1"},
	} {
		for _, line := range lines {
			l.gw.run(line)
		}
		if err := l.gw.try(func() error { return CheckForwarding("g0") }); err != nil {
			t.Errorf("IPv4 alone, %v: %v", lines, err)
		}
	}
	l.gw.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=0")
	l.gw.run("ip -6 addr add 2001:db8::1/64 dev g0 nodad")
	check("net/ipv6/conf/all/forwarding=1")
}
