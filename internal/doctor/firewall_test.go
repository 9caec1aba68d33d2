package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/tun"
)

// The tables of iptables-legacy cannot be read: doctor says so, and what to look at.
func TestLegacyTables(t *testing.T) {
	for name, c := range map[string]struct{ file, names, says string }{
		"IPv4":         {"ip_tables_names", "nat\nfilter\n", "iptables-legacy -S FORWARD"},
		"IPv6":         {"ip6_tables_names", "filter\n", "ip6tables-legacy -S FORWARD"},
		"others alone": {"ip_tables_names", "nat\nmangle\n", ""},
	} {
		o := options(t)
		o.Proc = t.TempDir()
		if err := os.Mkdir(filepath.Join(o.Proc, "net"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.Proc, "net", c.file), []byte(c.names), 0o600); err != nil {
			t.Fatal(err)
		}
		d := &doctor{o: o}
		d.firewall()
		found := bad(d.found, "firewall")
		if c.says == "" && len(found) > 0 || c.says != "" && (len(found) != 1 || found[0].Fix != c.says) {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

// The reverse path filter of firewalld, which drops all captured IPv6, is reported with
// its setting; so is one that drops the answers to connections under a client's address.
func TestReversePathFilter(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		o := options(t)
		const table = `nft -f - <<X
table inet firewalld {
	chain filter_PREROUTING {
		type filter hook prerouting priority filter + 10
		meta nfproto ipv6 fib saddr . mark %s oif missing drop
	}
}
X
`
		if !sh(t, fmt.Sprintf(table, ". iif")) {
			return
		}
		const fix = "sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf; firewall-cmd --reload"
		if f := bad(Examine(o), "firewall"); len(f) != 1 || f[0].Fix != fix || !strings.Contains(f[0].Text, "filter_PREROUTING of table inet firewalld drops IPv6 from c0 to sslgate0, by a reverse path filter") {
			t.Errorf("strict: %+v", f)
		}
		if !sh(t, "nft delete table inet firewalld;"+fmt.Sprintf(table, "")) {
			return
		}
		if f := bad(Examine(o), "firewall"); len(f) > 0 {
			t.Errorf("loose: %+v", f)
		}
		o.Config.Dial.Source, o.Config.Dial.Mark = "client", 0x20
		if f := bad(Examine(o), "firewall"); len(f) != 1 || f[0].Fix != fix || !strings.Contains(f[0].Text, "answers connections under a client's address") {
			t.Errorf("loose, source: client: %+v", f)
		}
	})
}

// Packets that arrive where nothing is captured, and packets that the guard drops because
// of a rule of this host, are warnings; other drops are reported with their counts.
func TestDrops(t *testing.T) {
	inNamespace(t, func(t *testing.T) {
		if !sh(t, `nft delete table inet sslgate
			nft -f - <<X
table inet sslgate {
	set uncaptured {
		type ifname
		flags dynamic,timeout
		timeout 10m
		elements = { "eth1", "wg0" }
	}
	chain c {
		counter packets 3 bytes 120 drop comment "quic"
		counter packets 2 bytes 120 drop comment "destination_nat"
		counter packets 4 bytes 160 drop comment "destination_nat"
		counter packets 9 bytes 160 drop comment "of somebody else"
	}
}
X
`) {
			return
		}
		var said []string
		for _, f := range Examine(options(t)) {
			if f.Check == "drops" {
				said = append(said, f.Level.String()+" "+f.Text)
			}
		}
		all := strings.Join(said, "\n")
		for _, want := range []string{"warn captured ports arrive on eth1, wg0, which is not captured", "warn the guard has dropped 6 packets (destination_nat)", "ok the guard has dropped 3 packets (quic)"} {
			if !strings.Contains(all, want) {
				t.Errorf("%q is not in:\n%s", want, all)
			}
		}
		if len(said) != 3 {
			t.Errorf("%q", said)
		}
	})
}

// docs/metrics.md has every reason, and each has a cause.
func TestDropReasonsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range tun.DropReasons() {
		if !strings.Contains(string(doc), "| `"+reason+"` |") {
			t.Errorf("docs/metrics.md lacks %s", reason)
		}
	}
}
