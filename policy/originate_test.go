package policy

import (
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/reason"
)

// A rule that originates is chosen by the first packet: by from, to and time, and a client
// hello changes nothing but that it is refused.
func TestOriginateBySYN(t *testing.T) {
	set := compile(t, `
rules:
  - name: tills
    from: [10.1.0.0/16]
    to: ["10.20.0.1:5432"]
    time: {days: [mon-fri], from: "06:00", to: "20:00", zone: UTC}
    action: originate
    destination: {tls: verify, authorities: [servers], name: db.internal, identity: pay}
  - name: stock
    from: [10.2.0.0/16]
    to: ["10.20.0.1:5432"]
    action: originate
    destination: {tls: verify, authorities: [servers], name: db.internal, to_port: 5433}
  - name: pay
    to: ["10.20.0.1:5432"]
    from: [10.3.0.0/16]
    identity: pay
    alpn: []
    client: {authorities: [staff]}
    destination: {tls: plain}
`)
	monday := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		src     string
		at      time.Time
		action  Action
		rule    string
		reason  reason.Code
		dials   uint16
		shows   bool
		awaited string
	}{
		"within the time":    {"10.1.0.7", monday, Originate, "tills", reason.Originated, 5432, true, ""},
		"at night":           {"10.1.0.7", monday.Add(12 * time.Hour), Deny, "", reason.OutsideTime, 0, false, ""},
		"on Sunday":          {"10.1.0.7", monday.Add(-24 * time.Hour), Deny, "", reason.OutsideTime, 0, false, ""},
		"another network":    {"10.2.0.7", monday, Originate, "stock", reason.Originated, 5433, false, ""},
		"neither":            {"10.4.0.7", monday, Deny, "", reason.NoRule, 0, false, ""},
		"one that waits":     {"10.3.0.7", monday, Deny, "", "", 0, false, "pay"},
		"IPv4-mapped is one": {"::ffff:10.2.0.7", monday, Originate, "stock", reason.Originated, 5433, false, ""},
	} {
		f := Facts{Now: c.at, Src: netip.AddrPortFrom(netip.MustParseAddr(c.src), 40000), Dst: netip.MustParseAddrPort("10.20.0.1:5432")}
		v, decided := set.OnSYN(f)
		if got := set.Awaiting(f); got != c.awaited || decided != (c.awaited == "") {
			t.Errorf("%s: decided %t, rule %q is awaited, want %q", name, decided, got, c.awaited)
		}
		if c.awaited != "" {
			continue
		}
		if v.Action != c.action || v.Rule != c.rule || v.Reason != c.reason {
			t.Errorf("%s: %v", name, v)
		}
		if v.Action != Originate {
			continue
		}
		if to := v.Plan.Dials(f.Dst); to.Port() != c.dials {
			t.Errorf("%s: dials %s", name, to)
		}
		params, err := v.Plan.Destination(f)
		if err != nil || params.VerifyName != "db.internal" || params.ServerName != "db.internal" || (len(params.Certificates) > 0) != c.shows {
			t.Errorf("%s: %+v, %v", name, params, err)
		}
	}
}
