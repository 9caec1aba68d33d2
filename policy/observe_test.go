package policy

import (
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/reason"
)

// Towards the destination, observing notes what is wrong with a certificate
// and widens nothing.
func TestObservedDestination(t *testing.T) {
	p := testPKI()
	set := compile(t, `
rules:
  - {name: seen, mode: observe, to: ["10.0.0.1:443"], identity: pay, profile: modern, client: {certificate: none}, destination: {tls: verify, authorities: [servers]}}
  - {name: held, to: ["10.0.0.2:443"], identity: pay, client: {certificate: none}, destination: {tls: verify, authorities: [servers]}}
`)
	refused := &handshake.Peer{Shown: peer("", p.staff, testLeafPay).Shown, Refusal: handshake.Refuse(handshake.StepServerVerified, reason.UpstreamUnknownCA, "x")}
	for name, tt := range map[string]struct {
		dst    string
		peer   *handshake.Peer
		action Action
		would  reason.Code
	}{
		"observed":               {"10.0.0.1:443", refused, Terminate, reason.UpstreamUnknownCA},
		"observed, none shown":   {"10.0.0.1:443", nil, Terminate, reason.UpstreamBadCert},
		"observed, but no chain": {"10.0.0.1:443", &handshake.Peer{Shown: refused.Shown}, Deny, ""},
		"held":                   {"10.0.0.2:443", refused, Deny, ""},
	} {
		f := flow("10.1.1.1", tt.dst, hello("a.internal"))
		plan := set.OnHello(f).Plan
		params, err := plan.Destination(f)
		if err != nil || params.Observe != (tt.dst == "10.0.0.1:443") {
			t.Fatalf("%s: %+v, %v", name, params, err)
		}
		if params.Observe && params.Profile.Name != "modern" {
			t.Errorf("%s: profile %s", name, params.Profile.Name)
		}
		v := set.OnDestination(plan, f, tt.peer)
		if v.Action != tt.action || v.Would.Reason != tt.would || v.Would.Deny != (tt.would != "") {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// A peer whose chain did not verify is let through by an observed rule alone.
func TestRefusedPeer(t *testing.T) {
	f := flow("10.1.1.1", "10.0.0.1:443", hello("a"))
	f.Peer = &handshake.Peer{Shown: peer("", testPKI().staff, testLeafPay).Shown, Refusal: handshake.Refuse(handshake.StepClientVerified, reason.Expired, "x")}
	for mode, action := range map[string]Action{"enforce": Deny, "observe": Terminate} {
		set := compile(t, `rules: [{name: a, mode: `+mode+`, to: ["*:*"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}]`)
		v := set.OnPeer(set.OnHello(f).Plan, f)
		code := v.Reason
		if v.Would.Deny {
			code = v.Would.Reason
		}
		if v.Action != action || code != reason.Expired {
			t.Errorf("%s: %+v", mode, v)
		}
	}
}

// What check says of observing, of times, and of sets.
func TestFindingsOfConditions(t *testing.T) {
	for text, want := range map[string]string{
		`rules: [{name: a, mode: observe, to: ["10.0.0.0/8:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}, {name: b, to: ["*:443"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}]`: `rule "a" is only observed, and it takes flows that rule "b" demands something`,
		`rules: [{name: a, time: {days: [mon]}, to: ["10.0.0.1:443"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}, {name: b, to: ["*:443"], action: bypass}]`:                                                    `rule "b" asks for less than rule "a" demands within a time, and outside of it takes what that leaves`,
		`rules: [{name: a, mode: observe, to: ["10.0.0.1:443"], action: bypass}]`:                                           "action bypass demands nothing",
		`{mode: watch, rules: [{name: a, to: ["10.0.0.1:443"], action: deny}]}`:                                             `unknown word "watch"`,
		`{sets: {x: [a.example]}, rules: [{name: a, from: ["@x"], to: ["10.0.0.1:443"], action: deny}]}`:                    `"a.example": this is no address or CIDR prefix (the set is used in rules[0].from[0])`,
		`{sets: {x: ["@y"], y: [10.0.0.1]}, rules: [{name: a, from: ["@x"], to: ["10.0.0.1:443"], action: deny}]}`:          "a set cannot contain another",
		`{sets: {offices: [10.0.0.1]}, rules: [{name: a, from: ["@ofices"], to: ["10.0.0.1:443"], action: deny}]}`:          `there is no "ofices" in sets (did you mean "offices"?)`,
		`{sets: {x: [10.0.0.1]}, rules: [{name: a, to: ["10.0.0.1:443"], action: deny}]}`:                                   "no rule uses this set",
		`{sets: {x: []}, rules: [{name: a, to: ["10.0.0.1:443"], action: deny}]}`:                                           "the set is empty",
		`{sets: {"a b": [x]}, rules: [{name: a, to: ["10.0.0.1:443"], action: deny}]}`:                                      "a set's name is made of letters",
		`rules: [{name: a, to: ["*:*"], identity: pay, client: {certificate: none, when: "1"}, destination: {tls: plain}}]`: "the condition is of type int",
		`rules: [{name: a, to: ["*:*"], action: deny, client: {when: "true"}}]`:                                             "with action deny nothing looks at this",
	} {
		_, findings := Compile(readSpec(t, text), testEnv(t))
		var all []string
		for _, f := range findings {
			all = append(all, f.Error())
		}
		if got := strings.Join(all, "\n"); !strings.Contains(got, want) {
			t.Errorf("%s\nsays %q,\nnot %q", text, got, want)
		}
	}
	var l fielderr.List
	if l.AddAt("a", 3, "x"); fielderr.All(l.Err())[0].Offset != 3 {
		t.Error("the offset is lost")
	}
	var outer fielderr.List
	if outer.Add("p", l.Err()); fielderr.All(outer.Err())[0].Offset != 3 {
		t.Error("the offset is lost on the way")
	}
}

// The digest sees a mode, a time, a condition and the members of a set, and
// does not see the order of members.
func TestIDSeesConditions(t *testing.T) {
	seen := map[string]string{}
	for _, text := range []string{
		`rules: [{name: a, from: ["@x"], to: ["10.0.0.1:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}]`,
		`rules: [{name: a, mode: observe, from: ["@x"], to: ["10.0.0.1:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}]`,
		`rules: [{name: a, time: {days: [mon]}, from: ["@x"], to: ["10.0.0.1:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}]`,
		`rules: [{name: a, from: ["@x"], to: ["10.0.0.1:443"], identity: pay, client: {certificate: none, when: "port == 443"}, destination: {tls: plain}}]`,
	} {
		for _, members := range []string{"[10.1.0.0/16, 10.3.0.0/16]", "[10.1.0.0/16]"} {
			id := compile(t, "sets: {x: "+members+"}\n"+text).ID()
			if other, twice := seen[id]; twice {
				t.Errorf("one id for\n%s\n%s", other, text)
			}
			seen[id] = text
		}
	}
	a := compile(t, "sets: {x: [10.1.0.0/16, 10.3.0.0/16]}\nrules: [{name: a, from: ['@x'], to: ['*:1'], action: deny}]")
	b := compile(t, "sets: {x: [10.3.0.0/16, 10.1.0.0/16]}\nrules: [{name: a, from: ['@x'], to: ['*:1'], action: deny}]")
	if a.ID() != b.ID() {
		t.Error("the order of members counts")
	}
}
