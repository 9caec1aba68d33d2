package foreign

import (
	"strings"
	"testing"
)

// TestWholeMarksOfOutput: a rule in an output chain that surely gives what this host sends a
// mark of ours, or takes it from connections under a client's address before they have their
// zone, is named with its handle. One that leaves our bits alone, or cannot lead anything
// astray, is not.
func TestWholeMarksOfOutput(t *testing.T) {
	t.Parallel()
	n := newNS(t)
	n.capture.ReturnMark, n.capture.SocketMark, n.capture.Zone = 0x20, 0x30, -300
	out := func(kind, priority, rules string) string {
		return `table inet t { chain O { type ` + kind + ` hook output priority ` + priority + `; ` + rules + ` } }`
	}
	const sent, own = "that this host sends", "of connections under a client's address"
	for _, c := range []struct{ name, table, what, harm string }{
		{"as captured", out("route", "0", "meta mark set 0x10;"), sent, "into the TUN"},
		{"as captured, other bits beside", out("route", "-150", "meta l4proto tcp meta mark set 0xca10;"), sent, "into the TUN"},
		{"as an answer", out("route", "mangle", "meta mark set 0x2f;"), sent, "back to this host"},
		{"our bits alone, to captured", out("route", "0", "meta mark set meta mark and 0xffffff8f or 0x10;"), sent, "into the TUN"},
		{"of iptables", `table ip mangle { chain OUTPUT { type route hook output priority mangle; meta mark set 0x10; } }`, sent, "into the TUN"},
		{"behind a jump", `table ip t { chain j { meta mark set 0x10; } chain O { type route hook output priority 0; jump j; } }`, sent, "into the TUN"},
		{"before the zone", out("filter", "-301", "meta mark set 0x1;"), own, "no zone"},
		{"before the zone, of type route", out("route", "-400", "meta mark set ct mark;"), own, "no zone"},

		{"wg-quick's", out("route", "0", "meta mark set 0xca6c;"), "", ""},
		{"another mark behind the zone", out("route", "-150", "meta mark set 0x1;"), "", ""},
		{"no look for a route", out("filter", "0", "meta mark set 0x10;"), "", ""},
		{"beside ours", out("route", "-400", "meta mark set meta mark or 0x1000;"), "", ""},
		{"by the interface, which may not be", out("route", "0", `oifname "wg0" meta mark set 0x10;`), "", ""},
		{"by the user, which may not be", out("route", "0", "meta skuid 1000 meta mark set 0x10;"), "", ""},
		{"UDP", out("route", "0", "meta l4proto udp meta mark set 0x10;"), "", ""},
		{"saved alone", out("route", "-400", "ct mark set meta mark;"), "", ""},
	} {
		n.table(c.table)
		found := n.losses()
		switch {
		case c.what == "" && len(found) > 0, c.what != "" && len(found) != 1:
			t.Errorf("%s: %+v", c.name, found)
		case c.what != "":
			if f := found[0]; !strings.Contains(f.Text, c.what) || !strings.Contains(f.Text, c.harm) || !strings.Contains(f.Text, "rule with handle ") {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
		n.drop(c.table)
	}
	n.capture.OwnMark = 0x50 // programs of this host are captured
	const self = "of sslgate itself"
	for _, c := range []struct{ name, table, what, harm string }{
		{"a mark that is restored", out("route", "-150", "meta mark set ct mark;"), self, "come back to it"},
		{"another mark", out("filter", "-150", "meta mark set 0x1;"), self, "come back to it"},
		{"as sslgate's own", out("filter", "-150", "meta mark set meta mark and 0xffffff8f or 0x50;"), sent, "not captured"},
		{"behind ours", out("filter", "0", "meta mark set 0x50;"), "", ""},
		{"our bits left alone", out("route", "-150", "meta mark set meta mark and 0x70 or 0x100;"), "", ""},
	} {
		n.table(c.table)
		found := n.losses()
		if (c.what == "") != (len(found) == 0) || c.what != "" && (!strings.Contains(found[0].Text, c.what) || !strings.Contains(found[0].Text, c.harm)) {
			t.Errorf("%s: %+v", c.name, found)
		}
		n.drop(c.table)
	}
	n.capture.OwnMark = 0
	n.capture.ReturnMark, n.capture.SocketMark = 0, 0 // no connections under a client's address
	n.table(out("filter", "-301", "meta mark set 0x1;"))
	if found := n.losses(); len(found) != 0 {
		t.Errorf("without such connections: %+v", found)
	}
}
