package gateway

import (
	"crypto/tls"
	"errors"
	"net/netip"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// A shadow decides every flow beside the enforced policy: what it would do
// otherwise is recorded and counted, and changes nothing.
func TestShadow(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	next := mtls()
	next.Rules[0].Name = "next"
	next.Rules[0].Client.Allow = []policy.AllowSpec{{SANDNS: []string{"bob.example"}}}
	next.Rules = append(next.Rules, policy.RuleSpec{Name: "new", To: []string{"198.51.100.7:443"}, Action: "bypass"})
	shadow := policy.NewShadow(h.compile(next))
	now := h.gw.current.Load()
	setPolicy(h.gw, now.set, shadow, now.limits)

	bob := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"bob.example"}})).TLS()
	for i, c := range []struct {
		cert                           *tls.Certificate
		reason, kind, rule, shadowSays string
	}{
		{h.alice(), "verified", "shadow_denies", "next", "identity_not_allowed"},
		{&bob, "verified", "other_rule", "next", "verified"},
		{nil, "no_certificate", "other_rule", "next", "no_certificate"},
	} {
		conn, err := h.tlsClient(server4, c.cert, only(tls.VersionTLS12))
		if err == nil {
			_ = conn.Close()
		}
		r := h.record(i + 1)
		s, _ := r["shadow"].(map[string]any)
		if r.str("reason") != c.reason || s["kind"] != c.kind || s["rule"] != c.rule || s["reason"] != c.shadowSays {
			t.Errorf("%d: reason %s, shadow %v; want %+v", i, r.str("reason"), s, c)
		}
	}
	if _, err := h.client.Dial(t.Context(), netip.MustParseAddrPort("198.51.100.7:443")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("what only the shadow allows: %v", err)
	}
	r := h.record(4)
	if s, _ := r["shadow"].(map[string]any); s["kind"] != "shadow_allows" || s["rule"] != "new" || r.str("reason") != "no_rule" {
		t.Errorf("record %v", r)
	}
	counts, flows, rest := shadow.Report()
	if flows != 4 || rest != 0 || len(counts) != 4 || counts[0].Kind != policy.ShadowDenies {
		t.Errorf("report: %v, %d flows, %d more", counts, flows, rest)
	}
}
