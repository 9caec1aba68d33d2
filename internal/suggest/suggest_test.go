package suggest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/audit"
	ids "github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/policy"
)

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
	} {
		p.users = append(p.users, testpki.Must(p.cas[l.ca].Issue(l.leaf)))
	}
	return p
})

func compile(t rapid.TB, spec policy.Spec) *policy.Set {
	p := testPKI()
	profiles, err := handshake.ResolveProfiles(nil, stdtls.New().Capabilities())
	if err != nil {
		t.Fatalf("%v", err)
	}
	authorities := map[string]handshake.AuthoritySource{}
	for name, ca := range p.cas {
		authorities[name] = &handshake.Authority{Name: name, Roots: []*x509.Certificate{ca.Cert}}
	}
	set, found := policy.Compile(spec, policy.Environment{
		Authorities: authorities, Profiles: profiles, Engine: stdtls.New(),
		Identities: map[string]policy.Identity{"own": {Name: "own", Source: ids.NewFile([]tls.Certificate{p.own.TLS()}, nil)}},
	})
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

const base = `
rules:
  - {name: open, to: ["10.0.0.9:443"], action: bypass}
  - {name: never, from: [10.2.0.3], to: ["10.0.0.1:443"], sni: [b.example], action: deny}
  - {name: old, to: ["10.0.0.3:443"], sni: [old.example], action: bypass}
  - {name: free, to: ["10.0.0.1:443"], sni: [free.example], identity: own, client: {certificate: none}, destination: {tls: plain}}
  - name: strict
    to: ["10.0.0.1:443", "10.0.0.2:443", "[fd00::1]:443"]
    identity: own
    client: {authorities: [staff, partner], certificate: optional, allow: [{key_bits: 256}]}
    destination: {tls: plain}
  - {name: till, from: ["10.1.0.0/16"], to: ["10.0.0.5:80"], action: originate, destination: {tls: verify, authorities: [staff], name: pay.example}}
`

func baseSpec(t rapid.TB) policy.Spec {
	var spec policy.Spec
	if err := yaml.UnmarshalWithOptions([]byte(base), &spec, yaml.Strict()); err != nil {
		t.Fatalf("%v", err)
	}
	return spec
}

// someFlow is one of a small world; user -1 shows no certificate.
type someFlow struct {
	client, dst, sni string
	user             int
}

func drawFlow(t *rapid.T) someFlow {
	f := someFlow{
		client: rapid.SampledFrom([]string{"10.1.0.1", "10.1.0.2", "10.1.0.3", "10.2.0.1", "10.2.0.2", "10.2.0.3"}).Draw(t, "client"),
		dst:    rapid.SampledFrom([]string{"10.0.0.1:443", "10.0.0.2:443", "10.0.0.3:443", "10.0.0.9:443", "10.0.0.5:80", "10.0.0.7:443"}).Draw(t, "destination"),
		sni:    rapid.SampledFrom([]string{"", "old.example", "free.example", "a.example", "b.example"}).Draw(t, "name"),
		user:   rapid.IntRange(-1, len(testPKI().users)-1).Draw(t, "user"),
	}
	if rapid.IntRange(0, 9).Draw(t, "family") == 0 {
		f.client, f.dst = "fd00:1::1", "[fd00::1]:443"
	}
	return f
}

var noon = time.Now().UTC().Truncate(time.Second)

// decide is the gateway's walk; rec is its record.
func decide(t rapid.TB, set *policy.Set, s someFlow) (v policy.Verdict, rec []byte) {
	hello, err := policytest.Hello{SNI: s.sni}.ClientHello()
	if err != nil {
		t.Fatalf("%v", err)
	}
	f := policy.Facts{Now: noon, Src: netip.AddrPortFrom(netip.MustParseAddr(s.client), 4000), Dst: netip.MustParseAddrPort(s.dst)}
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
		r.Hello, r.SNI = hello, hello.ServerName
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
	s := New(compile(t, spec))
	for _, r := range records {
		if err := s.Add(r); err != nil {
			t.Fatalf("%v: %s", err, r)
		}
	}
	rules, questions := s.Rules(spec.Rules)
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
	passed := 0
	rapid.Check(t, func(t *rapid.T) {
		spec := baseSpec(t)
		before := compile(t, spec)
		day := rapid.SliceOfN(rapid.Custom(drawFlow), 1, 60).Draw(t, "day")
		var records [][]byte
		let := map[string]bool{}
		was := make([]policy.Verdict, len(day))
		key := func(f someFlow, v policy.Verdict) string {
			user := fmt.Sprint(f.user)
			if v.Action != policy.Terminate || v.Rule == "free" {
				user = "any"
			}
			sni := f.sni
			if v.Action == policy.Originate {
				sni = "any"
			}
			return f.client + " " + f.dst + " " + sni + " " + user
		}
		for i, f := range day {
			v, rec := decide(t, before, f)
			was[i], records = v, append(records, rec)
			if v.Action.Lets() {
				let[key(f, v)] = true
			}
		}
		next, _, questions, text := suggested(t, spec, records)
		after := compile(t, next)
		for i, f := range day {
			v, _ := decide(t, after, f)
			if v.Action != was[i].Action && !asked(f, was[i], questions) {
				t.Fatalf("%+v was %v by %s, is %v (%s)\n%s", f, was[i].Action, was[i].Rule, v.Action, v.Reason, text)
			}
			if v.Action.Lets() {
				passed++
			}
		}
		for range 20 {
			f := drawFlow(t)
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
	if passed == 0 {
		t.Error("nothing passed")
	}
}

// asked says whether a flow is one that a question is about.
func asked(f someFlow, was policy.Verdict, questions []string) bool {
	if f.sni == "" && was.Action != policy.Originate {
		return true // without a name: never suggested
	}
	where := f.dst
	if f.sni != "" {
		where = f.sni + " (" + f.dst + ")"
	}
	for _, q := range questions {
		if strings.Contains(q, "without a name that a rule can ask for") && strings.Contains(q, where) && was.Action == policy.Terminate {
			return true
		}
	}
	return false
}

// The tests that are made with the rules are of a kind that `sslgate test` runs, and pass.
func TestTests(t *testing.T) {
	spec := baseSpec(t)
	before := compile(t, spec)
	var records [][]byte
	for _, f := range []someFlow{
		{"10.1.0.1", "10.0.0.1:443", "a.example", 0}, {"10.1.0.2", "10.0.0.1:443", "a.example", 0}, {"10.1.0.3", "10.0.0.1:443", "a.example", 1},
		{"10.2.0.1", "10.0.0.3:443", "old.example", -1}, {"10.2.0.1", "10.0.0.1:443", "free.example", 3}, {"10.2.0.1", "10.0.0.1:443", "b.example", 3},
		{"10.1.0.1", "10.0.0.5:80", "", -1}, {"10.2.0.2", "10.0.0.9:443", "", -1}, {"10.2.0.9", "10.0.0.5:80", "", -1},
	} {
		_, rec := decide(t, before, f)
		records = append(records, rec)
	}
	next, rules, questions, text := suggested(t, spec, records)
	set := compile(t, next)
	tests, err := Tests(rules, "next.yaml", noon.Format(time.RFC3339))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := policytest.Parse("next_test.yaml", tests)
	if err != nil {
		t.Fatalf("%v\n%s", err, tests)
	}
	ran := 0
	for _, c := range parsed.Spec.Tests {
		if c.Certificate != nil {
			continue
		}
		ran++
		f := someFlow{client: c.From, dst: c.To, sni: c.SNI, user: -1}
		if v, _ := decide(t, set, f); policytest.Verdict(v) != c.Want.Verdict && c.Want.Verdict != "allow" {
			t.Errorf("%s: %+v\n%s", c.Name, v, text)
		}
	}
	if ran < 5 || len(parsed.Spec.Tests) < 10 {
		t.Errorf("%d tests, %d of them ran\n%s", len(parsed.Spec.Tests), ran, tests)
	}
	for _, want := range []string{"# 2 flows, 2 clients, 1 day from ", "name: a.example", "a.user", "Without a server name on the way to 10.0.0.9:443", "Refused (no_rule) on the way to 10.0.0.5:80"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s\n%v", want, text, questions)
		}
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
