package doctor

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/policy"
)

// Another program's rule that comes before ours takes captured packets if its table has a
// route for them, and is then a failure; otherwise it is at most a warning. No advice
// says to delete it: at the preference that is named ours come first.
func TestRulesBeforeOurs(t *testing.T) {
	const host = "ip link set p0 up; ip addr add 192.0.2.1/24 dev p0; ip addr add 2001:db8::1/64 dev p0 nodad; "
	for _, c := range []struct {
		name, setup string
		source      bool // connections under a client's address are asked for
		level       Level
		says        string
	}{
		{"Tailscale", "ip rule add pref 5270 lookup 52; ip route add 100.64.0.0/10 dev p0 table 52", false, Warn, "(table 52, Tailscale) comes before ours"},
		{"Tailscale with an exit node", "ip rule add pref 5270 lookup 52; ip route add 100.64.0.0/10 dev p0 table 52; ip route add default dev p0 table 52", false, Fail, "Tailscale"},
		{"to a destination of the policy", "ip rule add pref 100 lookup 42; ip route add 10.77.0.0/16 dev p0 table 42", false, Fail, "ip -4 rule 100 (table 42)"},
		{"to one of IPv6", "ip -6 rule add iif c0 pref 200 lookup 42; ip -6 route add 2001:db8:77::/48 dev p0 table 42", false, Fail, "ip -6 rule 200"},
		{"by a mask that takes our mark", "ip rule add fwmark 0x10/0x10 pref 100 lookup 42; ip route add default dev p0 table 42", false, Fail, "rule 100"},
		{"unreachable", "ip rule add pref 100 unreachable", false, Fail, "rule 100"},
		{"a table without routes", "ip rule add pref 100 lookup 42", false, Good, ""},
		{"a table that hands back", "ip rule add pref 100 lookup 42; ip route add throw default table 42", false, Good, ""},
		{"main without its default route", "ip rule add pref 100 lookup main suppress_prefixlength 0; ip route add default via 192.0.2.9", false, Warn, "rule 100"},
		{"answers", "ip rule add iif p0 pref 100 lookup 42; ip route add default dev p0 table 42", true, Fail, "answers to connections"},
		{"answers of IPv6", "ip -6 rule add fwmark 0x20/0x20 pref 100 lookup 42; ip -6 route add default dev p0 table 42", true, Fail, "ip -6 rule 100"},
	} {
		t.Run(c.name, func(t *testing.T) {
			inNamespace(t, func(t *testing.T) {
				o := options(t)
				o.Config.Policy.Rules = []policy.RuleSpec{{To: []string{"10.77.2.10:443", "[2001:db8:77::10]:*"}}}
				if c.source {
					o.Config.Dial = config.Dial{Source: "client", Mark: 0x20, Table: 5520}
				}
				if !sh(t, host+c.setup) {
					return
				}
				found := append(bad(Examine(o), "rules"), bad(Examine(o), "source")...)
				if c.level == Good {
					if len(found) > 0 {
						t.Errorf("%+v", found)
					}
					return
				}
				if len(found) != 1 || found[0].Level != c.level || !strings.Contains(found[0].Text, c.says) || strings.Contains(found[0].Fix, "del") {
					t.Errorf("%+v", found)
					return
				}
				_, after, _ := strings.Cut(found[0].Text, "write `preference: ")
				if _, err := fmt.Sscanf(after, "%d", &o.Config.Capture.Preference); err != nil {
					t.Errorf("%s: %v", found[0].Text, err)
				}
				if left := append(bad(Examine(o), "rules"), bad(Examine(o), "source")...); len(left) > 0 {
					t.Errorf("not mended: %+v", left)
				}
			})
		})
	}
}
