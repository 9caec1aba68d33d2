package foreign

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/vishvananda/netns"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// ns is a network namespace with tables of others, in which the test's own thread runs.
// TCP to 443 and 8443 from g0 is captured and goes to the TUN t0; neither interface has
// to exist.
type ns struct {
	t       *testing.T
	reader  *Reader
	capture Capture
}

func newNS(t *testing.T) *ns {
	t.Helper()
	testenv.Root(t)
	testenv.Tool(t, "nft")
	runtime.LockOSThread() // never unlocked: the thread ends with the test
	h, err := netns.New()
	if err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	defer func() { _ = h.Close() }()
	n := &ns{t: t, capture: Capture{TUN: "t0", Interfaces: []string{"g0"}, Ports: []uint16{443, 8443}, IPv6: true, Mark: 0x10, Mask: 0x70, Steer: -140,
		Ours: func(*nftables.Table) bool { return false }}}
	if n.reader, err = Open(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.reader.Close)
	return n
}

func (n *ns) script(lines string) {
	n.t.Helper()
	if out, err := exec.Command("sh", "-ec", lines).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v\n%s", lines, err, out)
	}
}

// table makes a table that is written on one line; nft wants a line after each block.
func (n *ns) table(text string) {
	n.t.Helper()
	n.script("nft -f - <<'X'\n" + strings.NewReplacer("; }", ";\n}\n", "{ }", "{\n}\n").Replace(text) + "\nX")
}

// drop deletes it.
func (n *ns) drop(text string) {
	n.t.Helper()
	n.script("nft delete " + strings.Join(strings.Fields(text)[:3], " "))
}

func (n *ns) losses() []Finding {
	n.t.Helper()
	found, whole, err := n.reader.Losses(&n.capture)
	if err != nil || !whole {
		n.t.Fatalf("looked at all: %v, %v", whole, err)
	}
	return found
}

// TestForeignForwardChains: a chain of somebody else that surely drops captured packets
// is named, and the printed command mends it; one that may let them through is not.
func TestForeignForwardChains(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	for _, c := range []struct {
		name, table string
		found       bool
	}{
		{"policy, as Docker leaves it", `table ip t { chain F { type filter hook forward priority 0; policy drop; oifname "docker0" accept; iifname "docker0" accept; } }`, true},
		{"policy, and established passes", `table inet t { chain F { type filter hook forward priority 0; policy drop; ct state established,related accept; } }`, true},
		{"a rule by interface", `table ip t { chain F { type filter hook forward priority 5; iifname "g0" drop; } }`, true},
		{"by the beginning of its name", `table inet t { chain F { type filter hook forward priority 5; iifname "g*" meta l4proto tcp counter drop; } }`, true},
		{"the answers alone", `table inet t { chain F { type filter hook forward priority 0; iifname "t0" ct state established reject; } }`, true},
		{"reject in a chain behind jumps", `table inet t { chain b { iifname "lo" accept; reject; } chain a { jump b; } chain F { type filter hook forward priority 0; ip protocol tcp jump a; } }`, true},
		{"a map of states, as firewalld has", `table inet t { chain z { iifname "lo" accept; } chain F { type filter hook forward priority 10; ct state vmap { established : accept, related : accept }; ct status dnat accept; iifname vmap { "g0" : jump z, "g1" : accept }; reject with icmpx admin-prohibited; } }`, true},
		{"one of two ports", `table inet t { chain F { type filter hook forward priority 0; policy drop; iifname "t0" accept; tcp dport { 80, 443 } accept; } }`, true},
		{"goto leaves for good", `table inet t { chain z { iifname "lo" accept; } chain F { type filter hook forward priority 0; policy drop; goto z; accept; } }`, true},
		{"IPv6 alone", `table ip6 t { chain F { type filter hook forward priority 0; policy drop; } }`, true},

		{"policy accept", `table inet t { chain F { type filter hook forward priority 0; udp dport 53 drop; } }`, false},
		{"accepted by interface", `table inet t { chain F { type filter hook forward priority 0; policy drop; iifname "g0" oifname "t0" accept; iifname "t0" accept; } }`, false},
		{"return, and the next rule accepts", `table inet t { chain z { meta l4proto tcp return; drop; } chain F { type filter hook forward priority 0; policy drop; jump z; accept; } }`, false},
		{"by addresses, which may be", `table inet t { chain F { type filter hook forward priority 0; policy drop; ip saddr 10.0.0.0/8 accept; ip6 saddr fd00::/8 accept; ct state established accept; } }`, false},
		{"by a limit, which may be", `table inet t { chain F { type filter hook forward priority 0; limit rate 5/second drop; } }`, false},
		{"a map that accepts", `table inet t { chain F { type filter hook forward priority 0; policy drop; meta l4proto vmap { tcp : accept, udp : drop }; } }`, false},
		{"another interface", `table inet t { chain F { type filter hook forward priority 0; iifname != { "g0", "t0" } drop; } }`, false},
		{"too many at once", `table inet t { set c { type ipv4_addr; flags dynamic; } chain F { type filter hook forward priority 0; tcp dport 443 ct state new add @c { ip saddr ct count over 20 } reject; } }`, false},
		{"too fast", `table inet t { set f { type ipv4_addr; flags dynamic; timeout 1m; } chain F { type filter hook forward priority 0; update @f { ip saddr limit rate over 50/second } drop; } }`, false},
		{"a concatenation", `table inet t { chain F { type filter hook forward priority 0; policy drop; iifname . oifname { "g0" . "t0", "t0" . "g0" } accept; } }`, false},
		{"a map of concatenations", `table inet t { chain F { type filter hook forward priority 0; policy drop; iifname . oifname vmap { "g0" . "t0" : accept, "t0" . "g0" : accept }; } }`, false},
		{"what NAT may have changed", `table inet t { chain N { type nat hook prerouting priority -100; tcp dport 443 redirect to :8443; } chain F { type filter hook forward priority 0; policy drop; iifname "t0" accept; ct status dnat accept; } }`, true},
		{"by the next hop, which may be", `table inet t { chain F { type filter hook forward priority 0; policy drop; iifname "t0" accept; iifname "g0" rt ip nexthop 10.0.2.2 accept; iifname "g0" rt ip6 nexthop fd00:2::2 accept; } }`, false},
		{"by a number of a hash, which may be", `table inet t { chain F { type filter hook forward priority 0; policy drop; iifname "t0" accept; iifname "g0" jhash ip saddr mod 2 0 accept; numgen inc mod 2 0 accept; } }`, false},
		{"by IPsec, which may be", `table inet t { chain F { type filter hook forward priority 0; iifname "g0" meta ipsec exists drop; iifname "t0" ct mark 1 drop; } }`, false},
		{"by a limit of its own name, which may be", `table inet t { limit l { rate 5/second; } chain F { type filter hook forward priority 0; iifname "g0" limit name "l" drop; } }`, false},
		{"a length in another order, which may be", `table inet t { chain F { type filter hook forward priority 0; meta length 40-60 drop; ct mark 5-9 drop; } }`, false},
		{"a port alone", `table inet t { chain F { type filter hook forward priority 0; tcp dport 443 drop; } }`, true},
		{"a table that sleeps", `table inet t { flags dormant; chain F { type filter hook forward priority 0; policy drop; } }`, false},
		{"another hook", `table inet t { chain I { type filter hook input priority 0; policy drop; } }`, false},
	} {
		n.table(c.table)
		found := n.losses()
		switch {
		case !c.found && len(found) > 0, c.found && len(found) != 1:
			t.Errorf("%s: %v", c.name, found)
		case c.found:
			f := found[0]
			some := slices.Contains([]string{"IPv6 alone", "one of two ports", "a port alone", "what NAT may have changed"}, c.name)
			if !strings.Contains(f.Text, "chain F of table") || f.Fatal == some {
				t.Errorf("%s: %+v", c.name, f)
			}
			n.script(f.Fix)
			if left := n.losses(); len(left) > 0 {
				t.Errorf("%s: not mended by %s: %v", c.name, f.Fix, left)
			}
		}
		n.drop(c.table)
	}
	if left := n.losses(); len(left) > 0 {
		t.Errorf("%v", left)
	}
}

// TestOtherHooks: chains before and after forwarding, and what is known of a packet
// there.
func TestOtherHooks(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	for _, c := range []struct{ name, table, fix string }{
		{"by interface", `table ip t { chain C { type filter hook prerouting priority 0; iifname "g0" drop; } }`, "nft insert rule ip t C iifname g0 meta mark and 0x70 == 0x10 accept; nft insert rule ip t C iifname t0 accept"},
		{"by interface, before our mark", `table inet t { chain C { type filter hook prerouting priority -300; iifname "g0" drop; } }`, "nft insert rule inet t C iifname g0 meta l4proto tcp accept; nft insert rule inet t C iifname t0 accept"},
		{"all but known interfaces", `table inet raw { chain PREROUTING { type filter hook prerouting priority -300; policy drop; iifname { "lo", "g0" } accept; } }`, "nft insert rule inet raw PREROUTING iifname t0 accept"},
		{"of iptables", `table ip raw { chain PREROUTING { type filter hook prerouting priority -300; policy drop; iifname "g0" accept; } }`, "iptables -t raw -I PREROUTING -i t0 -j ACCEPT"},
		{"what leaves", `table ip mangle { chain POSTROUTING { type filter hook postrouting priority -150; policy drop; oifname "g0" accept; } }`, "iptables -t mangle -I POSTROUTING -o t0 -j ACCEPT; iptables -t mangle -I POSTROUTING -o g0 -p tcp -j ACCEPT"},
		{"its mark, and our mark is spared", `table inet t { chain C { type filter hook prerouting priority 10; iifname "t0" accept; fib saddr . mark . iif oif missing drop; } }`, "nft insert rule inet t C iifname g0 meta mark and 0x70 == 0x10 accept; nft insert rule inet t C iifname t0 accept"},

		{"before there is a state", `table inet t { chain C { type filter hook prerouting priority -300; ct state invalid,untracked accept; drop; } }`, ""},
		{"the way out is not known yet", `table inet t { chain C { type filter hook prerouting priority 0; oifname != { "g0", "t0" } drop; } }`, ""},
		{"the way in is not known any more", `table inet t { chain C { type filter hook postrouting priority 0; iifname != { "g0", "t0" } drop; } }`, ""},
		{"what leaves by others", `table inet t { chain C { type filter hook postrouting priority 0; policy drop; oifname { "g0", "t0" } accept; } }`, ""},
		{"its mark, before ours", `table inet t { chain C { type filter hook prerouting priority -150; iifname "g0" fib saddr . mark . iif oif missing drop; } }`, ""},
		{"its mark, perhaps before ours", `table inet t { chain C { type filter hook prerouting priority -140; iifname "g0" fib saddr . mark . iif oif missing drop; } }`, ""},
		{"another result of the look-up", `table inet t { chain C { type filter hook prerouting priority 10; fib saddr . iif type != unicast drop; } }`, ""},
		{"NAT", `table inet t { chain C { type nat hook prerouting priority -100; policy drop; } }`, ""},
		{"what is delivered", `table inet t { chain C { type filter hook input priority 0; policy drop; } }`, ""},
	} {
		n.table(c.table)
		found := n.losses()
		switch {
		case c.fix == "" && len(found) > 0, c.fix != "" && (len(found) != 1 || found[0].Fix != c.fix || !found[0].Fatal):
			t.Errorf("%s: %+v", c.name, found)
		case c.fix != "" && !strings.HasPrefix(c.fix, "iptables"):
			n.script(c.fix)
			if left := n.losses(); len(left) > 0 {
				t.Errorf("%s: not mended by %s: %v", c.name, c.fix, left)
			}
		}
		n.drop(c.table)
	}
}

// TestForwardPolicyFixes: the command is one of the program that owns the chain.
func TestForwardPolicyFixes(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	for _, c := range []struct{ table, says string }{
		{`table ip filter { chain DOCKER-USER { } chain FORWARD { type filter hook forward priority 0; policy drop; } }`, "iptables -I DOCKER-USER -i g0 -o t0 -j ACCEPT; iptables -I DOCKER-USER -i t0 -o g0 -j ACCEPT"},
		{`table ip filter { chain ufw-before-forward { } chain FORWARD { type filter hook forward priority 0; policy drop; jump ufw-before-forward; } }`, "ufw route allow in on g0 out on t0; "},
		{`table inet firewalld { chain filter_FORWARD { type filter hook forward priority 10; reject; } }`, "firewall-cmd --permanent --zone=sslgate --add-interface=t0; "},
		{`table inet filter { chain FORWARD { type filter hook forward priority 0; policy drop; } }`, "nft insert rule inet filter FORWARD iifname g0 oifname t0 accept; "},
		{`table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; } }`, "ip6tables -I FORWARD -i g0 -o t0 -j ACCEPT; "},
	} {
		n.table(c.table)
		if found := n.losses(); len(found) != 1 || !strings.Contains(found[0].Fix, c.says) {
			t.Errorf("%s: %v", c.table, found)
		}
		n.drop(c.table)
	}
}

// TestOurs: our own tables are left out, in the forward hook and for NAT.
func TestOurs(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	n.table(`table inet mine { chain N { type nat hook prerouting priority -100; tcp dport 443 redirect to :8443; } chain F { type filter hook forward priority 0; policy drop; } }`)
	n.table(`table ip t { chain F { type filter hook forward priority 0; policy drop; } }`)
	n.capture.Ours = func(t *nftables.Table) bool { return t.Name == "mine" }
	if found := n.losses(); len(found) != 1 || !found[0].Fatal || !strings.Contains(found[0].Text, "table ip t") {
		t.Errorf("%+v", found)
	}
}

// TestTooManyRules: a chain is read only up to the bound.
func TestTooManyRules(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	var rules strings.Builder
	rules.WriteString("table inet t {\nchain F {\n")
	for i := range 2500 {
		fmt.Fprintf(&rules, "ip saddr 192.0.%d.%d tcp dport 443 drop\n", i>>8, i&0xff)
	}
	n.script("nft -f - <<'X'\n" + rules.String() + "}\n}\nX")
	in := &nftables.Table{Name: "t", Family: nftables.TableFamilyINet}
	if _, err := n.reader.rules.read(in, "F", 100); !errors.Is(err, errTooMany) {
		t.Errorf("100 rules of a longer chain: %v", err)
	}
	for _, most := range []int{2500, 20000} {
		if all, err := n.reader.rules.read(in, "F", most); err != nil || len(all) != 2500 {
			t.Errorf("at most %d: %d rules, %v", most, len(all), err)
		}
	}
}

// A look that a bound has ended says so: that it has found nothing says nothing then.
func TestBoundsAreTold(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	n.table(`table inet t { chain F { type filter hook forward priority 0; policy drop; tcp dport { 80, 443, 8443 } accept; iifname "t0" accept; } }`)
	if found := n.losses(); len(found) > 0 {
		t.Fatalf("%v", found)
	}
	rules, steps := n.reader.most, n.reader.effort
	for name, bound := range map[string]func(){
		"rules": func() { n.reader.most = 1 },
		"steps": func() { n.reader.effort = 3 },
	} {
		bound()
		if found, whole, err := n.reader.Losses(&n.capture); whole || err != nil || len(found) > 0 {
			t.Errorf("%s: looked at all: %v, %v, %v", name, whole, found, err)
		}
		n.reader.most, n.reader.effort = rules, steps
	}
}
