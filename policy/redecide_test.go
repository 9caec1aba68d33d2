package policy

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// liveFlow is a flow that was let through: TLS 1.3 with a certificate of staff,
// and TLS with the destination.
func liveFlow(t testing.TB) Facts {
	t.Helper()
	p := testPKI()
	f := flow("10.1.1.1", "10.0.0.1:443", hello("pay.internal", "h2", "http/1.1"))
	f.Now = time.Now()
	f.Peer = peer("staff", p.staff, testLeafPay)
	f.Peer.Proven, f.Peer.SignatureScheme = true, uint16(tls.ECDSAWithP256AndSHA256)
	f.State = &handshake.State{
		Version: tls.VersionTLS13, Suite: tls.TLS_AES_128_GCM_SHA256, Group: uint16(tls.X25519MLKEM768), ALPN: "http/1.1",
		ServerName: "pay.internal", ExtendedMasterSecret: true,
	}
	state := *f.State
	f.Upstream = &Upstream{State: &state, Peer: &handshake.Peer{
		Shown: []*x509.Certificate{p.gateway.Cert}, Chain: []*x509.Certificate{p.gateway.Cert, p.servers.Cert}, Authority: "servers",
		Proven: true, SignatureScheme: uint16(tls.ECDSAWithP256AndSHA256),
	}}
	return f
}

const liveRule = `
rules:
  - {name: r, to: ["10.0.0.1:443"], identity: pay, client: {authorities: [staff]}, destination: {tls: verify, authorities: [servers]}}
`

// Every fact that a flow rests on is judged anew, and a judgement of before
// counts for nothing.
func TestRedecide(t *testing.T) {
	p := testPKI()
	// The same name and subject, another key.
	again := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA"}))
	profile := func(name string, spec handshake.ProfileSpec) func(*Environment) {
		return func(env *Environment) {
			env.Profiles[name] = testpki.Must(spec.Resolve(name, env.Engine.Capabilities()))
		}
	}
	rule := func(old, now string) func(string) string {
		return func(s string) string {
			out := strings.Replace(s, old, now, 1)
			if out == s {
				t.Fatalf("%q is not in the rule", old)
			}
			return out
		}
	}
	const in, to = "client: {authorities: [staff]", "destination: {tls: verify, authorities: [servers]"
	house := rule("identity: pay", "identity: pay, profile: house")
	toHouse := rule(to, to+", profile: house")
	tls12 := func(s *handshake.State) {
		*s = handshake.State{Version: tls.VersionTLS12, Suite: tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, Group: uint16(tls.X25519), ExtendedMasterSecret: true}
	}
	agreed := func(protocol string) func(*Facts) {
		return func(f *Facts) { f.State.ALPN, f.Upstream.State.ALPN = protocol, protocol }
	}
	for name, tt := range map[string]struct {
		policy func(string) string
		env    func(*Environment)
		facts  func(*Facts)
		want   reason.Code // "" keeps
	}{
		"nothing":           {},
		"another name":      {policy: rule("name: r", "name: other")},
		"more is allowed":   {policy: rule("to: [", `to: ["10.0.0.9:443", `)},
		"nobody is asked":   {policy: rule(in, "client: {certificate: none")},
		"denied":            {policy: rule("identity: pay, client: {authorities: [staff]}, destination: {tls: verify, authorities: [servers]}", "action: deny"), want: reason.RuleDeny},
		"no rule":           {policy: rule("10.0.0.1", "10.0.0.2"), want: reason.NoRule},
		"bypassed":          {policy: rule("identity: pay, client: {authorities: [staff]}, destination: {tls: verify, authorities: [servers]}", "action: bypass"), want: reason.PolicyChanged},
		"another authority": {policy: rule("[staff]", "[partner]"), want: reason.UnknownCA},
		"the CA was replaced": {env: func(e *Environment) {
			e.Authorities["staff"] = &handshake.Authority{Name: "staff", Roots: []*x509.Certificate{again.Cert}}
		}, want: reason.UnknownCA},
		"the CA got company": {env: func(e *Environment) {
			e.Authorities["staff"] = &handshake.Authority{Name: "staff", Roots: []*x509.Certificate{again.Cert, p.staff.Cert}}
		}},
		"the CA moved to another name": {env: func(e *Environment) {
			e.Authorities["staff"] = &handshake.Authority{Name: "staff", Roots: []*x509.Certificate{p.partner.Cert}}
		}, want: reason.UnknownCA},
		"permits":               {env: func(e *Environment) { e.Permits["staff"] = &PermitsSpec{SPIFFE: []string{"other"}} }, want: reason.AuthorityNotNamed},
		"allow":                 {policy: rule(in, in+`, allow: [{san_uri: ["spiffe://corp/admin"]}]`), want: reason.NotAllowed},
		"when":                  {policy: rule(in, in+`, when: "tls.version == 'TLS 1.2'"`), want: reason.ConditionFailed},
		"expired":               {facts: func(f *Facts) { f.Now = f.Peer.Leaf().NotAfter.Add(time.Second) }, want: reason.Expired},
		"time":                  {policy: rule("identity: pay", `identity: pay, time: {from: "00:00", to: "00:01", zone: UTC}`), facts: func(f *Facts) { f.Now = f.Now.Truncate(24 * time.Hour).Add(12 * time.Hour) }, want: reason.OutsideTime},
		"an absent certificate": {facts: func(f *Facts) { f.Peer = nil }, want: reason.NoCertificate},
		"a longer chain than allowed": {env: func(e *Environment) { e.MaxChain = 1 }, facts: func(f *Facts) {
			f.Peer.Shown = append(f.Peer.Shown, p.staff.Cert)
		}, want: reason.ChainTooLong},
		"version": {policy: rule("identity: pay", "identity: pay, profile: old"), want: reason.NoCommonSuite},
		"group":   {policy: house, env: profile("house", handshake.ProfileSpec{Groups: []string{"X25519"}}), want: reason.NoCommonSuite},
		"suite":   {policy: house, env: profile("house", handshake.ProfileSpec{TLS12: []string{"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"}}), facts: func(f *Facts) { tls12(f.State) }, want: reason.NoCommonSuite},
		"scheme":  {policy: house, env: profile("house", handshake.ProfileSpec{Signatures: []string{"ecdsa_secp256r1_sha256"}}), facts: func(f *Facts) { f.Peer.SignatureScheme = uint16(tls.PSSWithSHA256) }, want: reason.WeakSignature},
		"scheme of before": {policy: house, env: profile("house", handshake.ProfileSpec{Signatures: []string{"ecdsa_secp256r1_sha256"}}), facts: func(f *Facts) {
			f.Peer.SignatureScheme, f.State.Resumed = 0, true
		}, want: reason.WeakSignature},
		"signatures of the chain": {policy: house, env: profile("house", handshake.ProfileSpec{Signatures: []string{"ecdsa_secp384r1_sha384"}}), want: reason.WeakSignature},
		"curve":                   {policy: house, env: profile("house", handshake.ProfileSpec{Curves: []string{"secp384r1"}}), want: reason.WeakKey},
		"extended_master_secret": {policy: house, env: profile("house", handshake.ProfileSpec{RequireEMS: true}), facts: func(f *Facts) {
			h := *f.Hello
			h.ExtendedMasterSecret = false
			f.Hello = &h
			tls12(f.State)
			f.State.ExtendedMasterSecret = false
		}, want: reason.NoExtendedMasterSecret},
		"protocol":                              {policy: rule("identity: pay", "identity: pay, alpn: [h2]"), want: reason.NoALPN},
		"h2, which the rule no longer answers":  {facts: agreed("h2"), want: reason.NoALPN},
		"h2, and none is meant":                 {policy: rule("identity: pay", "identity: pay, alpn: []"), facts: agreed("h2"), want: reason.NoALPN},
		"h2, and another is answered":           {policy: rule("identity: pay", "identity: pay, alpn: [http/1.1]"), facts: agreed("h2"), want: reason.NoALPN},
		"h2, and others are answered too":       {policy: rule("identity: pay", "identity: pay, alpn: [http/1.1, h2]"), facts: agreed("h2")},
		"h2, which the destination answers now": {policy: rule(to, to+", dial: first"), facts: agreed("h2")},
		"h2, and none is meant with dial: first": {policy: func(s string) string {
			return rule(to, to+", dial: first")(rule("identity: pay", "identity: pay, alpn: []")(s))
		}, facts: agreed("h2"), want: reason.NoALPN},
		"a protocol that needs no answer":           {facts: agreed("corp/1")},
		"acme-tls/1, which nobody answers any more": {facts: agreed("acme-tls/1"), want: reason.NoALPN},
		"no protocol, and one is answered now":      {policy: rule("identity: pay", "identity: pay, alpn: [h2]"), facts: agreed("")},
		"the destination's CA": {env: func(e *Environment) {
			e.Authorities["servers"] = &handshake.Authority{Name: "servers", Roots: []*x509.Certificate{again.Cert}}
		}, want: reason.UpstreamUnknownCA},
		"the destination's name":    {policy: rule(to, to+", name: other.internal"), want: reason.UpstreamName},
		"the destination's pin":     {policy: rule(to, to+`, pins: ["`+strings.Repeat("ab", 32)+`"]`), want: reason.UpstreamPin},
		"the destination's permits": {env: func(e *Environment) { e.Permits["servers"] = &PermitsSpec{DNS: []string{".example"}} }, want: reason.UpstreamUnknownCA},
		"the destination's version": {policy: toHouse, env: profile("house", handshake.ProfileSpec{Versions: []string{"1.2"}}), want: reason.UpstreamCrypto},
		"the destination's scheme": {policy: toHouse, env: profile("house", handshake.ProfileSpec{Signatures: []string{"ecdsa_secp256r1_sha256"}}), facts: func(f *Facts) {
			f.Upstream.Peer.SignatureScheme = uint16(tls.Ed25519)
		}, want: reason.UpstreamCrypto},
		"the destination's extended_master_secret": {policy: toHouse, env: profile("house", handshake.ProfileSpec{RequireEMS: true}), facts: func(f *Facts) {
			tls12(f.Upstream.State)
			f.Upstream.State.ExtendedMasterSecret = false
		}, want: reason.UpstreamCrypto},
		"the destination without TLS":     {facts: func(f *Facts) { f.Upstream = &Upstream{} }, want: reason.PolicyChanged},
		"TLS that is no longer asked for": {policy: rule("{tls: verify, authorities: [servers]}", "{tls: plain}")},
		"a PROXY header":                  {policy: rule(to, to+", proxy_protocol: v2"), want: reason.PolicyChanged},
		"no PROXY header":                 {facts: func(f *Facts) { f.Upstream.ProxyV2 = true }, want: reason.PolicyChanged},
		"the client's address":            {policy: rule(to, to+", source: client"), want: reason.PolicyChanged},
		"not connected yet":               {facts: func(f *Facts) { f.Upstream = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			f := liveFlow(t)
			if d := compile(t, liveRule).Redecide(f); !d.Keeps(Terminate) || d.Moment != "destination" {
				t.Fatalf("the flow is not allowed to begin with: %+v", d)
			}
			if tt.facts != nil {
				tt.facts(&f)
			}
			text, env := liveRule, testEnv(t)
			if tt.policy != nil {
				text = tt.policy(text)
			}
			if tt.env != nil {
				tt.env(&env)
			}
			set, found := Compile(readSpec(t, text), env)
			if set == nil {
				t.Fatal(found)
			}
			d := set.Redecide(f)
			switch {
			case tt.want == "" && !d.Keeps(Terminate):
				t.Errorf("ended: %+v", d.Verdict)
			case tt.want == reason.PolicyChanged && d.Verdict.Action == Bypass:
				if d.Keeps(Terminate) {
					t.Error("what was terminated goes on as a bypass")
				}
			case tt.want != "" && (d.Keeps(Terminate) || d.Verdict.Reason != tt.want):
				t.Errorf("got %+v, want %s", d.Verdict, tt.want)
			}
			if f.Peer != nil && (!f.Peer.Proven || f.Peer.Authority != "staff") {
				t.Error("the facts were changed")
			}
		})
	}
}

// Where the rule is observed the same refusals are noted, and end nothing.
func TestRedecideObserved(t *testing.T) {
	env := testEnv(t)
	env.Authorities["staff"] = &handshake.Authority{Name: "staff", Roots: []*x509.Certificate{testPKI().partner.Cert}}
	set, found := Compile(readSpec(t, strings.Replace(liveRule, "name: r", "name: r, mode: observe", 1)), env)
	if set == nil {
		t.Fatal(found)
	}
	d := set.Redecide(liveFlow(t))
	if !d.Keeps(Terminate) || d.Verdict.Would.Reason != reason.UnknownCA || d.Verdict.Reason != reason.Observed {
		t.Errorf("%+v", d.Verdict)
	}
	env = testEnv(t)
	env.Profiles["house"] = testpki.Must(handshake.ProfileSpec{Groups: []string{"X25519"}}.Resolve("house", stdtls.New().Capabilities()))
	if set, found = Compile(readSpec(t, strings.Replace(liveRule, "name: r", "name: r, mode: observe, profile: house", 1)), env); set == nil {
		t.Fatal(found)
	}
	if d = set.Redecide(liveFlow(t)); !d.Keeps(Terminate) || d.Verdict.Would.Reason != reason.NoCommonSuite {
		t.Errorf("%+v", d.Verdict)
	}
	f := liveFlow(t)
	f.State.ALPN = "h2"
	set = compile(t, strings.Replace(liveRule, "name: r", "name: r, mode: observe", 1))
	if d = set.Redecide(f); !d.Keeps(Terminate) || d.Verdict.Would.Reason != reason.NoALPN || d.Verdict.Would.Detail != "agreed on h2, and the rule answers none" {
		t.Errorf("%+v", d.Verdict)
	}
}

// A bypassed flow goes on as one, with the hello or without.
func TestRedecideBypass(t *testing.T) {
	const bypass, byName = `rules: [{name: b, to: ["10.0.0.1:443"], action: bypass}]`, `rules: [{name: b, to: ["10.0.0.1:443"], sni: [pay.internal], action: bypass}]`
	for name, tt := range map[string]struct {
		policy string
		hello  *handshake.ClientHello
		keeps  bool
	}{
		"as before":                      {bypass, nil, true},
		"as before, with a hello":        {bypass, hello("x.internal"), true},
		"a hello that was never seen":    {byName, nil, false},
		"a hello that was seen":          {byName, hello("pay.internal"), true},
		"another name":                   {byName, hello("x.internal"), false},
		"terminated now":                 {liveRule, hello("pay.internal"), false},
		"terminated now, without hello":  {liveRule, nil, false},
		"denied":                         {`rules: [{name: b, to: ["10.0.0.1:443"], action: deny}]`, nil, false},
		"from elsewhere":                 {`rules: [{name: b, from: [10.9.0.0/16], to: ["10.0.0.1:443"], action: bypass}]`, nil, false},
		"under the client's own address": {`rules: [{name: b, to: ["10.0.0.1:443"], action: bypass, destination: {source: client}}]`, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			set := compile(t, tt.policy)
			f := flow("10.1.1.1", "10.0.0.1:443", tt.hello)
			f.Upstream = &Upstream{}
			if d := set.Redecide(f); d.Keeps(Bypass) != tt.keeps {
				t.Errorf("%+v", d)
			}
			if d := (*Set)(nil).Redecide(f); d.Keeps(Bypass) || d.Keeps(Deny) {
				t.Error("no policy keeps a flow")
			}
		})
	}
}
