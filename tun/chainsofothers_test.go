package tun

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// counted is the sum of the counters in the table with which this text begins.
func (n *ns) counted(table string) (packets uint64) {
	n.t.Helper()
	name := strings.Fields(table)[2]
	n.do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := conn.ListChains()
		for _, c := range chains {
			if c.Table.Name != name || err != nil {
				continue
			}
			var rules []*nftables.Rule
			rules, err = conn.GetRules(c.Table, c)
			for _, r := range rules {
				for _, e := range r.Exprs {
					if c, ok := e.(*expr.Counter); ok {
						packets += c.Packets
					}
				}
			}
		}
		return err
	})
	return packets
}

// lost says whether the kernel drops the packet that send sends: it arrives, or a counter
// of the table says that it was dropped.
func (n *ns) lost(table string, send func(), got <-chan []byte, sport uint16) bool {
	n.t.Helper()
	before := n.counted(table)
	send()
	deadline := time.After(testenv.Patience())
	for {
		select {
		case p := <-got:
			if parse(p).sport == sport {
				return false
			}
		case <-deadline:
			n.t.Fatalf("the packet from port %d neither came nor was dropped by a rule of the table", sport)
		case <-time.After(10 * time.Millisecond):
			if n.counted(table) > before {
				return true
			}
		}
	}
}

// ways of the packets that the kernel has to let through, of each family: what clients
// send, answers of destinations, and of this host's own services.
type ways struct{ captured, answer, local bool }

// kernelLoses sends a packet of each kind past the table.
func (g *gateway) kernelLoses(t *testing.T, back *sniffer, table string) (lost [2]ways) {
	t.Helper()
	own := []string{"10.0.1.1", "fd00:1::1"}
	for i := range clients {
		g.sport++
		in := packet{src: clients[i], dst: servers[i], proto: unix.IPPROTO_TCP, sport: g.sport, dport: 443}
		lost[i].captured = g.gw.lost(table, func() { g.send(g.client, "c0", "g0", in.bytes()) }, g.tun, g.sport)
		for _, a := range []struct {
			src string
			at  *bool
		}{{servers[i], &lost[i].answer}, {own[i], &lost[i].local}} {
			g.sport++
			out := packet{src: a.src, dst: clients[i], proto: unix.IPPROTO_TCP, sport: g.sport, dport: 443, synack: true}
			*a.at = g.gw.lost(table, func() { g.write(t, out.bytes()) }, back.got, g.sport)
		}
	}
	return lost
}

// xtFilter makes the rule of ip6tables-nft with this match, for which nft has no words.
func (n *ns) xtFilter(flags byte) {
	n.t.Helper()
	n.do(func() error {
		conn, err := nftables.New()
		if err != nil {
			return err
		}
		table := conn.AddTable(&nftables.Table{Name: "mangle", Family: nftables.TableFamilyIPv6})
		chain := conn.AddChain(&nftables.Chain{Name: "PREROUTING", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle})
		info := xt.Unknown{flags}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Match{Name: "rpfilter", Info: &info}, &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop},
		}})
		return conn.Flush()
	})
}

// TestReversePathFilters: the findings agree with what the kernel does to captured
// packets and their answers in chains that look up the way back. The first chains are
// those of firewalld, by its versions and its IPv6_rpfilter.
func TestReversePathFilters(t *testing.T) {
	t.Parallel()
	cfg := testConfig()
	cfg.Local = true
	g := newGateway(t, cfg)
	back := newSniffer(t, g.client, "c0")
	none, answers, local, all := ways{}, ways{false, true, true}, ways{false, false, true}, ways{true, true, true}
	const zone = `sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf; firewall-cmd --reload`
	const nd = "icmpv6 type { nd-router-advert, nd-neighbor-solicit } accept; "
	for _, c := range []struct {
		name, table string
		v4, v6      ways
		fix         string // "": the one that is said is run
	}{
		{"yes, before 1.0", `table inet firewalld { chain raw_PREROUTING { type filter hook prerouting priority -290; ` + nd + `meta nfproto ipv6 fib saddr . iif oif missing counter drop; } }`, none, answers, zone},
		{"strict", `table inet firewalld { chain filter_PREROUTING { type filter hook prerouting priority 10; ` + nd + `meta nfproto ipv6 fib saddr . mark . iif oif missing log prefix "rpfilter_DROP: " counter drop; } }`, none, all, zone},
		{"loose", `table inet firewalld { chain filter_PREROUTING { type filter hook prerouting priority 10; ` + nd + `meta nfproto ipv6 fib saddr . mark oif missing counter drop; } }`, none, local, zone},
		{"strict-forward", `table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; meta nfproto ipv6 fib saddr . mark . iif oif missing counter drop; } }`, none, all, zone},
		{"loose-forward", `table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; meta nfproto ipv6 fib saddr . mark oif missing counter drop; } }`, none, local, zone},
		{"backend iptables, strict", "table ip6 mangle", none, answers, "ip6tables -t mangle -I PREROUTING -i t0 -j ACCEPT"},
		{"backend iptables, loose", "table ip6 mangle", none, local, "ip6tables -t mangle -I PREROUTING -i t0 -j ACCEPT"},
		{"as NixOS has it", `table inet nixos-fw { chain rpfilter { type filter hook prerouting priority -140; meta nfproto ipv4 udp sport . udp dport { 67 . 68, 68 . 67 } accept; fib saddr . mark . iif oif exists accept; counter drop; } }`, answers, answers, ""},
		{"a policy that drops", `table ip t { chain P { type filter hook prerouting priority -300; fib saddr . iif oif != 0 accept; counter drop; } }`, answers, none, ""},
		{"the index of the interface", `table inet t { chain P { type filter hook prerouting priority 20; fib saddr . iif oif 0 counter drop; } }`, answers, answers, ""},
		{"its mark, in a chain behind a jump", `table ip t { chain r { fib saddr . mark . iif oif missing counter drop; } chain P { type filter hook prerouting priority -50; ip protocol tcp jump r; } }`, all, none, ""},
		{"another interface alone", `table inet t { chain P { type filter hook prerouting priority 20; iifname { "g1", "lo" } fib saddr . iif oif missing counter drop; } }`, none, none, ""},
		{"the type of the address", `table inet t { chain P { type filter hook prerouting priority 20; fib saddr type { broadcast, multicast } counter drop; } }`, none, none, ""},
		{"the way on", `table inet t { chain P { type filter hook prerouting priority 20; fib daddr . iif oif exists counter drop; } }`, none, none, ""},
	} {
		setUp := func() { g.gw.table(c.table) }
		switch c.name {
		case "backend iptables, strict":
			setUp = func() { g.gw.xtFilter(0x8 | 0x2) }
		case "backend iptables, loose":
			setUp = func() { g.gw.xtFilter(0x8 | 0x2 | 0x1) }
		}
		setUp()
		if got, want := g.kernelLoses(t, back, c.table), [2]ways{c.v4, c.v6}; got != want {
			t.Errorf("%s: the kernel loses %+v, want %+v", c.name, got, want)
		}
		found := g.troublesNow()
		switch {
		case c.v4 == none && c.v6 == none:
			if len(found) > 0 {
				t.Errorf("%s: %+v", c.name, found)
			}
		case len(found) != 1 || !strings.Contains(found[0].Text, "reverse path filter") || found[0].Fatal != (c.v4.answer):
			t.Errorf("%s: %+v", c.name, found)
		case c.fix != "":
			if found[0].Fix != c.fix {
				t.Errorf("%s: %s", c.name, found[0].Fix)
			}
		default:
			g.gw.script(found[0].Fix)
			if got := g.kernelLoses(t, back, c.table); got != [2]ways{} {
				t.Errorf("%s: with %s the kernel loses %+v", c.name, found[0].Fix, got)
			}
			if left := g.troublesNow(); len(left) > 0 {
				t.Errorf("%s: not mended by %s: %v", c.name, found[0].Fix, left)
			}
		}
		g.gw.run("nft delete " + strings.Join(strings.Fields(c.table)[:3], " "))
	}
}

// TestAnswersMeetFilters: a filter, even a loose one, that looks up the way back with the
// mark drops answers to connections under a client's address as forged, and that is
// reported.
func TestAnswersMeetFilters(t *testing.T) {
	t.Parallel()
	g := newGateway(t, sourceConfig())
	conns := g.listen443(t)
	for _, c := range []struct {
		table string
		lost  bool
	}{
		{`table inet t { chain P { type filter hook prerouting priority 10; meta l4proto tcp fib saddr . mark oif missing counter drop; } }`, true},
		{`table ip6 t { chain P { type filter hook prerouting priority 10; meta l4proto tcp fib saddr . mark oif missing counter drop; } }`, true},
		{`table inet t { chain P { type filter hook prerouting priority -300; meta l4proto tcp fib saddr . mark oif missing counter drop; } }`, false},
		{`table inet t { chain P { type filter hook prerouting priority 10; meta l4proto tcp fib saddr oif missing counter drop; } }`, false},
	} {
		for i := range clients {
			six := clients[i] != clients[0]
			lost := c.lost && (six || !strings.HasPrefix(c.table, "table ip6"))
			g.gw.table(c.table)
			found := g.troublesNow()
			if c.lost && (len(found) != 1 || !strings.Contains(found[0].Text, "answers connections under a client's address")) || !c.lost && len(found) > 0 {
				t.Errorf("%s: %+v", c.table, found)
			}
			if !lost {
				g.connected(t, conns, clients[i], 0, servers[i])
			} else {
				g.dialLost(t, c.table, clients[i], servers[i])
				g.gw.script(found[0].Fix)
				g.connected(t, conns, clients[i], 0, servers[i])
				if left := g.troublesNow(); len(left) > 0 {
					t.Errorf("%s: not mended by %s: %v", c.table, found[0].Fix, left)
				}
			}
			g.gw.run("nft delete " + strings.Join(strings.Fields(c.table)[:3], " "))
		}
	}
}

// dialLost begins a connection as the client and waits until a rule of the table has
// dropped the answer.
func (g *gateway) dialLost(t *testing.T, table, src, dst string) {
	t.Helper()
	sockaddr := func(a string, port int) unix.Sockaddr {
		ip := netip.MustParseAddr(a)
		if ip.Is4() {
			return &unix.SockaddrInet4{Port: port, Addr: ip.As4()}
		}
		return &unix.SockaddrInet6{Port: port, Addr: ip.As16()}
	}
	family, network := unix.AF_INET, "tcp4"
	if strings.Contains(src, ":") {
		family, network = unix.AF_INET6, "tcp6"
	}
	before := g.gw.counted(table)
	var file *os.File
	g.gw.do(func() error {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		file = newSocketFile(fd)
		raw, err := file.SyscallConn()
		if err == nil {
			err = transparent(network, "", raw)
		}
		if err == nil {
			err = unix.Bind(fd, sockaddr(src, 0))
		}
		if err == nil {
			err = unix.Connect(fd, sockaddr(dst, 443))
		}
		if errors.Is(err, unix.EINPROGRESS) {
			return nil
		}
		return err
	})
	defer func() { _ = file.Close() }()
	within(t, func() string {
		if g.gw.counted(table) > before {
			return ""
		}
		return "no answer was dropped"
	})
}
