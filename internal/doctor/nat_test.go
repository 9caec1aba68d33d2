package doctor

import (
	"strings"
	"testing"

	"github.com/google/nftables/expr"
)

// A source NAT that would match captured packets is reported; one with another outgoing
// interface is not.
func TestNAT(t *testing.T) {
	post := func(priority, rule string) string {
		return "nft add table ip hostnat; nft 'add chain ip hostnat post { type nat hook postrouting priority " + priority + " ; }'; nft 'add rule ip hostnat post " + rule + "'"
	}
	for name, c := range map[string]struct {
		fault string
		level Level
		says  string
	}{
		"no interface":      {post("srcnat", "ip saddr 10.0.0.0/8 masquerade"), Good, "masquerade in chain post of table ip hostnat"},
		"not lo":            {post("srcnat", "oifname != lo masquerade"), Good, "masquerade in chain post"},
		"by a mark":         {post("srcnat", "meta mark and 0x4000 == 0x4000 masquerade"), Good, "masquerade in chain post"},
		"to an address":     {post("srcnat", "snat to 192.0.2.7"), Good, "snat in chain post"},
		"in another chain":  {post("srcnat", "accept") + "; nft add chain ip hostnat more; nft add rule ip hostnat more masquerade; nft insert rule ip hostnat post jump more", Good, "masquerade in chain more"},
		"another interface": {post("srcnat", "oifname eth7 masquerade"), Good, "no source NAT"},
		"its prefix":        {post("srcnat", "oifname \"eth*\" masquerade"), Good, "no source NAT"},
		"our prefix":        {post("srcnat", "oifname \"sslg*\" masquerade"), Good, "masquerade in chain post"},
		"not the TUN":       {post("srcnat", "oifname != sslgate0 masquerade"), Good, "no source NAT"},
		"before ours":       {post("-195", "ip saddr 10.0.0.0/8 masquerade"), Fail, "priority -195"},
		"before, elsewhere": {post("-195", "oifname eth7 masquerade"), Good, "no source NAT"},
		"destination NAT":   {post("srcnat", "accept") + "; nft 'add chain ip hostnat pre { type nat hook prerouting priority dstnat ; }'; nft add rule ip hostnat pre tcp dport 443 dnat to 192.0.2.7", Good, "no source NAT"},
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				if !sh(t, c.fault) {
					return
				}
				for _, f := range Examine(options(t)) {
					if f.Check == "nat" && (f.Level != c.level || !strings.Contains(f.Text, c.says)) {
						t.Errorf("%s %s", f.Level, f.Text)
					}
				}
			})
		})
	}
}

// The rules of iptables-nft have targets of xtables.
func TestTargets(t *testing.T) {
	for name, want := range map[string]string{"MASQUERADE": "masquerade", "SNAT": "snat", "NETMAP": "netmap", "DNAT": "", "ACCEPT": ""} {
		if how, _ := action([]expr.Any{&expr.Counter{}, &expr.Target{Name: name}}); how != want {
			t.Errorf("%s is %q, want %q", name, how, want)
		}
	}
}

// Clients get redirects past the gateway before the guard is set; the printed command
// stops that.
func TestRedirects(t *testing.T) {
	for name, c := range map[string]struct {
		fault string
		found bool
	}{
		"guarded":       {"sysctl -qw net.ipv4.conf.all.send_redirects=1", false},
		"not guarded":   {"nft delete table inet sslgate; sysctl -qw net.ipv4.conf.all.send_redirects=1", true},
		"the interface": {"nft delete table inet sslgate; sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.c0.send_redirects=1", true},
		"another":       {"nft delete table inet sslgate; sysctl -qw net.ipv4.conf.all.send_redirects=0 net.ipv4.conf.c0.send_redirects=0 net.ipv4.conf.p0.send_redirects=1", false},
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				if !sh(t, c.fault) {
					return
				}
				found := bad(Examine(options(t)), "redirects")
				if len(found) > 0 != c.found {
					t.Errorf("%+v", found)
				}
				for _, f := range found {
					sh(t, strings.Replace(f.Fix, "sysctl -w", "sysctl -qw", 1))
				}
				if left := bad(Examine(options(t)), "redirects"); len(left) > 0 {
					t.Errorf("not mended: %+v", left)
				}
			})
		})
	}
}
