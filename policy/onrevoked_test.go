package policy

import (
	"fmt"
	"strings"
	"testing"
)

func TestOnRevoked(t *testing.T) {
	const text = `rules: [{name: pay, to: ["10.20.0.0/16:443"], identity: pay, client: {authorities: [staff]%s}, destination: {tls: plain}}]`
	ids := map[string]bool{}
	for more, ends := range map[string]bool{"": true, ", on_revoked: close": true, ", on_revoked: keep": false} {
		set := compile(t, fmt.Sprintf(text, more))
		ids[set.ID()] = true
		if got := set.rules[0].plan.EndsWhenRevoked(); got != ends {
			t.Errorf("%q: ends %t", more, got)
		}
	}
	if len(ids) != 2 {
		t.Errorf("%d digests, want one for close and one for keep", len(ids))
	}
	for more, says := range map[string]string{
		", on_revoked: sometimes":               `unknown word "sometimes"`,
		", certificate: none, on_revoked: keep": "certificate is none",
	} {
		_, found := Compile(readSpec(t, fmt.Sprintf(text, more)), testEnv(t))
		ok := false
		for _, f := range found {
			ok = ok || f.Path == "rules[0].client.on_revoked" && strings.Contains(f.Msg, says)
		}
		if !ok {
			t.Errorf("%q: %v", more, found)
		}
	}
	var none *Plan
	if !none.EndsWhenRevoked() || !(&Plan{}).EndsWhenRevoked() {
		t.Error("without a rule a flow goes on with a revoked certificate")
	}
}
