package gateway

import (
	"crypto/tls"
	"testing"

	"github.com/sslgate/sslgate/handshake/native"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/policy"
)

// A fingerprint denies whoever sends such a hello, with either engine, before a destination
// is dialled; observed, it is noted and the flow goes on; a shadow says the same. A client
// with another hello passes, whatever its certificate.
func TestFingerprints(t *testing.T) {
	first := newHouse(t, mtls(), nil)
	if err := first.try(first.alice()); err != nil {
		t.Fatal(err)
	}
	hello, _ := first.record(1)["hello"].(map[string]any)
	print, _ := hello["ja4"].(string)
	if print == "" {
		t.Fatalf("no fingerprint in %v", first.record(1))
	}
	rules := func(mode string) policy.Spec {
		spec := mtls()
		deny := policy.RuleSpec{Name: "scanner", To: []string{"*:443"}, JA4: []string{print}, Action: "deny", Mode: mode}
		spec.Rules = append([]policy.RuleSpec{deny}, spec.Rules...)
		return spec
	}
	for name, engine := range map[string]option{
		"stdtls": func(c *Config) { c.Engine = stdtls.New() },
		"native": func(c *Config) { c.Engine = native.New(stdtls.New()) },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, rules(""), nil, engine)
			if err := h.try(h.alice()); err == nil {
				t.Error("let through")
			}
			if r := h.record(1); r.str("reason") != "rule_deny" || r.str("rule") != "scanner" || r.str("verdict") != "refused" || h.dials.Load() != 0 {
				t.Errorf("%d dials, record %v", h.dials.Load(), r)
			}
			// TLS 1.2 alone is another fingerprint.
			if err := h.tryWith(h.alice(), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err != nil {
				t.Errorf("another hello: %v", err)
			}
			if r := h.record(2); r.str("reason") != "verified" {
				t.Errorf("record %v", r)
			}
			h = newHouse(t, rules("observe"), nil, engine)
			if err := h.try(h.alice()); err != nil {
				t.Error(err)
			}
			if r := h.record(1); r.str("reason") != "verified" || r.str("would") != "deny" || r.str("would_rule") != "scanner" || r.str("would_reason") != "rule_deny" {
				t.Errorf("observed: record %v", r)
			}
		})
	}
	h := newHouse(t, mtls(), nil)
	setPolicy(h.gw, settingsOf(h.gw).Policy, policy.NewShadow(h.compile(rules(""))), settingsOf(h.gw).Limits)
	if err := h.try(h.alice()); err != nil {
		t.Fatal(err)
	}
	if s, _ := h.record(1)["shadow"].(map[string]any); s["kind"] != "shadow_denies" || s["rule"] != "scanner" {
		t.Errorf("shadow: record %v", h.record(1))
	}
}
