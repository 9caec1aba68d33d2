package policy

import (
	"crypto/tls"
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestShadow(t *testing.T) {
	enforced := compile(t, `
rules:
  - {name: a, to: ["10.0.0.1:443"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
  - {name: b, to: ["10.0.0.2:443"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
  - {name: c, to: ["10.0.0.3:443"], action: bypass}
`)
	shadow := NewShadow(compile(t, `
rules:
  - {name: a, to: ["10.0.0.1:443"], identity: pay, client: {authorities: [partner]}, destination: {tls: plain}}
  - {name: b2, to: ["10.0.0.2:443"], identity: pay, client: {authorities: [both]}, destination: {tls: plain}}
  - {name: c, to: ["10.0.0.3:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}
  - {name: d, to: ["10.0.0.4:443"], action: bypass}
`))
	p := testPKI()
	judge := func(dst string, known bool) {
		f := flow("10.1.1.1", dst, hello(""))
		if v, decided := enforced.OnSYN(f); decided {
			f.Hello = nil
			shadow.Judge(v, f)
			return
		}
		if known {
			f.Peer = peer("staff", p.staff, testLeafPay)
			f.Now = f.Peer.Leaf().NotBefore
		}
		shadow.Judge(decide(enforced, f), f)
	}
	judge("10.0.0.1:443", true) // the shadow trusts another CA
	judge("10.0.0.1:443", true)
	judge("10.0.0.1:443", false) // both refuse
	judge("10.0.0.2:443", true)  // by another rule
	judge("10.0.0.3:443", false) // terminated in the place of bypassed
	judge("10.0.0.4:443", false) // let through by the shadow alone
	judge("10.0.0.5:443", false) // neither
	counts, flows, rest := shadow.Report()
	want := []Count{
		{Difference{ShadowDenies, "a", "a", reason.OK, reason.UnknownCA}, 2},
		{Difference{ShadowAllows, "", "d", reason.NoRule, reason.Bypassed}, 1},
		{Difference{OtherAction, "c", "", reason.Bypassed, ""}, 1},
		{Difference{OtherRule, "b", "b2", reason.OK, reason.OK}, 1},
	}
	if diff := cmp.Diff(want, counts); diff != "" || flows != 7 || rest != 0 {
		t.Errorf("%d flows, %d more differences (-want +got):\n%s", flows, rest, diff)
	}
	var none *Shadow
	if _, _, differ := none.Judge(Verdict{}, Facts{}); differ || none.SetID() != "" {
		t.Error("no shadow differs")
	}
}

// A shadow says what a new flow would get: it judges by the hello alone where its rule asks
// for no certificate, and holds against nobody what another policy has agreed on with them.
func TestShadowOfAnotherHandshake(t *testing.T) {
	rule := func(more string) *Set {
		return compile(t, `rules: [{name: a, to: ["10.0.0.1:443"], `+more+`}]`)
	}
	const terminate = `identity: pay, client: {certificate: none}, destination: {tls: plain}`
	for name, c := range map[string]struct {
		enforced, shadow string
		want             Difference
	}{
		"a condition on the hello": {
			`action: bypass`, `identity: pay, client: {certificate: none, when: "sni != 'a.internal'"}, destination: {tls: plain}`,
			Difference{ShadowDenies, "a", "a", reason.Bypassed, reason.ConditionFailed},
		},
		"a condition on what is not agreed on yet": {
			`action: bypass`, `identity: pay, client: {certificate: none, when: "tls.version == 'TLS 1.2'"}, destination: {tls: plain}`,
			Difference{OtherAction, "a", "a", reason.Bypassed, ""},
		},
		"a certificate that nobody asked for": {
			`action: bypass`, `identity: pay, client: {authorities: [staff]}, destination: {tls: plain}`,
			Difference{OtherAction, "a", "a", reason.Bypassed, ""},
		},
		"another protocol": {terminate + `, alpn: [h2]`, terminate + `, alpn: [http/1.1]`, Difference{}},
		"no protocol":      {terminate + `, alpn: [h2]`, terminate, Difference{}},
		"another group":    {terminate, terminate + `, profile: pq`, Difference{}},
	} {
		enforced, shadow := rule(c.enforced), NewShadow(rule(c.shadow))
		f := flow("10.1.1.1", "10.0.0.1:443", hello("a.internal", "h2", "http/1.1"))
		f.Hello.Groups = []uint16{uint16(tls.X25519MLKEM768), uint16(tls.X25519)}
		v := decide(enforced, f)
		if v.Action == Terminate {
			f.State = &handshake.State{Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519), ALPN: "h2"}
		}
		if d, s, _ := shadow.Judge(v, f); d != c.want {
			t.Errorf("%s: %+v, want %+v; the shadow says %+v", name, d, c.want, s)
		}
	}
}

// The table is bounded, and used by many at once.
func TestShadowBounds(t *testing.T) {
	shadow := NewShadow(compile(t, `rules: [{name: a, to: ["10.0.0.1:443"], action: bypass}]`))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range maxDifferences {
				shadow.Judge(Verdict{Action: Deny, Rule: fmt.Sprintf("r%d.%d", w, i), Reason: reason.RuleDeny}, flow("10.1.1.1", "10.0.0.1:443", nil))
			}
		})
	}
	wg.Wait()
	counts, flows, rest := shadow.Report()
	if len(counts) != maxDifferences || flows != 4*maxDifferences || rest != 3*maxDifferences {
		t.Errorf("%d counted apart, %d together, of %d", len(counts), rest, flows)
	}
}

// A policy does not differ from itself.
func TestShadowOfItself(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		set, shadow := build(t, env, rules), NewShadow(build(t, env, rules))
		f := asFound(set, drawWhole(t))
		v := decide(set, f)
		if d, s, differ := shadow.Judge(v, f); differ {
			t.Fatalf("%+v: %+v and %+v", d, v, s)
		}
	})
}
