package policy

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

const destinationPolicy = `
rules:
  - {name: follow, to: ["10.0.0.0/24:443", "10.0.1.1:443", "[fd00::1]:443"], identity: pay, alpn: [h2, http/1.1], profile: modern,
     client: {certificate: none}, destination: {tls: verify, authorities: [servers], profile: intermediate}}
  - {name: named, to: ["10.0.2.0/24:443"], identity: pay, client: {certificate: none},
     destination: {tls: verify, authorities: [servers], name: Backend.Internal}}
  - {name: address, to: ["10.0.3.0/24:443"], identity: pay, client: {certificate: none},
     destination: {tls: verify, authorities: [servers, staff], name: "fd00::0001"}}
  - {name: plain, to: ["10.0.4.0/24:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}
  - {name: through, to: ["10.0.5.1:443"], action: bypass}
`

func TestDestination(t *testing.T) {
	set := compile(t, destinationPolicy)
	for name, tt := range map[string]struct {
		dst            string
		hello          *handshake.ClientHello
		sni, verify    string // both "" for no TLS
		names          bool
		profile, alpns string
	}{
		"the client's name":           {"10.0.0.1:443", hello("a.internal", "h2"), "a.internal", "a.internal", false, "intermediate", "h2,http/1.1"},
		"no name":                     {"10.0.0.1:443", hello("", "h2"), "", "10.0.0.1", false, "intermediate", "h2,http/1.1"},
		"host":                        {"10.0.1.1:443", hello("", "h2"), "", "10.0.1.1", true, "intermediate", "h2,http/1.1"},
		"IPv4-mapped":                 {"[::ffff:10.0.1.1]:443", hello("", "h2"), "", "10.0.1.1", true, "intermediate", "h2,http/1.1"},
		"IPv6":                        {"[fd00::1]:443", hello("", "h2"), "", "fd00::1", true, "intermediate", "h2,http/1.1"},
		"a name of its own":           {"10.0.2.1:443", hello("a.internal"), "a.internal", "backend.internal", false, "intermediate", ""},
		"a name of its own, no SNI":   {"10.0.2.1:443", hello(""), "backend.internal", "backend.internal", false, "intermediate", ""},
		"unusable SNI is none":        {"10.0.2.1:443", invalidSNI(), "backend.internal", "backend.internal", false, "intermediate", ""},
		"an address of its own":       {"10.0.3.1:443", hello(""), "", "fd00::1", false, "intermediate", ""},
		"an address and the SNI":      {"10.0.3.1:443", hello("a.internal"), "a.internal", "fd00::1", false, "intermediate", ""},
		"plain":                       {"10.0.4.1:443", hello("a.internal"), "", "", false, "", ""},
		"bypass, the address exactly": {"10.0.5.1:443", hello("a.internal"), "", "", true, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := flow("10.1.1.1", tt.dst, tt.hello)
			plan := set.OnHello(f).Plan
			if plan == nil {
				t.Fatal("no rule fits")
			}
			if got := plan.NamesDestination(f); got != tt.names {
				t.Errorf("NamesDestination = %v", got)
			}
			params, err := plan.Destination(f)
			if err != nil {
				t.Fatal(err)
			}
			if tt.verify == "" {
				if params != nil || plan.Mode != TLSPlain {
					t.Fatalf("mode %v with params %+v", plan.Mode, params)
				}
				return
			}
			if params == nil || plan.Mode != TLSVerify {
				t.Fatalf("mode %v without params", plan.Mode)
			}
			if params.ServerName != tt.sni || params.VerifyName != tt.verify || params.Profile.Name != tt.profile || strings.Join(params.ALPN, ",") != tt.alpns {
				t.Errorf("got SNI %q, name %q, profile %q, ALPN %q", params.ServerName, params.VerifyName, params.Profile.Name, params.ALPN)
			}
			if len(params.Authorities) == 0 || params.Authorities[0].Name != "servers" || params.MaxChain != 5 || params.Certificates != nil {
				t.Errorf("got %+v", params)
			}
			if plan.dest.VerifyName != "" || plan.dest.ServerName != "" {
				t.Error("the plan, which other flows share, was changed")
			}
		})
	}
}

func TestClientParams(t *testing.T) {
	set := compile(t, `
rules:
  - {name: r, to: ["10.0.0.1:443"], alpn: [h2, http/1.1], identity: pay, profile: modern,
     client: {certificate: optional, authorities: [staff, partner]}, destination: {tls: plain}}
  - {name: d, to: ["10.0.0.2:443"], identity: pay, client: {certificate: none}, destination: {tls: plain}}
`)
	p := set.OnHello(flow("10.1.1.1", "10.0.0.1:443", hello("x", "h2", "http/1.1"))).Plan.Client
	if p.Profile.Name != "modern" || p.ClientAuth != handshake.ClientAuthOptional || len(p.Authorities) != 2 ||
		p.Authorities[1].Name != "partner" || len(p.ALPN) != 2 || len(p.Certificates) != 1 || p.MaxChain != 5 {
		t.Errorf("got %+v", p)
	}
	d := set.OnHello(flow("10.1.1.1", "10.0.0.2:443", hello("x", "h2", "http/1.1"))).Plan.Client
	if d.Profile.Name != DefaultProfile || d.ClientAuth != handshake.ClientAuthNone || len(d.Authorities) != 0 || d.ALPN != nil {
		t.Errorf("got %+v", d)
	}
}

func TestOnDestination(t *testing.T) {
	p := testPKI()
	set := compile(t, destinationPolicy)
	good := peer("servers", p.servers, testpki.Leaf{DNS: []string{"a.internal", "a.example"}})
	for name, tt := range map[string]struct {
		dst, sni string
		peer     *handshake.Peer
		reason   reason.Code
	}{
		"permitted name":        {"10.0.0.1:443", "a.internal", good, reason.OK},
		"name not permitted":    {"10.0.0.1:443", "a.example", good, reason.UpstreamUnknownCA},
		"permitted address":     {"10.0.0.1:443", "", good, reason.OK},
		"address not permitted": {"[fd00::1]:443", "", good, reason.UpstreamUnknownCA},
		"no permits":            {"10.0.3.1:443", "", peer("staff", p.staff, testpki.Leaf{}), reason.OK},
		"authority of others":   {"10.0.0.1:443", "a.internal", peer("staff", p.staff, testpki.Leaf{}), reason.UpstreamUnknownCA},
		"nothing shown":         {"10.0.0.1:443", "a.internal", nil, reason.UpstreamBadCert},
		"not verified":          {"10.0.0.1:443", "a.internal", &handshake.Peer{Shown: good.Shown, Authority: "servers"}, reason.Internal},
		"no TLS there":          {"10.0.4.1:443", "a.internal", good, reason.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			f := flow("10.1.1.1", tt.dst, hello(tt.sni, "h2", "http/1.1"))
			v := set.OnDestination(set.OnHello(f).Plan, f, tt.peer)
			if v.Reason != tt.reason || (v.Action == Terminate) != (tt.reason == reason.OK) {
				t.Errorf("got %+v", v)
			}
			checkVerdict(t, set, v)
		})
	}
}

// The digest changes with everything that decides, and with nothing else.
func TestID(t *testing.T) {
	const base = `
rules:
  - {name: a, from: ["10.1.0.0/16", "10.2.0.0/16"], to: ["10.0.0.1:443"], sni: [a.example], identity: pay,
     client: {authorities: [staff, partner], allow: [{subject_o: [A, B]}, {subject_o: [C], issuer: ["CN=x"]}]}, destination: {tls: verify, authorities: [servers]}}
  - {name: b, to: ["10.0.0.2:443"], action: deny}
`
	id := compile(t, base).ID()
	if len(id) != 16 || strings.Trim(id, "0123456789abcdef") != "" {
		t.Errorf("id %q", id)
	}
	for what, text := range map[string]string{
		"the same again":      base,
		"order of from":       strings.Replace(base, `"10.1.0.0/16", "10.2.0.0/16"`, `"10.2.0.0/16", "10.1.0.0/16"`, 1),
		"spelling":            strings.Replace(base, "a.example", "A.Example", 1),
		"the default profile": strings.Replace(base, "identity: pay", "profile: intermediate, identity: pay", 1),
		"order of allow":      strings.Replace(base, "[A, B]", "[B, A]", 1),
	} {
		if got := compile(t, text).ID(); got != id {
			t.Errorf("%s: %s, want %s", what, got, id)
		}
	}
	ids := map[string]string{id: "base"}
	other := func(what string, set *Set) {
		t.Helper()
		if before, same := ids[set.ID()]; same {
			t.Errorf("%s has the id of %s", what, before)
		}
		ids[set.ID()] = what
	}
	for _, change := range [][2]string{
		{"name: a,", "name: c,"}, {"10.1.0.0/16", "10.3.0.0/16"}, {"10.0.0.1:443", "10.0.0.1:*"}, {"a.example", "b.example"}, {"[a.example]", `["*.a.example"]`},
		{"[staff, partner]", "[staff]"}, {"[A, B]", "[A]"}, {"authorities: [staff", "certificate: optional, authorities: [staff"},
		{"identity: pay", "identity: pay, profile: modern"}, {"identity: pay", "identity: pay, alpn: [h2]"},
		{"[servers]}", "[servers], name: x}"}, {"verify, authorities: [servers]", "plain"}, {"action: deny", "action: bypass"},
	} {
		other(change[1], compile(t, strings.Replace(base, change[0], change[1], 1)))
	}
	for what, change := range map[string]func(*Environment){
		"permits": func(e *Environment) { delete(e.Permits, "partner") },
		"names": func(e *Environment) {
			e.Identities["pay"] = shown("pay", testpki.Leaf{DNS: []string{"pay.internal", "new.internal"}})
		},
		"kind of key": func(e *Environment) {
			e.Identities["pay"] = shown("pay", testpki.Leaf{DNS: []string{"pay.internal"}, Key: testpki.P384})
		},
		"another identity": func(e *Environment) {
			e.Identities["pay"] = Identity{Name: "other", Source: e.Identities["pay"].Source}
		},
		"made on demand": func(e *Environment) {
			e.Identities["pay"] = Identity{Name: "pay", Source: identity.NewMinted(fakeMinter{}, e.Identities["pay"].Certificates()[0], nil)}
		},
		"chain length": func(e *Environment) { e.MaxChain = 6 },
	} {
		env := testEnv(t)
		change(&env)
		set, findings := Compile(readSpec(t, base), env)
		if set == nil {
			t.Fatal(findings)
		}
		other(what, set)
	}
	// Nor are other certificates of an authority another policy: what decides is bound to
	// them where they are used (handshake.Params.Demands).
	for what, change := range map[string]func(*Environment){
		"root": func(e *Environment) {
			e.Authorities["staff"].Current().Roots = e.Authorities["partner"].Current().Roots
		},
		"a root more": func(e *Environment) {
			e.Authorities["staff"].Current().Roots = append(slices.Clone(e.Authorities["staff"].Current().Roots), e.Authorities["servers"].Current().Roots...)
		},
		"intermediate": func(e *Environment) {
			e.Authorities["staff"].Current().Intermediates = e.Authorities["partner"].Current().Roots
		},
		"destinations": func(e *Environment) {
			e.Authorities["servers"].Current().Roots = e.Authorities["partner"].Current().Roots
		},
	} {
		env := testEnv(t)
		change(&env)
		if set, findings := Compile(readSpec(t, base), env); set == nil || set.ID() != id {
			t.Errorf("%s: %s, want %s: %v", what, set.ID(), id, findings)
		}
	}
	// A certificate that is renewed is no other policy, whoever has issued it.
	for _, ca := range []*testpki.CA{testPKI().staff, testPKI().servers} {
		env := testEnv(t)
		env.Identities["pay"] = Identity{Name: "pay", Source: identity.NewFile([]tls.Certificate{testpki.Must(ca.Issue(testpki.Leaf{DNS: testPKI().gateway.Cert.DNSNames})).TLS()}, nil)}
		if set, findings := Compile(readSpec(t, base), env); set == nil || set.ID() != id {
			t.Errorf("renewed: %s, want %s: %v", set.ID(), id, findings)
		}
	}
	if (*Set)(nil).ID() != "" {
		t.Error("a nil set has an id")
	}
}

// The digest of a rule changes with what is written in it, in the sets that it names and
// in what it takes from the environment; no other rule counts, nor any other set.
func TestRuleDigest(t *testing.T) {
	const base = `
sets: {people: [a.staff.example, b.staff.example], nets: [10.1.0.0/16], other: [10.9.0.0/16]}
rules:
  - {name: first, from: ["@other"], to: ["10.0.0.2:443"], action: deny}
  - {name: a, from: ["@nets"], to: ["10.0.0.1:443"], sni: [a.example], identity: pay,
     client: {authorities: [staff, partner], allow: [{san_dns: ["@people"]}]}, destination: {tls: verify, authorities: [servers]}}
  - {name: last, from: ["@other"], to: ["10.0.0.3:443"], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
`
	of := func(text string, change func(*Environment)) [32]byte {
		t.Helper()
		env := testEnv(t)
		if change != nil {
			change(&env)
		}
		set, findings := Compile(readSpec(t, text), env)
		if set == nil {
			t.Fatal(findings)
		}
		for _, r := range set.rules {
			if r.name == "a" || r.name == "renamed" {
				return r.plan.Digest()
			}
		}
		t.Fatal("no rule a")
		return [32]byte{}
	}
	want := of(base, nil)
	if want == ([32]byte{}) || (*Plan)(nil).Digest() != ([32]byte{}) || (&Plan{}).Digest() != ([32]byte{}) {
		t.Errorf("%x, and of no rule %x", want, (*Plan)(nil).Digest())
	}
	for what, edit := range map[string][2]string{
		"an earlier rule":       {"action: deny", "action: bypass"},
		"an earlier rule less":  {`  - {name: first, from: ["@other"], to: ["10.0.0.2:443"], action: deny}` + "\n", ""},
		"an earlier rule more":  {"rules:\n", "rules:\n  - {name: new, to: [\"10.0.0.9:443\"], action: deny}\n"},
		"a later rule":          {"authorities: [staff]}, destination: {tls: plain", "authorities: [partner]}, destination: {tls: plain"},
		"a later rule's name":   {"name: last", "name: latest"},
		"a set of other rules":  {"other: [10.9.0.0/16]", "other: [10.8.0.0/16]"},
		"the order of a set":    {"a.staff.example, b.staff.example", "b.staff.example, a.staff.example"},
		"a set that nobody has": {"sets: {", "sets: {unused: [10.7.0.0/16], "},
	} {
		if edited := strings.Replace(base, edit[0], edit[1], 1); edited == base || of(edited, nil) != want {
			t.Errorf("%s: another digest, or no edit", what)
		}
	}
	seen := map[[32]byte]string{want: "base"}
	other := func(what string, got [32]byte) {
		t.Helper()
		if before, same := seen[got]; same {
			t.Errorf("%s has the digest of %s", what, before)
		}
		seen[got] = what
	}
	for what, edit := range map[string][2]string{
		"a member of allow's set": {"b.staff.example]", "c.staff.example]"},
		"a member of from's set":  {"nets: [10.1.0.0/16]", "nets: [10.1.0.0/17]"},
		"another set":             {`from: ["@nets"]`, `from: ["@other"]`},
		"the name":                {"name: a,", "name: renamed,"},
		"an authority less":       {"[staff, partner]", "[staff]"},
		"certificate: optional":   {"client: {authorities: [staff, p", "client: {certificate: optional, authorities: [staff, p"},
		"a condition":             {`["@people"]}]`, `["@people"]}], when: 'cert.present'`},
		"the destination":         {"{tls: verify, authorities: [servers]}", "{tls: plain}"},
		"the policy's mode":       {"sets: {", "mode: observe\nsets: {"},
	} {
		edited := strings.Replace(base, edit[0], edit[1], 1)
		if edited == base {
			t.Fatalf("%s: no edit", what)
		}
		other(what, of(edited, nil))
	}
	other("permits", of(base, func(e *Environment) { delete(e.Permits, "partner") }))
	other("another key", of(base, func(e *Environment) {
		e.Identities["pay"] = shown("pay", testpki.Leaf{DNS: []string{"pay.internal"}, Key: testpki.P384})
	}))
	other("chain length", of(base, func(e *Environment) { e.MaxChain = 6 }))
}

// shown is an identity with one certificate.
func shown(name string, l testpki.Leaf) Identity {
	return Identity{Name: name, Source: identity.NewFile([]tls.Certificate{testpki.Must(testPKI().servers.Issue(l)).TLS()}, nil)}
}
