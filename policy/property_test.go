package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/internal/reason"
)

// The world of these properties is small, so that rules and flows meet often.
var (
	someSources = []string{"10.1.0.0/16", "10.1.1.0/24", "10.1.1.1", "10.2.0.0/15", "fd00:1::/32", "0.0.0.0/0"}
	someHosts   = []string{"10.0.0.0/24", "10.0.0.1", "10.0.0.0/25", "10.0.0.128/25", "[fd00::]/64", "[fd00::1]", "*"}
	somePorts   = []string{"443", "8443", "*"}
	someNames   = []string{"a.example", "*.example", "b.a.example", "*.a.example", "c", "-"}
	someALPN    = []string{"h2", "http/1.1", "grpc"}
	someTimes   = []*TimeSpec{nil, nil, nil, {Days: []string{"mon-fri"}}, {From: "08:00", To: "18:00"}, {From: "22:00", To: "06:00", Days: []string{"fri"}}}
	someSets    = map[string]SetSpec{"nets": {Members: []string{"10.1.0.0/16", "fd00:1::/32"}}, "names": {Members: []string{"a.example", "*.a.example"}}, "hosts": {Members: []string{"10.0.0.1:443", "[fd00::1]:443"}}}
)

// somePrints are those of hellos that drawFlow draws, whole and in part.
var somePrints = sync.OnceValue(func() []string {
	h2, none := ja4.Of(hello("", "h2")), ja4.Of(hello(""))
	_, rest, _ := strings.Cut(h2, "_")
	first, _, _ := strings.Cut(none, "_")
	return []string{h2, none, "*_" + rest, first + "_*_*", "t12i010100_*_*"}
})

// someDay is a Friday.
var someDay = time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)

func someOf(t *rapid.T, label string, from []string, least int) []string {
	n := rapid.IntRange(least, 3).Draw(t, label+" count")
	if n == 0 {
		return nil
	}
	return rapid.SliceOfNDistinct(rapid.SampledFrom(from), n, n, rapid.ID).Draw(t, label)
}

func drawRule(t *rapid.T, name string) RuleSpec {
	r := RuleSpec{
		Name: name, From: someOf(t, "from", someSources, 0), SNI: someOf(t, "sni", someNames, 0), ALPNOffered: someOf(t, "alpn_offered", someALPN, 0),
		Action: rapid.SampledFrom([]string{"terminate", "bypass", "deny", "originate"}).Draw(t, "action"),
		Time:   rapid.SampledFrom(someTimes).Draw(t, "time"), Mode: rapid.SampledFrom([]string{"", "", "", "enforce", "observe"}).Draw(t, "mode"),
	}
	for _, host := range someOf(t, "to", someHosts, 1) {
		r.To = append(r.To, host+":"+rapid.SampledFrom(somePorts).Draw(t, "port"))
	}
	switch rapid.IntRange(0, 9).Draw(t, "set") {
	case 0:
		r.From = append(r.From, "@nets")
	case 1:
		r.SNI = append(r.SNI, "@names")
	case 2:
		r.To = append(r.To, "@hosts")
	}
	if r.Action == "deny" {
		r.JA4 = someOf(t, "ja4", somePrints(), 0)
	}
	if r.Action == "originate" {
		r.SNI, r.ALPNOffered, r.Mode = nil, nil, ""
		if r.From == nil {
			r.From = []string{"10.0.0.0/8", "fd00::/8"}
		}
		r.Destination = DestinationSpec{TLS: "verify", Authorities: []string{"servers"}, Name: "pay.internal"}
	}
	if r.Action == "terminate" {
		r.Identity, r.Destination.TLS = "pay", "plain"
		if rapid.IntRange(0, 3).Draw(t, "upgrades") == 0 {
			r.Upgrade = "postgres"
		} else {
			r.ALPN = someOf(t, "alpn", someALPN, 0)
		}
		r.Profile = rapid.SampledFrom([]string{"", "modern"}).Draw(t, "profile")
		switch r.Client.Certificate = rapid.SampledFrom([]string{"none", "none", "optional", "required"}).Draw(t, "certificate"); r.Client.Certificate {
		case "none":
		default:
			r.Client.Authorities = []string{"staff"}
			if rapid.Bool().Draw(t, "allow") {
				r.Client.Allow = []AllowSpec{{SANDNS: []string{"a.staff"}}, {KeyType: []string{"rsa"}}}
			}
			if rapid.IntRange(0, 4).Draw(t, "when") == 0 {
				r.Client.When = "cert.present && 'b.staff' in cert.san_dns"
			}
		}
	}
	return r
}

func drawRules(t *rapid.T) []RuleSpec {
	rules := make([]RuleSpec, rapid.OneOf(rapid.IntRange(0, 5), rapid.IntRange(minIndexed, 4*minIndexed)).Draw(t, "rules"))
	for i := range rules {
		rules[i] = drawRule(t, fmt.Sprintf("r%d", i))
	}
	return rules
}

func drawFlow(t *rapid.T) Facts {
	family := rapid.SampledFrom([][2][]string{
		{{"10.1.1.1", "10.1.2.1", "10.2.0.1", "192.0.2.1"}, {"10.0.0.1", "10.0.0.2", "10.0.0.200", "192.0.2.2"}},
		{{"fd00:1::1", "fd00:2::1"}, {"fd00::1", "fd00::2", "fd01::1"}},
	}).Draw(t, "family")
	src := netip.MustParseAddr(rapid.SampledFrom(family[0]).Draw(t, "src"))
	dst := netip.MustParseAddr(rapid.SampledFrom(family[1]).Draw(t, "dst"))
	offered := someOf(t, "offered", someALPN, 0)
	if rapid.IntRange(0, 3).Draw(t, "postgresql") == 0 {
		offered = append(offered, "postgresql")
	}
	h := hello(rapid.SampledFrom([]string{"", "a.example", "b.a.example", "c", "x.b.a.example", "d.example"}).Draw(t, "sni"), offered...)
	if rapid.IntRange(0, 9).Draw(t, "odd") == 0 {
		h = invalidSNI()
	}
	return Facts{
		Now: someDay.Add(time.Duration(rapid.IntRange(0, 7*24).Draw(t, "hour")) * time.Hour),
		Src: netip.AddrPortFrom(src, 40000), Hello: h,
		Dst: netip.AddrPortFrom(dst, rapid.SampledFrom([]uint16{443, 8443, 9}).Draw(t, "dport")),
	}
}

// build compiles rules one by one without what Compile says of them together:
// rules that hide each other are just what the properties are about.
func build(t rapid.TB, env Environment, rules []RuleSpec) *Set {
	t.Helper()
	return buildSpec(t, env, Spec{Rules: rules})
}

func buildSpec(t rapid.TB, env Environment, spec Spec) *Set {
	t.Helper()
	spec.Sets = someSets
	rules := spec.Rules
	c := newCompiler(spec, env)
	for i := range rules {
		c.rule(i, &rules[i])
	}
	c.finish()
	for i, w := range c.whole {
		families := w.selectors || !c.set.rules[i].familiesMeet()
		if !families || !w.demands {
			t.Fatalf("%+v: %v", rules[i], c.list.Err())
		}
	}
	return c.set
}

func TestDenyInFrontNeverAllowsMore(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		deny := drawRule(t, "deny")
		deny = RuleSpec{Name: "deny", From: deny.From, To: deny.To, SNI: deny.SNI, ALPNOffered: deny.ALPNOffered, JA4: someOf(t, "denied", somePrints(), 0), Time: deny.Time, Action: "deny"}
		before, after := build(t, env, rules), build(t, env, append([]RuleSpec{deny}, rules...))
		f := drawFlow(t)
		was, is := before.OnHello(f), after.OnHello(f)
		if is.Action != Deny && (is.Action != was.Action || is.Rule != was.Rule) {
			t.Fatalf("was %+v, is %+v", was, is)
		}
		if is.Action == Deny && was.Action != Deny && is.Rule != "deny" {
			t.Fatalf("denied by %q and not by the new rule", is.Rule)
		}
		wasSYN, wasDecided := before.OnSYN(f)
		isSYN, isDecided := after.OnSYN(f)
		if isDecided && isSYN.Action != Deny && (!wasDecided || wasSYN.Action != isSYN.Action) {
			t.Fatalf("SYN: was %+v, is %+v", wasSYN, isSYN)
		}
	})
}

// What is decided by the SYN alone is what the hello would have given.
func TestSYNAgreesWithHello(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		set, f := build(t, env, drawRules(t)), drawFlow(t)
		syn, decided := set.OnSYN(f)
		if !decided {
			return
		}
		if v := set.OnHello(f); syn.Action == Originate {
			if v.Action != Deny || v.Rule != syn.Rule || v.Reason != reason.ClientSpeaksTLS {
				t.Fatalf("SYN %+v, hello %+v", syn, v)
			}
		} else if v.Action != syn.Action || v.Rule != syn.Rule || v.Reason != syn.Reason {
			t.Fatalf("SYN %+v, hello %+v", syn, v)
		}
	})
}

func TestOrderOfDisjointRulesIsFree(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		rules := drawRules(t)
		for i := range rules {
			rules[i].To = []string{fmt.Sprintf("10.0.0.%d:443", i), fmt.Sprintf("[fd00::%d]:443", i)}
		}
		shuffled := slices.Clone(rules)
		for i := len(shuffled) - 1; i > 0; i-- {
			j := rapid.IntRange(0, i).Draw(t, "swap")
			shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
		}
		f := drawFlow(t)
		a, b := build(t, env, rules).OnHello(f), build(t, env, shuffled).OnHello(f)
		if a.Action != b.Action || a.Rule != b.Rule || a.Reason != b.Reason {
			t.Fatalf("%+v and %+v", a, b)
		}
	})
}

func fits(r *rule, f Facts) bool {
	return r.match(&subject{src: f.Src, dst: f.Dst, now: f.Now, hello: f.Hello, dialogue: r.upgrade}) == selNone
}

// A rule that Compile says is covered never gets a flow, and one flow that
// fits two rules proves that they meet.
func TestCoversAndMeets(t *testing.T) {
	env := testEnv(t)
	rapid.Check(t, func(t *rapid.T) {
		set := build(t, env, []RuleSpec{drawRule(t, "a"), drawRule(t, "b")})
		a, b := set.rules[0], set.rules[1]
		f := drawFlow(t)
		fitsA, fitsB := fits(a, f), fits(b, f)
		if fitsB && !fitsA && a.covers(b) {
			t.Fatal("covered, but the flow fits it alone")
		}
		if fitsA && fitsB && !(a.meets(b) && b.meets(a)) {
			t.Fatal("a flow fits both, and they do not meet")
		}
		if !a.covers(a) {
			t.Fatal("a rule does not cover itself")
		}
	})
}

// Whatever is written: a Set if and only if there is no mistake, every finding
// has a place and a text, and a Set denies what no rule names.
func TestCompileAnything(t *testing.T) {
	env := testEnv(t)
	words := []string{"", "x", "pay", "staff", "terminate", "bypass", "deny", "originate", "none", "optional", "verify", "plain", "modern", "10.0.0.1:443", "*:*", "*.a.example", "spiffe://a/*", "\x00", "ü", "*", "[", "::", "10.0.0.0/8"}
	word := rapid.OneOf(rapid.SampledFrom(words), rapid.String())
	list := rapid.SliceOfN(word, 0, 3)
	rapid.Check(t, func(t *rapid.T) {
		spec := Spec{Default: rapid.SampledFrom([]string{"", "deny", "allow"}).Draw(t, "default")}
		for i := range rapid.IntRange(0, 3).Draw(t, "rules") {
			r := drawRule(t, fmt.Sprintf("r%d", i))
			if rapid.Bool().Draw(t, "wild") {
				r = RuleSpec{
					Name: word.Draw(t, "name"), From: list.Draw(t, "from"), To: list.Draw(t, "to"), SNI: list.Draw(t, "sni"), ALPN: list.Draw(t, "alpn"), ALPNOffered: list.Draw(t, "alpn_offered"), JA4: list.Draw(t, "ja4"),
					Action: word.Draw(t, "action"), Identity: word.Draw(t, "identity"), Profile: word.Draw(t, "profile"), Plaintext: word.Draw(t, "plaintext"),
					Client: ClientSpec{Certificate: word.Draw(t, "certificate"), Authorities: list.Draw(t, "authorities"), Allow: []AllowSpec{{
						SANDNS: list.Draw(t, "dns"), SANURI: list.Draw(t, "uri"), SANEmail: list.Draw(t, "email"), SANIP: list.Draw(t, "ip"), SPKI: list.Draw(t, "spki"),
						KeyType: list.Draw(t, "type"), Issuer: list.Draw(t, "issuer"), SubjectCN: list.Draw(t, "cn"), KeyBits: rapid.Int().Draw(t, "bits"),
					}}},
					Destination: DestinationSpec{TLS: word.Draw(t, "tls"), Authorities: list.Draw(t, "dest authorities"), Name: word.Draw(t, "dest name")},
				}
			}
			spec.Rules = append(spec.Rules, r)
		}
		set, findings := Compile(spec, env)
		if mistakes := slices.ContainsFunc(findings, func(e *fielderr.Error) bool { return !e.Warning }); mistakes != (set == nil) {
			t.Fatalf("set %v with %v", set != nil, findings)
		}
		for _, f := range findings {
			if f.Path == "" || f.Msg == "" {
				t.Fatalf("finding %+v", f)
			}
		}
		if set == nil {
			return
		}
		f := drawFlow(t)
		some := slices.ContainsFunc(set.rules, func(r *rule) bool { return fits(r, f) })
		if v := set.OnHello(f); !some && v.Action != Deny || len(set.ID()) != 16 {
			t.Fatalf("no rule fits, and the answer is %+v", v)
		}
	})
}

// One Set serves many flows at once; the race detector watches.
func TestConcurrentUse(t *testing.T) {
	set := compile(t, destinationPolicy)
	p := peer("servers", testPKI().servers, testLeafPay)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			f := flow("10.1.1.1", "10.0.0.1:443", hello("a.internal", "h2"))
			for range 100 {
				set.OnSYN(f)
				plan := set.OnHello(f).Plan
				if _, err := plan.Destination(f); err != nil {
					t.Error(err)
				}
				set.OnPeer(plan, f)
				set.OnDestination(plan, f, p)
			}
		})
	}
	wg.Wait()
}
