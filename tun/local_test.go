package tun

import (
	"strings"
	"testing"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

func localConfig() SteerConfig {
	cfg := testConfig()
	cfg.Local = true
	return cfg
}

// localSYNs are SYNs to captured ports of the host itself: its address on the
// captured interface and on another one.
func localSYNs(sport uint16) [][]byte {
	var all [][]byte
	for _, dst := range []string{"10.0.1.1", "10.0.2.1", "fd00:1::1", "fd00:2::1"} {
		src := "10.0.1.2"
		if strings.Contains(dst, ":") {
			src = "fd00:1::2"
		}
		all = append(all, packet{src: src, dst: dst, proto: unix.IPPROTO_TCP, sport: sport, dport: 443}.bytes())
	}
	return all
}

// localTables says where each family asks the local table.
func localTables(n *ns) string {
	var all []string
	for _, line := range []string{"ip rule", "ip -6 rule"} {
		for l := range strings.Lines(n.run(line)) {
			if strings.Contains(l, "from all lookup local") {
				pref, _, _ := strings.Cut(l, ":")
				all = append(all, pref)
			}
		}
	}
	return strings.Join(all, " ")
}

// Packets to the host itself go into the TUN, by any of its addresses. The local table is
// back in its place at the end, also after a crash and where somebody has changed the
// rules.
func TestLocalCaptured(t *testing.T) {
	g := newGateway(t, localConfig())
	g.watch(t)
	captured := func(when string, sport uint16) {
		t.Helper()
		for i, p := range localSYNs(sport) {
			g.send(g.client, "c0", "g0", p)
			if got := parse(<-g.tun); got.sport != sport {
				t.Errorf("%s: %d: %v in the TUN", when, i, got)
			}
		}
	}
	if now := localTables(g.gw); now != "3 3" {
		t.Errorf("the local table is asked at %q", now)
	}
	captured("started", 61000)
	for i, lines := range [][]string{
		{"ip rule add pref 0 lookup local", "ip -6 rule add pref 0 lookup local"},
		{"ip rule flush", "ip rule add pref 32766 lookup main", "ip -6 rule flush", "ip -6 rule add pref 32766 lookup main"},
		{"ip rule del pref 2", "ip -6 rule del pref 2"},
		{"ip rule del pref 3", "ip -6 rule del pref 3"},
		{"ip rule add pref 0 lookup local", "ip rule del pref 3"},
	} {
		repairs := g.steer.Repairs()
		for _, line := range lines {
			_, _ = g.gw.command(line)
		}
		within(t, func() string {
			if now := localTables(g.gw); now != "3 3" || g.steer.Repairs() == repairs {
				return "the local table is asked at " + now
			}
			if now := g.gw.run("ip rule") + g.gw.run("ip -6 rule"); strings.Count(now, "2:\tfrom all fwmark 0x10") != 2 {
				return now
			}
			return ""
		})
		captured(strings.Join(lines, "; "), uint16(61001+i))
	}
}

// The local table is back at the front after an orderly end, after Release, and
// where the next configuration does not ask for it; a crash leaves it moved.
func TestLocalRestored(t *testing.T) {
	l := newLab(t)
	g := &gateway{lab: l}
	g.open(t)
	before := rulesOf(l.gw.state())
	steer := func(cfg SteerConfig) {
		t.Helper()
		l.gw.do(func() (err error) {
			g.steer, err = Steer(cfg, zap.NewNop())
			return err
		})
		if now := localTables(l.gw); cfg.Local && now != "3 3" {
			t.Errorf("the local table is asked at %q", now)
		}
	}
	for _, open := range []bool{false, true} {
		steer(localConfig())
		l.gw.do(func() error { return g.steer.Close(open) })
		if now := localTables(l.gw); now != "0 0" {
			t.Errorf("closed, open %t: the local table is asked at %q", open, now)
		}
	}
	if after := rulesOf(l.gw.state()); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	steer(localConfig()) // and dies
	steer(localConfig()) // takes over, and dies
	steer(testConfig())
	if now := localTables(l.gw); now != "0 0" {
		t.Errorf("no longer asked for: the local table is asked at %q", now)
	}
	steer(localConfig()) // and dies
	_ = g.dev.Close()
	l.gw.do(func() error { return Guard(localConfig()) })
	l.gw.do(func() error { return Release(localConfig()) })
	if after := rulesOf(l.gw.state()); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// Where somebody else has moved the local table, it stays there; rules of others
// before ours are refused.
func TestLocalWithOthers(t *testing.T) {
	l := newLab(t)
	g := &gateway{lab: l}
	g.open(t)
	for _, line := range []string{"ip rule add pref 100 lookup local", "ip rule del pref 0"} {
		l.gw.run(line)
	}
	l.gw.do(func() (err error) {
		g.steer, err = Steer(localConfig(), zap.NewNop())
		return err
	})
	if now := localTables(l.gw); now != "100 3" {
		t.Errorf("the local table is asked at %q", now)
	}
	l.gw.do(func() error { return g.steer.Close(true) })
	if now := localTables(l.gw); now != "100 0" {
		t.Errorf("the local table is asked at %q", now)
	}
	for _, rule := range []string{"pref 1 from 10.9.0.0/16 lookup main", "pref 3 fwmark 0x1 lookup main", "pref 0 iif o0 lookup main"} {
		l.gw.run("ip rule add " + rule)
		err := l.gw.try(func() error {
			s, err := Steer(localConfig(), zap.NewNop())
			if err == nil {
				_ = s.Close(true)
			}
			return err
		})
		if err == nil || !strings.Contains(err.Error(), "local: {in: false}") {
			t.Errorf("%s: %v", rule, err)
		}
		l.gw.run("ip rule del " + rule)
	}
}
