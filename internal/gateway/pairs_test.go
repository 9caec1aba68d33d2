package gateway

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// PairsOfPolicies makes real flows under every pair of some policies, the one in force and the
// other its shadow. each is called with the second, what its shadow has said (nil for nothing)
// and the record of a flow.
func PairsOfPolicies(t *testing.T, each func(name string, after *policy.Set, shadow map[string]any, line []byte)) {
	t.Helper()
	h := newHouse(t, mtls(), nil)
	change := func(f func(r *policy.RuleSpec)) policy.Spec {
		spec := mtls()
		f(&spec.Rules[0])
		return spec
	}
	behind := func(r policy.RuleSpec) policy.Spec {
		return policy.Spec{Rules: append([]policy.RuleSpec{r}, mtls().Rules...)}
	}
	all := []string{"*:443"}
	if err := h.tryWith(h.alice(), only(tls.VersionTLS12)); err != nil {
		t.Fatal(err)
	}
	hello, _ := h.record(1)["hello"].(map[string]any)
	print, _ := hello["ja4"].(string)
	specs := map[string]policy.Spec{
		"mtls":     mtls(),
		"optional": change(func(r *policy.RuleSpec) { r.Client.Certificate = "optional" }),
		"none":     change(func(r *policy.RuleSpec) { r.Client = policy.ClientSpec{Certificate: "none"} }),
		"by version": change(func(r *policy.RuleSpec) {
			r.Client = policy.ClientSpec{Certificate: "none", When: "tls.version == 'TLS 1.3'"}
		}),
		"alice":        change(func(r *policy.RuleSpec) { r.Client.Allow = []policy.AllowSpec{{SANDNS: []string{"alice.example"}}} }),
		"modern":       change(func(r *policy.RuleSpec) { r.Profile = "modern" }),
		"observed":     change(func(r *policy.RuleSpec) { r.Profile, r.Mode = "modern", "observe" }),
		"bypass":       {Rules: []policy.RuleSpec{{Name: "past", To: all, Action: "bypass"}}},
		"by name":      behind(policy.RuleSpec{Name: "other", To: all, SNI: []string{"other.example", "-"}, Action: "deny"}),
		"deny":         {Rules: []policy.RuleSpec{{Name: "shut", To: all, Action: "deny"}}},
		"by print":     behind(policy.RuleSpec{Name: "print", To: all, JA4: []string{print}, Action: "deny"}),
		"not by print": {Rules: []policy.RuleSpec{{Name: "print", To: all, JA4: []string{print}, Action: "deny"}, {Name: "past", To: all, Action: "bypass"}}},
	}
	flows := []func() error{
		func() error { return h.try(h.alice()) },
		func() error { return h.try(nil) },
		func() error { return h.tryWith(h.alice(), only(tls.VersionTLS12)) },
		func() error { return h.try(stranger(h)) },
	}
	n := 1
	for nameOfFirst, first := range specs {
		for nameOfNext, next := range specs {
			if first.Rules[0].Action == "bypass" {
				continue // the shadow does not know the hello then
			}
			after := h.compile(next)
			setPolicy(h.gw, h.compile(first), policy.NewShadow(after), settingsOf(h.gw).Limits)
			made := flows
			if first.Rules[0].Name == "shut" { // by the first packet
				made = []func() error{func() error { _, err := h.client.Dial(testenv.Context(t), server4); return err }}
			}
			for i, flow := range made {
				_ = flow() // whatever comes of it
				n++
				rec := h.record(n)
				line, err := json.Marshal(rec)
				if err != nil {
					t.Fatal(err)
				}
				shadow, _ := rec["shadow"].(map[string]any)
				each(fmt.Sprintf("%s, then %s, flow %d", nameOfFirst, nameOfNext, i), after, shadow, line)
			}
		}
	}
}

// stranger is a certificate that nobody trusts.
func stranger(h *house) *tls.Certificate {
	h.t.Helper()
	c := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{CN: "nobody"})).Issue(testpki.Leaf{CN: "stranger"})).TLS()
	return &c
}
