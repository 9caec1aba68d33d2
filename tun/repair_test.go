package tun

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"github.com/vishvananda/netlink"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// within waits until f says "".
func within(t testing.TB, f func() string) {
	t.Helper()
	var what string
	testenv.Eventually(t, "all is as it must be", func() bool { what = f(); return what == "" }, func() any { return what })
}

// TestRepair breaks the steering as others do, sends SYNs at once and again
// when it is repaired.
func TestRepair(t *testing.T) {
	for _, c := range []struct {
		name  string
		lines []string
		// whole: also fragments sent before the repair must not pass.
		whole bool
	}{
		{"rules flushed", []string{"ip rule flush", "ip rule add pref 32766 lookup main", "ip -6 rule flush", "ip -6 rule add pref 32766 lookup main"}, true},
		{"fwmark rule deleted", []string{"ip rule del pref 5519", "ip -6 rule del pref 5519"}, true},
		{"port rules deleted", []string{"ip rule del pref 5520", "ip rule del pref 5520"}, true},
		{"table emptied", []string{"ip route flush table 5519", "ip -6 route flush table 5519"}, true},
		{"route replaced", []string{"ip route replace default via 10.0.2.2 table 5519"}, true},
		{"TUN down", []string{"ip link set t0 down"}, true},
		{"TUN renamed", []string{"ip link set t0 down", "ip link set t0 name t9", "? ip link set t9 up"}, true},
		{"steer chain flushed", []string{"nft flush chain inet sslgate steer"}, true},
		{"table dormant", []string{"nft add table inet sslgate { flags dormant ; }"}, false},
		{"captured set emptied", []string{"nft flush set inet sslgate captured", "nft flush set inet sslgate captured_index"}, true},
		{"ports emptied", []string{"nft flush set inet sslgate ports"}, false},
		{"nft table deleted", []string{"nft delete table inet sslgate"}, false},
		{"ruleset flushed", []string{"nft flush ruleset"}, false},
		{"foreign accept", []string{"nft insert rule inet sslgate guard accept", "nft insert rule inet sslgate steer accept"}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // in namespaces of its own
			g := newGateway(t, testConfig())
			before := normal(g.gw.state())
			g.watch(t)
			repairs := g.steer.Repairs()
			for _, line := range c.lines {
				if line, maybe := strings.CutPrefix(line, "? "); maybe { // unless the repair came before it
					_, _ = g.gw.command(line)
					continue
				}
				g.gw.run(line)
			}
			p := syns(53000)
			packets := [][]byte{p["v4"].bytes(), p["v6"].bytes()}
			if c.whole {
				packets = append(packets, p["v4 fragments"].packets()...)
				packets = append(packets, p["v6 fragments"].packets()...)
			}
			if got := g.leaked("g0", packets...); len(got) > 0 {
				t.Errorf("before the repair %v reached the server", got)
			}
			within(t, func() string {
				if g.steer.Repairs() == repairs {
					return "nothing was repaired"
				}
				if now := normal(g.gw.state()); now != before {
					return "not repaired:\n" + now + "\nwant:\n" + before
				}
				return ""
			})
			const sport = 53001
			for name, p := range syns(sport) {
				if got := g.leaked("g0", p.packets()...); len(got) > 0 {
					t.Errorf("%s reached the server after the repair: %v", name, got)
				}
				until(t, g.tun, sport)
			}
			if g.logs.FilterMessageSnippet("repaired").Len() == 0 {
				t.Error("the repair was not logged")
			}
		})
	}
}

// normal removes from a state what may differ: counters, and rules that the flushing
// tests make.
func normal(state string) string {
	words := strings.Fields(state)
	for i := range words {
		if i > 1 && (words[i-1] == "packets" || words[i-1] == "bytes") {
			words[i] = "N"
		}
	}
	return strings.ReplaceAll(strings.Join(words, " "), "from all lookup main 32767: from all lookup default", "from all lookup main")
}

// TestRenamed: a captured interface under another name stays captured, with
// nothing to repair.
func TestRenamed(t *testing.T) {
	g := newGateway(t, testConfig())
	g.gw.run("ip link set g0 down")
	g.gw.run("ip link set g0 name g9")
	g.gw.run("ip link set g9 up")
	g.gw.run("ip addr add fd00:1::1/64 dev g9 nodad")
	p := syns(54000)
	if got := g.leaked("g0", append(p["v4 fragments"].packets(), p["v6"].bytes())...); len(got) > 0 {
		t.Errorf("reached the server: %v", got)
	}
	until(t, g.tun, 54000)
	until(t, g.tun, 54000)
}

// TestRecreated: the interface is deleted and another comes in its place, by
// the same name or by one that nobody has announced.
func TestRecreated(t *testing.T) {
	g := newGateway(t, testConfig())
	g.watch(t)
	for i, name := range []string{"g0", "h0", "g0"} {
		g.gw.run("ip link delete " + map[string]string{"g0": "g0", "h0": "h0"}[[]string{"g0", "g0", "h0"}[i]])
		g.wire(name, g.client, "c0", 1)
		sport := uint16(54100 + i)
		for how, p := range syns(sport) {
			if got := g.leaked(name, p.packets()...); len(got) > 0 {
				t.Errorf("%s by %s reached the server: %v", how, name, got)
			}
			if name == "g0" {
				until(t, g.tun, sport)
			}
		}
	}
	// An interface made anew under the configured name and then renamed is known.
	within(t, func() string {
		if !strings.Contains(g.gw.run("nft list set inet sslgate captured_index"), `"g0"`) {
			return "the new index is not captured"
		}
		return ""
	})
	g.gw.run("ip link set g0 down")
	g.gw.run("ip link set g0 name g9")
	g.gw.run("ip link set g9 up")
	if got := g.leaked("g0", syns(54200)["v4 fragments"].packets()...); len(got) > 0 {
		t.Errorf("reached the server: %v", got)
	}
	until(t, g.tun, 54200)
}

// TestTUNDeleted: Watch says so, and nothing passes.
func TestTUNDeleted(t *testing.T) {
	for _, how := range []string{"deleted", "closed"} {
		t.Run(how, func(t *testing.T) {
			g := newGateway(t, testConfig())
			done := g.watch(t)
			if how == "closed" { // as after kill -9
				if err := g.dev.Close(); err != nil {
					t.Fatal(err)
				}
			} else {
				g.gw.run("ip link delete t0")
			}
			back := newSniffer(t, g.client, "c0")
			for name, p := range syns(55000) {
				if got := g.leaked("g0", p.packets()...); len(got) > 0 {
					t.Errorf("%s reached the server: %v", name, got)
				}
			}
			select {
			case err := <-done:
				if !errors.Is(err, ErrNoTUN) {
					t.Errorf("Watch: %v", err)
				}
			case <-time.After(testenv.Patience()):
				t.Fatal("Watch did not notice")
			}
			// The client is told at once that there is no way (RFC 792, type 3).
			waitICMP(t, back.got, unix.IPPROTO_ICMP, 3)
		})
	}
}

// TestDeviceGoesWithTheStop: the device may be closed already when Watch is to end; that
// is no error and is not logged.
func TestDeviceGoesWithTheStop(t *testing.T) {
	g := newGateway(t, testConfig())
	if err := g.dev.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.steer.Watch(ctx); err != nil {
		t.Errorf("Watch: %v", err)
	}
	g.steer.mu.Lock()
	g.steer.failed("repair", errors.New("no such device"))
	g.steer.mu.Unlock()
	if bad := g.logs.FilterLevelExact(zap.ErrorLevel).All(); len(bad) > 0 {
		t.Errorf("logged: %v", bad)
	}
}

// TestWatchElsewhere: Watch works in a goroutine whose thread is in another
// network namespace, and a route of another table costs no repair.
func TestWatchElsewhere(t *testing.T) {
	g := newGateway(t, testConfig())
	g.watch(t)
	g.gw.run("ip route add 198.51.100.0/24 via 10.0.2.2")
	g.gw.run("ip route flush table 5519")
	within(t, func() string {
		if !strings.Contains(g.gw.run("ip route show table 5519"), "default dev t0") {
			return "not repaired"
		}
		return ""
	})
	if own, err := netlink.RuleList(unix.AF_INET); err != nil || len(own) > 0 && own[0].Protocol == RuleProtocol {
		t.Errorf("the test's own namespace was touched: %v, %v", own, err)
	}
	if _, err := os.Stat("/proc/sys/net/ipv4/conf/t0"); err == nil {
		t.Error("the test's own namespace has a t0")
	}
}

// TestIPv6Disabled: IPv4 is steered, IPv6 goes nowhere, and nothing is logged.
func TestIPv6Disabled(t *testing.T) {
	g := newGateway(t, testConfig())
	g.watch(t)
	g.gw.run("sysctl -qw net.ipv6.conf.t0.disable_ipv6=1")
	time.Sleep(100 * time.Millisecond)
	p := syns(59000)
	if got := g.leaked("g0", p["v4"].bytes(), p["v6"].bytes(), p["v6 hop-by-hop"].bytes()); len(got) > 0 {
		t.Errorf("reached the server: %v", got)
	}
	until(t, g.tun, 59000)
	if n := g.logs.FilterMessageSnippet("not repaired").Len(); n > 0 {
		t.Errorf("%d lines about what cannot be repaired", n)
	}
}

// TestLimiter: somebody who undoes every repair does not fill the log.
func TestLimiter(t *testing.T) {
	s := &Steering{log: zap.NewNop(), limited: newLimiter()}
	for range 100 {
		s.repaired("x")
	}
	if s.limited.skipped < 80 {
		t.Errorf("%d of 100 lines were left out", s.limited.skipped)
	}
	if s.Repairs() != 100 {
		t.Errorf("%d repairs counted", s.Repairs())
	}
}
