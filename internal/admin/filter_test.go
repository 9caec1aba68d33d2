package admin

import (
	"net/netip"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sslgate/sslgate/internal/reason"
)

func TestFilter(t *testing.T) {
	rec := record("1", "pay", reason.OK)
	rec.Client, rec.Step, rec.End = netip.MustParseAddrPort("[::ffff:192.0.2.7]:1000"), 9, reason.EndOperator
	live := &Flow{Rule: "pay", Client: "[2001:db8::1]:99", Reason: "verified", Step: 9}
	for _, c := range []struct {
		query          string
		finished, live bool
	}{
		{"", true, true},
		{"rule=pay", true, true},
		{"rule=pa", false, false},
		{"client=192.0.2.7", true, false},
		{"client=192.0.2.0/24", true, false},
		{"client=192.0.2.8", false, false},
		{"client=2001:db8::/32", false, true},
		{"reason=verified", true, true},
		{"reason=ended_by_operator", true, false},
		{"reason=unknown_ca", false, false},
		{"verdict=allowed", true, true},
		{"verdict=refused", false, true}, // a live flow has no verdict yet
		{"step=9", true, true},
		{"step=8", false, false},
		{"rule=pay&client=192.0.2.7&reason=verified&step=9", true, false},
		{"rule=pay&step=1", false, false},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ParseFilter(q)
		if err != nil {
			t.Errorf("%s: %v", c.query, err)
			continue
		}
		if f.Finished(rec) != c.finished || f.Live(live) != c.live {
			t.Errorf("%s: finished %v, live %v", c.query, f.Finished(rec), f.Live(live))
		}
	}
	for _, bad := range []string{"client=x", "client=192.0.2.0/33", "reason=x", "verdict=x", "step=0", "step=10", "step=x"} {
		q, _ := url.ParseQuery(bad)
		if f, err := ParseFilter(q); err == nil || f != (Filter{}) {
			t.Errorf("%s: %+v, %v", bad, f, err)
		}
	}
}

// What is parsed and written as a query is parsed to the same again.
func FuzzFilter(f *testing.F) {
	f.Add("rule=a&client=192.0.2.1/24&reason=no_rule&verdict=refused&step=3")
	f.Add("client=::ffff:1.2.3.4")
	f.Add("client=fe80::1%25eth0")
	f.Fuzz(func(t *testing.T, s string) {
		q, err := url.ParseQuery(s)
		if err != nil {
			return
		}
		a, err := ParseFilter(q)
		if err != nil {
			if a != (Filter{}) {
				t.Errorf("an error with a filter: %+v", a)
			}
			return
		}
		b, err := ParseFilter(a.Query())
		if err != nil {
			t.Fatalf("%+v: %v", a, err)
		}
		if d := cmp.Diff(a, b, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
			t.Error(d)
		}
	})
}
