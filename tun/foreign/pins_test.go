package foreign

import (
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"github.com/sslgate/sslgate/tun/nftname"
)

// newPinnedNS is newNS with two gateways, as the default configuration has them.
func newPinnedNS(t *testing.T) *ns {
	t.Helper()
	n := newNS(t)
	n.capture.CTMask = 0x30
	n.capture.Gateways = []Gateway{{Mark: 0x10, Pin: 0x10}, {Mark: 0x40, Pin: 0x20}}
	return n
}

// pins are the findings about pins alone.
func (n *ns) pins() []Finding {
	n.t.Helper()
	found, err := n.reader.Unpinned(&n.capture)
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}

// TestPinsTaken: a rule that surely takes away the pin of a captured connection, wherever it
// stands, is named with its handle; one that leaves the pin alone, or may not meet the
// packets, is not.
func TestPinsTaken(t *testing.T) {
	t.Parallel()
	n := newPinnedNS(t)
	at := func(hook, priority, rules string) string {
		return `table inet t { chain C { type filter hook ` + hook + ` priority ` + priority + `; ` + rules + ` } }`
	}
	before := func(rules string) string { return at("prerouting", "-150", rules) }
	behind := func(rules string) string { return at("prerouting", "-130", rules) }
	raw := func(rules string) string { return at("prerouting", "-300", rules) }
	const mark, track = "sets the whole connection mark", "exempts from connection tracking"
	for _, c := range []struct{ name, table, what string }{
		{"the whole mark", before(`ct mark set 0x1;`), mark},
		{"behind ours", behind(`ct mark set 0x1;`), mark},
		{"the first packet, behind ours", behind(`ct state new ct mark set 0x1;`), mark},
		{"of what is forwarded", at("forward", "0", `ct mark set 0x1;`), mark},
		{"of what leaves into the TUN", at("postrouting", "-150", `oifname "t0" ct mark set 0x1;`), mark},
		{"of answers", at("forward", "0", `iifname "t0" ct mark set 0x1;`), mark},
		{"one gateway's pin for both", before(`ct mark set 0x10;`), mark},
		{"one bit of it", before(`ct mark set ct mark and 0xffffffdf;`), mark},
		{"the packet's mark, which is not the pin", behind(`iifname "g0" ct mark set meta mark;`), mark},
		{"the packet's mark, which is not known", before(`ct mark set meta mark;`), mark},
		{"by NAT's chain", `table ip t { chain C { type nat hook prerouting priority -100; tcp dport 443 ct mark set 0x1; } }`, mark},
		{"in a chain behind a jump", `table ip t { chain j { ct mark set 0x1; } chain C { type filter hook prerouting priority 0; ip protocol tcp jump j; } }`, mark},
		{"notrack", raw(`notrack;`), track},
		{"notrack by port", raw(`iifname "g0" tcp dport 443 notrack;`), track},

		{"by a balancer, whose numbers are not followed", before(`ct mark set numgen inc mod 2;`), ""},
		{"under a mask", before(`ct mark set ct mark and 0x30 or 0x1;`), ""},
		{"bits beside ours", behind(`ct mark set ct mark or 0x1000;`), ""},
		{"the first packet, before ours", before(`ct state new ct mark set 0x1;`), ""},
		{"by NAT's chain, before ours", `table ip t { chain C { type nat hook prerouting priority -150; tcp dport 443 ct mark set 0x1; } }`, ""},
		{"before connection tracking", raw(`ct mark set 0x1;`), ""},
		{"connections that are marked already, perhaps", before(`ct mark 0x1 ct mark set 0x2;`), ""},
		{"by addresses, which may not fit", behind(`ip saddr 10.0.0.0/8 ct mark set 0x1;`), ""},
		{"another interface", before(`iifname "g1" ct mark set 0x1;`), ""},
		{"UDP", before(`meta l4proto udp ct mark set 0x1;`), ""},
		{"another part of connection tracking", behind(`ct event set new;`), ""},
		{"what this host sends", `table inet t { chain C { type filter hook output priority 0; ct mark set 0x1; } }`, ""},
		{"notrack behind connection tracking", behind(`notrack;`), ""},
		{"notrack of others", raw(`udp dport 53 notrack;`), ""},
		{"notrack behind a rule that may accept", raw(`meta length 40 accept; notrack;`), ""},
	} {
		n.table(c.table)
		found := n.pins()
		switch {
		case c.what == "" && len(found) > 0, c.what != "" && len(found) != 1:
			t.Errorf("%s: %+v", c.name, found)
		case c.what != "":
			if f := found[0]; !strings.Contains(f.Text, c.what) || !strings.Contains(f.Text, "the rule with handle ") || f.Fatal {
				t.Errorf("%s: %+v", c.name, f)
			}
			if all := n.losses(); len(all) == 0 {
				t.Errorf("%s: not among all findings", c.name)
			}
		}
		n.drop(c.table)
	}
	n.table(before(`ct mark set 0x1;`))
	n.capture.Gateways = nil
	if found := append(n.pins(), n.losses()...); len(found) > 0 {
		t.Errorf("there can be one gateway only: %+v", found)
	}
}

// TestTargetsThatUnpin: the targets of iptables that set the connection's mark, or exempt from
// connection tracking.
func TestTargetsThatUnpin(t *testing.T) {
	t.Parallel()
	n := newPinnedNS(t)
	const all, rest = 0xffffffff, 0xffffffcf
	for _, c := range []struct {
		name  string
		rev   uint32
		raw   bool
		words []uint32
		found bool
	}{
		{"CONNMARK", 1, false, []uint32{1, all, all, connmarkSet}, true},
		{"CONNMARK", 1, false, []uint32{1, rest, all, connmarkSet}, false},
		{"CONNMARK", 1, false, []uint32{0, all, all, connmarkSave}, true},
		{"CONNMARK", 1, false, []uint32{0, rest, rest, connmarkSave}, false},
		{"CONNMARK", 1, false, []uint32{0, all, all, connmarkRestore}, false}, // sets the packet's
		{"CONNMARK", 2, false, []uint32{1, all, all, bytes3(0, 0, connmarkSet)}, true},
		{"CONNMARK", 2, false, []uint32{1, rest, all, bytes3(0, 0, connmarkSet)}, false},
		{"CONNMARK", 2, false, []uint32{0, all, all, bytes3(0, 0, connmarkSave)}, true},
		{"CONNMARK", 2, false, []uint32{0, rest, rest, bytes3(0, 0, connmarkSave)}, false},
		{"CONNMARK", 2, false, []uint32{0, all, all, bytes3(0, 8, connmarkSave)}, false}, // shifted: not followed
		{"CT", 0, true, []uint32{1, 0, 0, 0, 0, 0, 0, 0, 0, 0}, true},
		{"NOTRACK", 0, true, nil, true},
	} {
		conn, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		name, priority := "mangle", *nftables.ChainPriorityMangle
		if c.raw {
			name, priority = "raw", *nftables.ChainPriorityRaw
		}
		table := conn.AddTable(&nftables.Table{Name: name, Family: nftables.TableFamilyIPv4})
		chain := conn.AddChain(&nftables.Chain{Name: "PREROUTING", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: &priority})
		var info xt.Unknown
		for _, v := range c.words {
			info = append(info, native(v)...)
		}
		exprs := []expr.Any{&expr.Target{Name: c.name, Rev: c.rev, Info: &info}}
		if found := n.walked(chain, exprs); c.found != (found != nil) {
			t.Errorf("%s %d %#x, as if it had been read: %+v", c.name, c.rev, c.words, found)
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		if err := conn.Flush(); err != nil {
			t.Logf("this kernel does not take %s: %v", c.name, err)
			continue
		}
		if found := n.pins(); c.found != (len(found) == 1) {
			t.Errorf("%s %d %#x: %+v", c.name, c.rev, c.words, found)
		}
		n.script("nft delete table ip " + name)
	}
}

// walked looks for pins in a chain with one rule that no kernel has to know.
func (n *ns) walked(c *nftables.Chain, exprs []expr.Any) *Finding {
	n.t.Helper()
	key := nftname.Family(c.Table.Family) + " " + c.Table.Name + " " + c.Name
	l := &look{Reader: n.reader, Capture: &n.capture, chains: []*nftables.Chain{c}, left: maxSteps, pins: maxSteps,
		known: map[string][]rule{key: {{handle: 7, exprs: exprs}}}, sets: map[string]*setContent{}}
	found, err := l.first(c, []func(*nftables.Chain, byte) (*Finding, error){l.unpins})
	if err != nil {
		n.t.Fatal(err)
	}
	return found
}
