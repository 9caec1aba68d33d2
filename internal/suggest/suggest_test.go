package suggest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/audit"
	ids "github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/policy"
)

// Users of one CA: the one has two names, the other the first of them.
const bothNames, firstName = 8, 9

type pki struct {
	cas   map[string]*testpki.CA
	own   *testpki.Cert
	users []*testpki.Cert
}

var testPKI = sync.OnceValue(func() pki {
	ca := func(cn string) *testpki.CA { return testpki.Must(testpki.NewCA(testpki.Options{CN: cn})) }
	p := pki{cas: map[string]*testpki.CA{"staff": ca("Staff"), "partner": ca("Partner")}}
	p.own = testpki.Must(p.cas["staff"].Issue(testpki.Leaf{DNS: []string{"gateway.example"}}))
	for _, l := range []struct {
		ca   string
		leaf testpki.Leaf
	}{
		{"staff", testpki.Leaf{DNS: []string{"a.user"}}}, {"staff", testpki.Leaf{DNS: []string{"b.user"}}}, {"partner", testpki.Leaf{DNS: []string{"a.user"}}},
		{"staff", testpki.Leaf{URIs: []string{"spiffe://corp/x"}}}, {"staff", testpki.Leaf{CN: "no other name"}}, {"staff", testpki.Leaf{CN: "pattern", DNS: []string{"*.user"}}},
		{"staff", testpki.Leaf{CN: "odd", DNS: []string{"-no-host-"}}}, {"partner", testpki.Leaf{DNS: []string{"B.user"}}},
		{"staff", testpki.Leaf{DNS: []string{"c.user", "c.admin"}}}, {"staff", testpki.Leaf{DNS: []string{"c.user"}}}, {"partner", testpki.Leaf{DNS: []string{"d.admin"}, URIs: []string{"spiffe://corp/x"}}},
		{"staff", testpki.Leaf{DNS: []string{"d.admin", "e.admin"}}},
	} {
		l.leaf.NotBefore, l.leaf.NotAfter = day0.Add(-48*time.Hour), day0.Add(72*time.Hour)
		p.users = append(p.users, testpki.Must(p.cas[l.ca].Issue(l.leaf)))
	}
	return p
})

var profiles = sync.OnceValue(func() map[string]handshake.Profile {
	return testpki.Must(handshake.ResolveProfiles(nil, stdtls.New().Capabilities()))
})

func env() policy.Environment {
	p := testPKI()
	authorities := map[string]handshake.AuthoritySource{}
	for name, ca := range p.cas {
		authorities[name] = &handshake.Authority{Name: name, Roots: []*x509.Certificate{ca.Cert}}
	}
	return policy.Environment{
		Authorities: authorities, Profiles: profiles(), Engine: stdtls.New(),
		Identities: map[string]policy.Identity{"own": {Name: "own", Source: ids.NewFile([]tls.Certificate{p.own.TLS()}, nil)}},
	}
}

func compile(t rapid.TB, spec policy.Spec) *policy.Set {
	set, found := policy.Compile(spec, env())
	if set == nil {
		for _, f := range found {
			if !f.Warning {
				t.Errorf("%v", f)
			}
		}
		text, _ := yaml.MarshalWithOptions(spec, yaml.OmitZero())
		t.Fatalf("%s", text)
	}
	return set
}

// wrong says what is wrong with the rules of a policy.
func wrong(t rapid.TB) func(policy.Spec) map[int]string {
	return func(spec policy.Spec) map[int]string {
		_, found := policy.Compile(spec, env())
		out := map[int]string{}
		for _, f := range found {
			var i int
			if n, _ := fmt.Sscanf(f.Path, "rules[%d]", &i); n == 1 && !f.Warning {
				out[i] = f.Msg
			}
		}
		return out
	}
}

const base = `
rules:
  - {name: open, to: ["10.0.0.9:443"], action: bypass}
  - {name: never, from: [10.2.0.3], to: ["10.0.0.1:443"], sni: [b.example], action: deny}
  - {name: old, to: ["10.0.0.3:443"], sni: [old.example], action: bypass}
  - {name: printed, to: ["10.0.0.4:443"], ja4: ["*_*_e5627efa2ab1"], action: deny}
  - {name: protocol, to: ["10.0.0.1:443"], alpn_offered: [h2, grpc], identity: own, alpn: [h2], client: {certificate: none}, destination: {tls: plain}}
  - {name: hours, to: ["10.0.0.4:443"], time: {from: "08:00", to: "18:00"}, action: bypass}
  - {name: night, to: ["10.0.0.4:443"], identity: own, client: {certificate: none}, destination: {tls: plain}}
  - {name: free, to: ["10.0.0.1:443"], sni: [free.example], identity: own, client: {certificate: none}, destination: {tls: plain}}
  - name: strict
    to: ["10.0.0.1:443", "10.0.0.2:443", "[fd00::1]:443"]
    identity: own
    client: {authorities: [staff, partner], certificate: optional, allow: [{key_bits: 256}]}
    destination: {tls: plain}
  - name: several
    to: ["10.0.0.6:443"]
    identity: own
    client: {authorities: [staff, partner], allow: [{san_dns: ["*.admin"]}, {san_uri: ["spiffe://corp/*"], key_bits: 256}, {subject_cn: [no other name]}, {san_dns: ["*.admin"], key_type: [rsa, mldsa65]}, {subject_cn: [another]}]}
    destination: {tls: plain}
  - {name: till, from: ["10.1.0.0/16"], to: ["10.0.0.5:80"], action: originate, destination: {tls: verify, authorities: [staff], name: pay.example}}
`

func baseSpec(t rapid.TB) policy.Spec {
	var spec policy.Spec
	if err := yaml.UnmarshalWithOptions([]byte(base), &spec, yaml.Strict()); err != nil {
		t.Fatalf("%v", err)
	}
	for i := range spec.Rules {
		if spec.Rules[i].Name == "printed" {
			h, err := policytest.Hello{SNI: "a.example", ALPN: []string{"grpc", "http/1.1"}}.ClientHello()
			if err != nil {
				t.Fatalf("%v", err)
			}
			spec.Rules[i].JA4 = []string{ja4.Of(h)}
		}
	}
	return spec
}

// drawBase is the configuration with its rules in another order, where such a policy can be.
func drawBase(t *rapid.T) policy.Spec {
	spec := baseSpec(t)
	other := policy.Spec{Rules: rapid.Permutation(spec.Rules).Draw(t, "order")}
	if len(wrong(t)(other)) > 0 {
		return spec
	}
	return other
}

// someFlow is one of a small world; user -1 shows no certificate.
type someFlow struct {
	client, dst, sni string
	user             int
	alpn             []string
	hour             int // of the day, 0 to 23
}

func drawFlow(t *rapid.T) someFlow {
	f := someFlow{
		client: rapid.SampledFrom([]string{"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.2.0.1", "10.2.0.2", "10.2.0.3"}).Draw(t, "client"),
		dst:    rapid.SampledFrom([]string{"10.0.0.1:443", "10.0.0.2:443", "10.0.0.3:443", "10.0.0.4:443", "10.0.0.9:443", "10.0.0.5:80", "10.0.0.6:443", "10.0.0.6:443", "10.0.0.7:443"}).Draw(t, "destination"),
		sni:    rapid.SampledFrom([]string{"", "old.example", "free.example", "a.example", "b.example", long}).Draw(t, "name"),
		user:   rapid.IntRange(-1, len(testPKI().users)-1).Draw(t, "user"),
		alpn:   rapid.SampledFrom([][]string{nil, nil, {"h2"}, {"http/1.1"}, {"grpc", "http/1.1"}, {"h2", "http/1.1"}}).Draw(t, "protocols"),
		hour:   rapid.SampledFrom([]int{3, 10, 17, 18}).Draw(t, "hour"),
	}
	if rapid.IntRange(0, 9).Draw(t, "family") == 0 {
		f.client, f.dst = "fd00:1::1", "[fd00::1]:443"
	}
	return f
}

// long is a name that is longer than that of a rule may be.
var long = strings.Repeat("a", 60) + "." + strings.Repeat("b", 12) + ".example"

// day is one of which every hour is within the certificates' time.
var day0 = time.Now().UTC().Truncate(24 * time.Hour)

var hellos sync.Map // of *handshake.ClientHello, by what is in them

func helloOf(s someFlow) *handshake.ClientHello {
	key := fmt.Sprint(s.sni, s.alpn)
	if h, ok := hellos.Load(key); ok {
		return h.(*handshake.ClientHello)
	}
	h := testpki.Must(policytest.Hello{SNI: s.sni, ALPN: s.alpn}.ClientHello())
	hellos.Store(key, h)
	return h
}

// decide is the gateway's walk; rec is its record.
func decide(t rapid.TB, set *policy.Set, s someFlow) (v policy.Verdict, rec []byte) {
	hello := helloOf(s)
	f := policy.Facts{Now: day0.Add(time.Duration(s.hour) * time.Hour), Src: netip.AddrPortFrom(netip.MustParseAddr(s.client), 4000), Dst: netip.MustParseAddrPort(s.dst)}
	r := audit.NewRecord("1-1", f.Now, f.Src, f.Dst)
	v, decided := set.OnSYN(f)
	if !decided {
		f.Hello = hello
		if v = set.OnHello(f); v.Action == policy.Terminate {
			plan := v.Plan
			sum := plan.Digest()
			r.RuleDigest = hex.EncodeToString(sum[:8])
			if s.user >= 0 && plan.Client.ClientAuth != handshake.ClientAuthNone {
				f.Peer = &handshake.Peer{Shown: testPKI().users[s.user].Chain, Proven: true}
			}
			f.State = policytest.Agreed(f.Hello, plan.Client.Profile, plan.Client.ALPN)
			d := set.Redecide(f)
			v, r.Peer = d.Verdict, d.Facts.Peer
		}
	}
	if f.Hello != nil || v.Action == policy.Bypass {
		r.Hello, r.SNI, r.ALPN = hello, hello.ServerName, hello.ALPN
	}
	r.Rule, r.Action, r.Reason = v.Rule, v.Action.String(), v.Reason
	var b bytes.Buffer
	if err := audit.New(&b).Write(r); err != nil {
		t.Fatalf("%v", err)
	}
	return v, b.Bytes()
}

// suggested is what is suggested of records, read again as it was written.
func suggested(t rapid.TB, spec policy.Spec, records [][]byte) (policy.Spec, []Rule, []string, string) {
	s := New(compile(t, spec), spec.Rules)
	for _, r := range records {
		if err := s.Add(r); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
	}
	rules, questions := s.Rules(wrong(t))
	text, err := Policy(rules, questions)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var out struct {
		Policy policy.Spec `yaml:"policy"`
	}
	if err := yaml.UnmarshalWithOptions(text, &out, yaml.Strict()); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out.Policy, rules, questions, string(text)
}

// The rules of a random day decide each of its flows as it was, and no other flow passes:
// unless a question says that a name could not be asked for.
func TestDay(t *testing.T) {
	passed, ran, excused, checks := 0, 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		spec := drawBase(t)
		before := compile(t, spec)
		day := rapid.SliceOfN(rapid.Custom(drawFlow), 1, 60).Draw(t, "day")
		var records [][]byte
		let := map[string]bool{}
		was := make([]policy.Verdict, len(day))
		key := func(f someFlow, v policy.Verdict) string {
			user := fmt.Sprint(f.user)
			if f.user == bothNames && v.Rule == "strict" {
				user = fmt.Sprint(firstName) // that rule takes them for one by the name that both have
			}
			if v.Action != policy.Terminate || v.Rule != "strict" && v.Rule != "several" {
				user = "any"
			}
			sni := f.sni
			if v.Action == policy.Originate {
				sni = "any"
			}
			return v.Rule + " " + f.client + " " + f.dst + " " + sni + " " + user
		}
		for i, f := range day {
			v, rec := decide(t, before, f)
			was[i], records = v, append(records, rec)
			if v.Action.Lets() {
				let[key(f, v)] = true
			}
		}
		next, rules, questions, text := suggested(t, spec, records)
		after := compile(t, next)
		if checks++; checks%8 == 1 { // their certificates take time
			ran += runTests(t, next, rules)
		}
		for i, f := range day {
			v, _ := decide(t, after, f)
			if v.Action != was[i].Action {
				if v.Action != policy.Deny || !asked(f, was[i], questions) {
					t.Fatalf("%+v was %v by %s, is %v (%s)\n%s", f, was[i].Action, was[i].Rule, v.Action, v.Reason, text)
				}
				excused++
			}
			if v.Action.Lets() {
				passed++
			}
		}
		for i := range 40 {
			f := drawFlow(t)
			if i%2 == 0 { // one of the day, but for a part of it
				near := rapid.SampledFrom(day).Draw(t, "near")
				switch other := f; rapid.IntRange(0, 3).Draw(t, "part") {
				case 0:
					near.client, near.dst = other.client, other.dst
				case 1:
					near.sni = other.sni
				default:
					near.user = other.user
				}
				f = near
			}
			b, _ := decide(t, before, f)
			v, _ := decide(t, after, f)
			if !v.Action.Lets() {
				continue
			}
			if !b.Action.Lets() {
				t.Fatalf("%+v was refused, and passes now\n%s", f, text)
			}
			without := f
			without.user = -1 // who was seen without a certificate is not asked for one
			if !let[key(f, b)] && !let[key(without, b)] {
				t.Fatalf("%+v was not seen, and passes by %s\n%s", f, v.Rule, text)
			}
		}
	})
	t.Logf("%d passed, %d tests ran, %d are denied until a question is answered", passed, ran, excused)
	if passed == 0 || ran == 0 || excused*8 > passed {
		t.Error("the draws are too narrow")
	}
}

// asked says whether a flow is one of a rule that could not be.
func asked(f someFlow, was policy.Verdict, questions []string) bool {
	return slices.ContainsFunc(questions, func(q string) bool {
		return strings.Contains(q, "by rule "+was.Rule+" ") && strings.Contains(q, f.dst) && strings.Contains(q, "cannot be")
	})
}

// runTests runs the tests that are made with rules as `sslgate test` does, with stand-ins for
// their authorities; all of them pass. It returns their number.
func runTests(t rapid.TB, spec policy.Spec, rules []Rule) int {
	text, err := Tests(rules, "next.yaml", day0.Add(12*time.Hour).Format(time.RFC3339))
	if err != nil {
		t.Fatalf("%v", err)
	}
	if text == nil {
		return 0
	}
	file, err := policytest.Parse("next_test.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	stand, e := policytest.NewStandIns(), env()
	for name := range e.Authorities {
		e.Authorities[name] = &handshake.Authority{Name: name, Roots: stand.Authority(name, nil)}
	}
	set, found := policy.Compile(spec, e)
	if set == nil {
		t.Fatalf("%v", found)
	}
	report, err := file.Run(set, spec.Rules, stand, nil)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, r := range report.Results {
		if len(r.Wrong) > 0 {
			all, _ := Policy(rules, nil)
			t.Fatalf("%s: %v\n%s\n%s", r.Case.Name, r.Wrong, text, all)
		}
	}
	return len(report.Results)
}

// What a rule is made of stands at it, each part of it has a test, and what is not suggested
// is asked.
func TestTests(t *testing.T) {
	spec := baseSpec(t)
	before := compile(t, spec)
	var records [][]byte
	for _, f := range []someFlow{
		{client: "10.1.0.1", dst: "10.0.0.1:443", sni: "a.example", user: 0, hour: 10}, {client: "10.1.0.2", dst: "10.0.0.1:443", sni: "a.example", user: 0, hour: 10},
		{client: "10.1.0.3", dst: "10.0.0.1:443", sni: "a.example", user: 1, hour: 10}, {client: "10.2.0.1", dst: "10.0.0.3:443", sni: "old.example", user: -1, hour: 10},
		{client: "10.2.0.1", dst: "10.0.0.1:443", sni: "free.example", user: 3, hour: 10}, {client: "10.2.0.1", dst: "10.0.0.1:443", sni: "b.example", user: 3, hour: 10},
		{client: "10.1.0.1", dst: "10.0.0.5:80", user: -1, hour: 10}, {client: "10.2.0.2", dst: "10.0.0.9:443", user: -1, hour: 10}, {client: "10.2.0.9", dst: "10.0.0.5:80", user: -1, hour: 10},
		{client: "10.1.0.1", dst: "10.0.0.1:443", sni: "p.example", alpn: []string{"h2"}, user: -1, hour: 10},
		{client: "10.1.0.1", dst: "10.0.0.2:443", sni: long, user: 0, hour: 10}, {client: "10.1.0.1", dst: "10.0.0.2:443", sni: long, user: 2, hour: 10}, {client: "10.1.0.1", dst: "10.0.0.2:443", sni: long, user: 3, hour: 10},
	} {
		_, rec := decide(t, before, f)
		records = append(records, rec)
	}
	next, rules, questions, text := suggested(t, spec, records)
	compile(t, next)
	if ran := runTests(t, next, rules); ran < 20 {
		t.Errorf("%d tests\n%s", ran, text)
	}
	for _, want := range []string{
		"# 2 flows, 2 clients, 1 day from ", "name: a.example", "a.user", "- 10.0.0.9:443\n      sni:\n      - \"-\"", "name: " + long[:48] + "\n", "Refused (no_rule) on the way to 10.0.0.5:80",
		`cert.authority == "partner" && ("a.user" in cert.san_dns)`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s\n%v", want, text, questions)
		}
	}
}

// Of a window the tests are within it, whatever the time of the test.
func TestTestsOfWindows(t *testing.T) {
	spec := policy.Spec{Rules: []policy.RuleSpec{{Name: "night", To: []string{"10.0.0.1:443"}, Time: &policy.TimeSpec{From: "22:00", To: "04:00"}, Action: "bypass"}}}
	_, rec := decide(t, compile(t, spec), someFlow{client: "10.1.0.1", dst: "10.0.0.1:443", sni: "a.example", user: -1, hour: 3})
	next, rules, _, _ := suggested(t, spec, [][]byte{rec})
	if ran := runTests(t, next, rules); ran != 3 { // at noon
		t.Errorf("%d tests", ran)
	}
}

// What a rule cannot be is asked, denied where another rule would take it, and the rest is
// suggested: a bypass by names beside a rule that terminates.
func TestWhatCannotBe(t *testing.T) {
	var spec policy.Spec
	if err := yaml.Unmarshal([]byte(`
rules:
  - {name: hours, to: ["10.0.0.4:443"], time: {from: "08:00", to: "18:00"}, action: bypass}
  - {name: night, to: ["10.0.0.4:443"], identity: own, client: {certificate: none}, destination: {tls: plain}}
  - {name: other, to: ["10.0.0.6:443"], action: bypass}
`), &spec); err != nil {
		t.Fatal(err)
	}
	before := compile(t, spec)
	var records [][]byte
	for _, f := range []someFlow{
		{client: "10.1.0.1", dst: "10.0.0.4:443", sni: "a.example", hour: 10}, {client: "10.1.0.1", dst: "10.0.0.4:443", sni: "a.example", hour: 3}, {client: "10.1.0.1", dst: "10.0.0.6:443", sni: "a.example", hour: 3},
	} {
		_, rec := decide(t, before, f)
		records = append(records, rec)
	}
	next, rules, questions, text := suggested(t, spec, records)
	after := compile(t, next)
	runTests(t, next, rules)
	for _, c := range []struct {
		dst  string
		hour int
		want policy.Action
	}{{"10.0.0.4:443", 10, policy.Deny}, {"10.0.0.4:443", 3, policy.Terminate}, {"10.0.0.6:443", 3, policy.Bypass}} {
		if v, _ := decide(t, after, someFlow{client: "10.1.0.1", dst: c.dst, sni: "a.example", user: -1, hour: c.hour}); v.Action != c.want {
			t.Errorf("%+v: %v by %s\n%s", c, v.Action, v.Rule, text)
		}
	}
	if len(questions) != 1 || !strings.Contains(questions[0], "1 flow: Let through by rule hours on the way to 10.0.0.4:443; a rule for exactly that cannot be") {
		t.Errorf("%q", questions)
	}
}

// Of several alternatives each that a certificate may have passed by stays, narrowed to a name
// that it takes already; those that it cannot have passed by are gone.
func TestAlternatives(t *testing.T) {
	spec := baseSpec(t)
	before := compile(t, spec)
	var records [][]byte
	for _, user := range []int{bothNames, 4, 10} {
		_, rec := decide(t, before, someFlow{client: "10.1.0.1", dst: "10.0.0.6:443", sni: "a.example", user: user, hour: 10})
		records = append(records, rec)
	}
	next, _, questions, text := suggested(t, spec, records)
	if len(questions) != 0 {
		t.Errorf("%q\n%s", questions, text)
	}
	var got []string
	for _, a := range next.Rules[len(next.Rules)-1].Client.Allow {
		got = append(got, fmt.Sprint(a.SANURI, a.SANDNS, len(a.SPKI), a.SubjectCN, a.KeyBits))
	}
	// The partner has a name of the first alternative and a URI that the second takes; which of
	// them it has passed by is not known, and either asks for what was proven.
	want := []string{"[spiffe://corp/x] [*.admin] 0 [] 0", "[spiffe://corp/x] [] 0 [] 256", "[] [c.admin] 0 [] 0", "[] [] 1 [no other name] 0"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
}

func TestConfig(t *testing.T) {
	section := []byte("policy:\n  rules: []\n")
	for in, want := range map[string]string{
		"version: 1\npolicy:\n  rules:\n  # x\n    - {name: a}\n\naudit: {file: b}\n": "version: 1\npolicy:\n  rules: []\n\naudit: {file: b}\n",
		"policy: {rules: []}\nversion: 1\n":                                           "policy:\n  rules: []\n\nversion: 1\n",
		"version: 1\n":                                                                "",
		"policy: 1\npolicy: 2\n":                                                      "",
	} {
		got, err := Config([]byte(in), section)
		if (err != nil) != (want == "") || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
}
