package foreign

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// TestWholeMarks: a rule behind our marking that surely takes our bits of the mark away, or
// gives them to answers, is named with its handle, and the printed command mends it. A rule
// that leaves our bits alone, or may not meet the packets, is not.
func TestWholeMarks(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	n.capture.ReturnMark = 0x20
	in := func(rules string) string { // behind ours
		return `table inet t { chain M { type filter hook prerouting priority -130; ` + rules + ` } }`
	}
	const captured, answers, ours = "from g0 to t0", "from t0 to g0", "answers connections under a client's address"
	for _, c := range []struct {
		name, table string
		what        string // in the finding; "": none
		noFix       bool
	}{
		{"the whole mark", in(`meta mark set 0x1;`), captured, false},
		{"by interface", in(`iifname "g0" meta mark set 0x7f00;`), captured, false},
		{"ours cleared, the rest kept", in(`iifname "g0" meta mark set meta mark and 0xffffff0f or 0x3;`), captured, false},
		{"the connection's mark", in(`iifname "g0" meta mark set ct mark;`), captured, false},
		{"the connection's mark without our bits", in(`iifname "g0" meta mark set ct mark and 0xff;`), captured, false},
		{"in a chain behind a jump", `table ip t { chain j { meta mark set 0x1; } chain M { type filter hook prerouting priority 0; ip protocol tcp jump j; } }`, captured, false},
		{"with NAT", `table ip t { chain M { type nat hook prerouting priority -100; tcp dport 443 meta mark set 0x1; } }`, captured, true},
		{"at our priority", `table inet t { chain M { type filter hook prerouting priority -140; meta mark set 0x1; } }`, captured, false},
		{"answers as captured", in(`iifname "t0" meta mark set 0x10;`), answers, false},
		{"answers as connections under a client's address", in(`iifname "t0" meta mark set 0xff2f;`), answers, false},
		{"answers to us", in(`iifname "g1" accept; iifname { "g0", "t0" } accept; tcp sport 443 accept; meta mark set 0x1;`), "", false},
		{"answers to us alone", `table inet t { chain M { type filter hook prerouting priority -130; iifname { "g0", "t0" } accept; ct direction reply meta mark set 0x1; } }`, "", false}, // where they come in is not known
		{"answers to us, wherever they come in", in(`ct direction original accept; meta mark set 0x3;`), ours, false},

		{"under a mask", in(`meta mark set meta mark and 0x70 or 0x1;`), "", false},
		{"bits beside ours", in(`meta mark set meta mark or 0x1000;`), "", false},
		{"the connection's mark beside ours", in(`meta mark set 0x10; iifname "t0" meta mark set 0x0; ct direction reply iifname != "t0" meta mark set 0x20;`), "", false},
		{"by addresses, which may not fit", in(`ip saddr 10.0.0.0/8 meta mark set 0x1;`), "", false},
		{"behind a rule that may accept", in(`ct mark 0x1 accept; meta mark set 0x1;`), "", false},
		{"another interface", in(`iifname "g1" meta mark set 0x1;`), "", false},
		{"UDP", in(`meta l4proto udp meta mark set 0x1;`), "", false},
		{"behind a jump that may not be", `table inet t { chain j { meta mark set 0x1; } chain M { type filter hook prerouting priority 0; limit rate 1/second jump j; } }`, "", false},
		{"the connection's own mark", in(`ct mark set meta mark;`), "", false},
		{"before ours", `table inet t { chain M { type filter hook prerouting priority -150; meta mark set 0x1; } }`, "", false},
		{"what leaves", `table inet t { chain M { type filter hook postrouting priority -150; meta mark set 0x1; } }`, "", false},
		{"set right again", in(`meta mark set 0x1; iifname "g0" meta mark set 0x11; iifname "t0" meta mark set 0x1; ct direction reply iifname != "t0" meta mark set 0x20;`), "", false},
	} {
		n.table(c.table)
		found := n.losses()
		switch {
		case c.what == "" && len(found) > 0, c.what != "" && len(found) != 1:
			t.Errorf("%s: %+v", c.name, found)
		case c.what != "":
			f := found[0]
			fatal := !strings.Contains(c.table, "priority -140")
			if !strings.Contains(f.Text, c.what) || !strings.Contains(f.Text, "rule with handle ") || f.Fatal != fatal || (f.Fix == "") != c.noFix {
				t.Errorf("%s: %+v", c.name, f)
			}
			if c.noFix {
				break
			}
			n.script(f.Fix)
			if left := n.losses(); len(left) > 0 {
				t.Errorf("%s: not mended by %s: %+v", c.name, f.Fix, left)
			}
		}
		n.drop(c.table)
	}
	n.capture.ByPort = true // captured packets find their way all the same
	n.table(in(`meta mark set 0x1;`))
	if found := n.losses(); len(found) != 1 || found[0].Fatal {
		t.Errorf("routed by port too: %+v", found)
	}
}

// TestTargetsThatMark: the targets of iptables that set the mark.
func TestTargetsThatMark(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	for _, c := range []struct {
		name  string
		rev   uint32
		words []uint32
		found bool
	}{
		{"MARK", 2, []uint32{0x1, 0xffffffff}, true},
		{"MARK", 2, []uint32{0x1, 0xf}, false},
		{"MARK", 2, []uint32{0x30, 0x70}, true},
		{"CONNMARK", 1, []uint32{0xffffffff, 0xffffffff, 0xffffffff, 2}, true},  // restore
		{"CONNMARK", 1, []uint32{0xffffffff, 0xffffffff, 0xffffff8f, 2}, false}, // under a mask
		{"CONNMARK", 1, []uint32{0xffffffff, 0xffffffff, 0xffffffff, 1}, false}, // save
		// Revision 2, which iptables takes: shift_dir, shift_bits and mode are a byte each.
		{"CONNMARK", 2, []uint32{0xffffffff, 0xffffffff, 0xffffffff, bytes3(0, 0, 2)}, true},  // restore
		{"CONNMARK", 2, []uint32{0xffffffff, 0xffffff8f, 0xffffff8f, bytes3(0, 0, 2)}, false}, // under a mask
		{"CONNMARK", 2, []uint32{0xffffffff, 0xffffffff, 0xffffffff, bytes3(0, 4, 2)}, false}, // shifted: not followed
		{"CONNMARK", 2, []uint32{0xffffffff, 0xffffffff, 0xffffffff, bytes3(2, 0, 0)}, false}, // set, whatever the direction
	} {
		conn, err := nftables.New()
		if err != nil {
			t.Fatal(err)
		}
		table := conn.AddTable(&nftables.Table{Name: "mangle", Family: nftables.TableFamilyIPv4})
		chain := conn.AddChain(&nftables.Chain{Name: "PREROUTING", Table: table, Type: nftables.ChainTypeFilter,
			Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(0)})
		var info xt.Unknown
		for _, v := range c.words {
			info = append(info, native(v)...)
		}
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{&expr.Target{Name: c.name, Rev: c.rev, Info: &info}}})
		if err := conn.Flush(); err != nil {
			t.Skipf("this kernel has no %s of xtables: %v", c.name, err)
		}
		found := n.losses()
		if c.found != (len(found) == 1) || c.found && !strings.HasPrefix(found[0].Fix, "iptables -t mangle -I PREROUTING -i g0 -m mark --mark 0x10/0x70 -j ACCEPT") {
			t.Errorf("%s %#x: %+v", c.name, c.words, found)
		}
		n.script("nft delete table ip mangle")
	}
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// bytes3 are three bytes of a structure and one that fills it up.
func bytes3(a, b, c byte) uint32 { return binary.NativeEndian.Uint32([]byte{a, b, c, 0}) }
