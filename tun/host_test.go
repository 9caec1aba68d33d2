package tun

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// troublesNow lets Watch look once, at the chains of others too.
func (g *gateway) troublesNow() []Trouble {
	g.gw.t.Helper()
	g.gw.do(func() error {
		g.steer.sourcesNext = time.Time{}
		g.steer.lookAtForeign()
		return g.steer.check()
	})
	return g.steer.Troubles()
}

// table makes a table that is written on one line; nft wants a line after each block.
func (n *ns) table(text string) {
	n.t.Helper()
	n.script("nft -f - <<'X'\n" + strings.NewReplacer("; }", ";\n}\n", "{ }", "{\n}\n").Replace(text) + "\nX")
}

// TestForeignChains: a chain of somebody else that surely drops captured packets is told
// while it does, once in the log, and the printed command mends it. Package foreign has
// the tests of what is found.
func TestForeignChains(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testConfig())
	for _, c := range []struct {
		table string
		fatal bool
	}{
		{`table ip t { chain F { type filter hook forward priority 0; policy drop; } }`, true},
		{`table inet t { chain F { type filter hook forward priority 0; iifname "t0" ct state established reject; } }`, true},
		{`table ip6 t { chain F { type filter hook forward priority 0; policy drop; } }`, false},
	} {
		g.gw.table(c.table)
		found := g.troublesNow()
		if len(found) != 1 || !strings.Contains(found[0].Text, "chain F of table") || found[0].Fatal != c.fatal {
			t.Fatalf("%s: %+v", c.table, found)
		}
		if again := g.troublesNow(); !slices.Equal(again, found) {
			t.Errorf("%s: %+v, then %+v", c.table, found, again)
		}
		if n := g.logs.FilterField(zap.String("trouble", found[0].Text)).FilterMessage("captured traffic may be lost").Len(); n != 1 {
			t.Errorf("%s: %d lines in the log", c.table, n)
		}
		g.gw.script(found[0].Fix)
		if left := g.troublesNow(); len(left) > 0 {
			t.Errorf("%s: not mended by %s: %v", c.table, found[0].Fix, left)
		}
		if n := g.logs.FilterField(zap.String("trouble", found[0].Text)).FilterMessage("a trouble with captured traffic is over").Len(); n != 1 {
			t.Errorf("%s: %d lines that it is over", c.table, n)
		}
		g.gw.run("nft delete " + strings.Join(strings.Fields(c.table)[:3], " "))
	}
}

// TestSettingsAreWatched: what was right at the start and is changed while the gateway
// runs is a trouble with the command that mends it.
func TestSettingsAreWatched(t *testing.T) {
	t.Parallel()
	cfg := sourceConfig()
	cfg.Local = true
	g := newGateway(t, cfg)
	some := []string{"answers by the mark of one interface"}
	for _, c := range []struct{ name, fault, says string }{
		{"forwarding of all", "sysctl -qw net.ipv4.ip_forward=0", "IPv4 is not forwarded"},
		{"forwarding of IPv6", "sysctl -qw net.ipv6.conf.all.forwarding=0", "IPv6 is not forwarded"},
		{"forwarding from the interface", "sysctl -qw net.ipv4.conf.g0.forwarding=0", "from g0"},
		{"answers by the mark of one interface", "sysctl -qw net.ipv4.conf.g0.src_valid_mark=1", "g0 has src_valid_mark"},
		{"strict filter by mark", "sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.g0.src_valid_mark=1", "reverse path filter"},
		{"answers by mark", "sysctl -qw net.ipv4.conf.g0.src_valid_mark=0 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.src_valid_mark=1", "under a client's address"},
		{"answers by the mark of one interface", "sysctl -qw net.ipv4.conf.all.src_valid_mark=0 net.ipv4.conf.g1.src_valid_mark=1", "g1 has src_valid_mark"},
		{"forwarding from the TUN", "sysctl -qw net.ipv4.conf.t0.forwarding=0", "from the TUN t0"},
		{"strict filter of the TUN", "sysctl -qw net.ipv4.conf.t0.rp_filter=1", "the TUN t0 has the strict"},
		{"no local addresses from the TUN", "sysctl -qw net.ipv4.conf.t0.accept_local=0", "the TUN t0 does not accept local"},
		{"all interfaces down", "ip link set g0 down", "g0 is down"},
	} {
		if before := g.troublesNow(); len(before) > 0 {
			t.Fatalf("before %s: %v", c.name, before)
		}
		g.gw.script(c.fault)
		found := g.troublesNow()
		if c.name == "strict filter by mark" { // which answers by it meet too
			if len(found) != 2 || !strings.Contains(found[1].Text, "g0 has src_valid_mark") {
				t.Fatalf("%+v", found)
			}
			g.gw.script(found[1].Fix + "")
			found = found[:1]
		}
		if len(found) != 1 || !strings.Contains(found[0].Text, c.says) || found[0].Fatal == slices.Contains(some, c.name) {
			t.Errorf("%s: %+v", c.name, found)
			continue
		}
		if lines := g.logs.FilterField(zap.String("trouble", found[0].Text)).Len() + g.logs.FilterMessageSnippet("a captured interface is down").Len(); lines == 0 {
			t.Errorf("%s: the log has no line", c.name)
		}
		g.gw.script(found[0].Fix)
	}
	if left := g.troublesNow(); len(left) > 0 {
		t.Errorf("%v", left)
	}
}

// TestIPv6ToManageBy: a lasting IPv6 address that a captured interface of an IPv4 gateway
// gets while the gateway runs is reported but stops nothing; before a start it does. The
// key of one interface does not matter.
func TestIPv6ToManageBy(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.gw.script("ip -6 addr flush dev g0 scope global; sysctl -qw net.ipv6.conf.all.forwarding=0")
	g := gatewayOn(t, l, testConfig())
	if found := g.troublesNow(); len(found) > 0 {
		t.Fatalf("before: %v", found)
	}
	g.gw.run("ip addr add fd00:1::1/64 dev g0 nodad")
	if found := g.troublesNow(); len(found) != 1 || found[0].Fatal || !strings.Contains(found[0].Text, "IPv6 is not forwarded") {
		t.Errorf("while it runs: %+v", found)
	}
	g.gw.do(func() error {
		if err := CheckForwarding("g0"); err == nil {
			t.Error("a start is not refused")
		}
		return nil
	})
	g.gw.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
	if found := g.troublesNow(); len(found) > 0 {
		t.Errorf("forwarded: %v", found)
	}
	g.gw.run("sysctl -qw net.ipv6.conf.all.forwarding=0")
	if found := g.troublesNow(); len(found) != 1 || !found[0].Fatal {
		t.Errorf("IPv6 was served and is no more: %+v", found)
	}
	g.gw.run("sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.g0.forwarding=0")
	if found := g.troublesNow(); len(found) > 0 {
		t.Errorf("the key of one interface: %v", found)
	}
	g.sport++
	g.send(g.client, "c0", "g0", packet{src: "fd00:1::2", dst: "fd00:2::2", proto: unix.IPPROTO_UDP, sport: g.sport, dport: 53}.bytes())
	until(t, g.sniff.got, g.sport) // it is forwarded all the same
}

// TestNotRepairedIsTrouble: a fault that Watch cannot mend is told while it lasts.
func TestNotRepairedIsTrouble(t *testing.T) {
	t.Parallel()
	g := newGateway(t, testConfig())
	g.gw.script("ip link set t0 down; ip link set t0 name away; ip link add t0 type veth peer name t1")
	if once := g.troublesNow(); len(once) == 0 || once[0].Fatal {
		t.Errorf("fatal at once: %v", once)
	}
	found := g.troublesNow()
	if len(found) == 0 || !strings.Contains(found[0].Text, "not repaired: rename the TUN") || !found[0].Fatal {
		t.Errorf("%v", found)
	}
	g.gw.script("ip link delete t0")
	if left := g.troublesNow(); len(left) > 0 {
		t.Errorf("%v", left)
	}
}

// TestForeignCost: 20,000 rules, with four interfaces and eight ports, are walked within
// the budget, and repairs do not wait for it; the pause after it is bounded.
func TestForeignCost(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Interfaces, cfg.Ports = []string{"g0", "n1", "n2", "n3"}, []uint16{443, 444, 445, 446, 447, 448, 449, 450}
	g := newGateway(t, cfg)
	var rules strings.Builder
	rules.WriteString("table inet t {\nchain F {\ntype filter hook forward priority 0; policy drop;\n")
	for i := range 19990 {
		fmt.Fprintf(&rules, "ip saddr 192.0.%d.%d tcp dport 443 drop\n", i>>8, i&0xff)
	}
	rules.WriteString("}\n}\n")
	file := filepath.Join(t.TempDir(), "rules")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	g.gw.run("nft -f " + file)
	done := make(chan time.Duration)
	go func() {
		begin := time.Now()
		g.steer.lookAtForeign()
		done <- time.Since(begin)
	}()
	var took, longest time.Duration
	for took == 0 {
		begin := time.Now()
		g.gw.do(g.steer.check)
		longest = max(longest, time.Since(begin))
		select {
		case took = <-done:
		default:
		}
	}
	t.Logf("a look took %v, the longest check beside it %v", took, longest)
	if found := g.steer.Troubles(); !slices.ContainsFunc(found, func(t Trouble) bool { return strings.Contains(t.Text, "chain F of table inet t") }) {
		g.gw.do(g.steer.check)
		if found = g.steer.Troubles(); !slices.ContainsFunc(found, func(t Trouble) bool { return strings.Contains(t.Text, "chain F of table inet t") }) {
			t.Errorf("%v", found)
		}
	}
	for _, c := range []struct {
		took     time.Duration
		troubled bool
		want     time.Duration
	}{{time.Millisecond, false, 5 * time.Second}, {200 * time.Millisecond, false, 20 * time.Second}, {10 * time.Second, false, time.Minute}, {10 * time.Second, true, 5 * time.Second}} {
		if got := foreignPause(c.took, c.troubled); got != c.want {
			t.Errorf("%v, %v: %v", c.took, c.troubled, got)
		}
	}
}

// TestInterruptedLists: a list that a change interrupts is read again, but not for ever.
func TestInterruptedLists(t *testing.T) {
	t.Parallel()
	for interrupted, want := range map[int]int{0: 1, 1: 2, 2: 3, 9: 3} {
		n := 0
		got, err := undisturbed(func() (int, error) {
			if n++; n <= interrupted {
				return n, netlink.ErrDumpInterrupted
			}
			return n, nil
		})
		if got != want || (err != nil) != (interrupted >= want) {
			t.Errorf("interrupted %d times: %d lists, %v", interrupted, got, err)
		}
	}
}
