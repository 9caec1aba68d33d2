package replay

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

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/policytest"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

type pki struct {
	staff, partner *testpki.CA
	own            *testpki.Cert
	users          []*testpki.Cert // of staff, of partner, of nobody
}

var testPKI = sync.OnceValue(func() pki {
	ca := func(cn string) *testpki.CA { return testpki.Must(testpki.NewCA(testpki.Options{CN: cn})) }
	p := pki{staff: ca("Staff"), partner: ca("Partner")}
	p.own = testpki.Must(p.staff.Issue(testpki.Leaf{DNS: []string{"gateway.example"}}))
	for _, c := range []*testpki.CA{p.staff, p.partner, ca("Nobody")} {
		p.users = append(p.users, testpki.Must(c.Issue(testpki.Leaf{DNS: []string{"user.example"}, NotBefore: today.Add(-48 * time.Hour), NotAfter: today.Add(72 * time.Hour)})))
	}
	return p
})

func env(t rapid.TB) policy.Environment {
	p := testPKI()
	profiles, err := handshake.ResolveProfiles(nil, stdtls.New().Capabilities())
	if err != nil {
		t.Fatalf("%v", err)
	}
	authority := func(name string, ca *testpki.CA) *handshake.Authority {
		return &handshake.Authority{Name: name, Roots: []*x509.Certificate{ca.Cert}}
	}
	return policy.Environment{
		Authorities: map[string]handshake.AuthoritySource{"staff": authority("staff", p.staff), "partner": authority("partner", p.partner)},
		Identities:  map[string]policy.Identity{"own": {Name: "own", Source: identity.NewFile([]tls.Certificate{p.own.TLS()}, nil)}},
		Profiles:    profiles, Engine: stdtls.New(),
	}
}

var (
	clients = []string{"10.1.0.1", "10.1.0.2", "10.2.0.1"}
	dsts    = []string{"10.0.0.1:443", "10.0.0.2:443"}
	names   = []string{"", "a.example", "b.example"}
	// today is one of which every hour is within the certificates' time.
	today = time.Now().UTC().Truncate(24 * time.Hour)
)

// third is the third part of the fingerprint of some of the flows.
var third = sync.OnceValue(func() string {
	h := testpki.Must(policytest.Hello{SNI: "a.example", Versions: []string{"1.2"}}.ClientHello())
	return ja4.Of(h)[strings.LastIndexByte(ja4.Of(h), '_')+1:]
})

func drawPolicy(t *rapid.T, env policy.Environment) *policy.Set {
	spec := policy.Spec{Mode: rapid.SampledFrom([]string{"", "", "", "observe"}).Draw(t, "mode")}
	for i := range rapid.IntRange(0, 4).Draw(t, "rules") {
		r := policy.RuleSpec{
			Name: rapid.SampledFrom([]string{"r", "s"}).Draw(t, "name") + fmt.Sprint(i),
			From: rapid.SampledFrom([][]string{nil, {"10.1.0.0/16"}, {"10.1.0.1"}}).Draw(t, "from"),
			To:   rapid.SampledFrom([][]string{dsts, dsts[:1], dsts[1:], {"*:443"}}).Draw(t, "to"),
			SNI:  rapid.SampledFrom([][]string{nil, {"a.example"}, {"*.example"}}).Draw(t, "sni"),
			Mode: rapid.SampledFrom([]string{"", "", "enforce", "observe"}).Draw(t, "mode of the rule"),
			Time: rapid.SampledFrom([]*policy.TimeSpec{nil, nil, {From: "08:00", To: "18:00"}}).Draw(t, "time"),
		}
		if rapid.IntRange(0, 3).Draw(t, "offers") == 0 {
			r.ALPNOffered = rapid.SampledFrom([][]string{{"h2"}, {"h2", "http/1.1"}}).Draw(t, "alpn_offered")
		}
		r.Action = rapid.SampledFrom([]string{"terminate", "terminate", "bypass", "deny"}).Draw(t, "action")
		switch r.Action {
		case "deny":
			r.JA4 = rapid.SampledFrom([][]string{nil, {"*_*_" + third()}, {"t12i010100_*_*"}}).Draw(t, "ja4")
		case "terminate":
			if rapid.Bool().Draw(t, "answers") {
				r.ALPN = []string{"h2"}
			}
			r.Identity, r.Destination.TLS = "own", "plain"
			r.Client.When = policy.Expression(rapid.SampledFrom([]string{"", "", "", "tls.version == 'TLS 1.3'", "tls.suite != 'TLS_AES_256_GCM_SHA384'", "sni != 'b.example'", "!cert.present || source == '10.1.0.1'"}).Draw(t, "when"))
			r.Profile = rapid.SampledFrom([]string{"", "modern", "pq"}).Draw(t, "profile")
			if r.Client.Certificate = rapid.SampledFrom([]string{"none", "optional", "required"}).Draw(t, "certificate"); r.Client.Certificate != "none" {
				r.Client.Authorities = rapid.SampledFrom([][]string{{"staff"}, {"staff", "partner"}}).Draw(t, "authorities")
				if rapid.Bool().Draw(t, "allow") {
					r.Client.Allow = []policy.AllowSpec{{SANDNS: []string{rapid.SampledFrom([]string{"user.example", "other.example"}).Draw(t, "allowed")}}}
				}
			}
		}
		spec.Rules = append(spec.Rules, r)
	}
	set, _ := policy.Compile(spec, env)
	if set == nil {
		t.Skip("rules that hide each other")
	}
	return set
}

func drawFlow(t *rapid.T) policy.Facts {
	h := policytest.Hello{
		SNI:      rapid.SampledFrom(names).Draw(t, "name of the server"),
		Versions: rapid.SampledFrom([][]string{nil, {"1.2"}, {"1.3"}}).Draw(t, "versions"),
		Groups:   rapid.SampledFrom([][]string{nil, {"X25519"}}).Draw(t, "groups"),
		ALPN:     rapid.SampledFrom([][]string{nil, {"h2"}, {"http/1.1"}, {"h2", "http/1.1"}}).Draw(t, "protocols"),
	}
	hello, err := h.ClientHello()
	if err != nil {
		t.Fatalf("%v", err)
	}
	f := policy.Facts{
		Now: today.Add(time.Duration(rapid.SampledFrom([]int{3, 12}).Draw(t, "hour")) * time.Hour), Hello: hello,
		Src: netip.AddrPortFrom(netip.MustParseAddr(rapid.SampledFrom(clients).Draw(t, "client")), 4000),
		Dst: netip.MustParseAddrPort(rapid.SampledFrom(dsts).Draw(t, "destination")),
	}
	if i := rapid.IntRange(-1, 2).Draw(t, "certificate of the client"); i >= 0 {
		f.Peer = &handshake.Peer{Shown: testPKI().users[i].Chain, Proven: true}
	}
	return f
}

// live decides a flow as the gateway does, moment by moment, with all that the client has.
func live(set *policy.Set, f policy.Facts, odd bool) (v policy.Verdict, plan *policy.Plan, facts policy.Facts) {
	bare := f
	bare.Hello, bare.Peer = nil, nil
	if v, decided := set.OnSYN(bare); decided {
		return v, v.Plan, bare
	}
	v = set.OnHello(f)
	if v.Action != policy.Terminate {
		f.Peer = nil
		return v, v.Plan, f
	}
	plan = v.Plan
	if plan.Client.ClientAuth == handshake.ClientAuthNone {
		f.Peer = nil
	}
	f.State = policytest.Agreed(f.Hello, plan.Client.Profile, plan.Client.ALPN)
	if odd && f.State.Version == tls.VersionTLS13 {
		f.State.Suite = tls.TLS_AES_256_GCM_SHA384 // an engine may choose what it likes
	}
	d := set.Redecide(f)
	return d.Verdict, plan, d.Facts
}

// recordOf is the record of a flow that was decided so.
func recordOf(t rapid.TB, v policy.Verdict, plan *policy.Plan, f policy.Facts, hello *handshake.ClientHello) []byte {
	r := audit.NewRecord("1-1", f.Now, f.Src, f.Dst)
	r.Rule, r.Action, r.Reason = v.Rule, v.Action.String(), v.Reason
	if plan != nil {
		sum := plan.Digest()
		r.RuleDigest = hex.EncodeToString(sum[:8])
	}
	if f.Hello != nil || v.Action == policy.Bypass { // read as it goes by
		r.Hello, r.SNI, r.ALPN = hello, hello.ServerName, hello.ALPN
	}
	if f.Peer != nil {
		r.Peer = f.Peer
	}
	if v.Would.Deny {
		r.Would = &audit.Would{Rule: v.Would.Rule, Reason: v.Would.Reason}
	}
	var b bytes.Buffer
	if err := audit.New(&b).Write(r); err != nil {
		t.Fatalf("%v", err)
	}
	return bytes.TrimSpace(b.Bytes())
}

// What replay is certain of is what the live gateway does, of random policies and flows.
func TestReplayAgreesWithTheGateway(t *testing.T) {
	env := env(t)
	var certain, different, uncertain int
	rapid.Check(t, func(t *rapid.T) {
		before, after := drawPolicy(t, env), drawPolicy(t, env)
		for range 10 {
			f, odd := drawFlow(t), rapid.Bool().Draw(t, "odd")
			was, plan, facts := live(before, f, odd)
			is, newPlan, _ := live(after, f, odd)
			if was.Action == policy.Bypass && newPlan != nil && newPlan.Client != nil && newPlan.Client.ClientAuth != handshake.ClientAuthNone {
				is = policy.Verdict{Action: policy.Terminate, Rule: newPlan.Rule, Would: after.OnHello(f).Would} // whatever comes of the certificate
			}
			want, differ := policy.Compare(was, is)
			if facts.Hello != nil {
				// What the gateway's shadow says of the flow. Of one that is bypassed by its
				// first packet it does not know the hello, which the record has.
				shadow := policy.NewShadow(after)
				want, is, differ = shadow.Judge(was, facts)
			}
			r := New(after)
			line := recordOf(t, was, plan, facts, f.Hello)
			if err := r.Add(line); err != nil {
				t.Fatalf("%v", err)
			}
			got := r.Result()
			switch {
			case got.Uncertain == 1:
				uncertain++
				if newPlan == nil && was.Action != policy.Deny {
					t.Fatalf("uncertain without a certificate: %+v\n%s", got.Unknown, line)
				}
			case got.Undecided == 1:
				t.Fatalf("no policy had its word: %s", line)
			case !differ && got.Same != 1, differ && got.Different != 1, differ && got.Groups[0].Kind != want.Kind.String(),
				differ && (got.Groups[0].NewRule != is.Rule || got.Groups[0].Rule != was.Rule):
				t.Fatalf("live %+v (%v), replay %+v\n%s\nwas %+v\nis %+v", want, differ, got, line, was, is)
			case differ:
				different++
			default:
				certain++
			}
			same := New(before)
			if err := same.Add(line); err != nil {
				t.Fatalf("%v", err)
			}
			if r := same.Result(); r.Same != 1 {
				t.Fatalf("by the same policy %+v\n%s", r, line)
			}
		}
	})
	t.Logf("%d the same, %d different, %d uncertain", certain, different, uncertain)
	if certain == 0 || different == 0 || uncertain == 0 {
		t.Error("the draws are too narrow")
	}
}

// Of a hello that a record has only in part the fingerprint is that of the whole: it decides
// where neither the name nor a profile does.
func TestPartOfAHello(t *testing.T) {
	env := env(t)
	compile := func(rules ...policy.RuleSpec) *policy.Set {
		set, found := policy.Compile(policy.Spec{Rules: rules}, env)
		if set == nil {
			t.Fatal(found)
		}
		return set
	}
	to := dsts[:1]
	past := policy.RuleSpec{Name: "past", To: to, Action: "bypass"}
	for name, change := range map[string]func(h *handshake.ClientHello){
		"many suites": func(h *handshake.ClientHello) { h.CipherSuites = append(h.CipherSuites, make([]uint16, 200)...) },
		"many extensions": func(h *handshake.ClientHello) {
			var more []handshake.Extension
			for i := range uint16(200) {
				more = append(more, handshake.Extension{Type: 0x7000 + i})
			}
			h.Extensions = append(more, h.Extensions...)
		},
		"an odd name":    func(h *handshake.ClientHello) { h.SNIInvalid, h.SNISent = true, "a.example:443" },
		"a trailing dot": func(h *handshake.ClientHello) { h.SNITrailingDot = true },
		"many protocols": func(h *handshake.ClientHello) { h.ALPN = make([]string, 40) },
	} {
		hello, err := policytest.Hello{SNI: "a.example"}.ClientHello()
		if err != nil {
			t.Fatal(err)
		}
		hello = new(*hello)
		change(hello)
		f := policy.Facts{Now: today, Src: netip.MustParseAddrPort("10.1.0.1:4000"), Dst: netip.MustParseAddrPort(dsts[0]), Hello: hello}
		print := policy.RuleSpec{Name: "print", To: to, JA4: []string{ja4.Of(hello)}, Action: "deny"}
		other := policy.RuleSpec{Name: "print", To: to, JA4: []string{"t13d9999h2_*_*"}, Action: "deny"}
		was := compile(past).OnHello(f)
		for next, c := range map[string]struct {
			set  *policy.Set
			want string
		}{
			"by its fingerprint":        {compile(print, past), "1 different"},
			"by name, refused":          {compile(policy.RuleSpec{Name: "named", To: to, SNI: []string{"a.example"}, Action: "deny"}, past), "1 uncertain"},
			"by another":                {compile(other, past), "1 the same"},
			"by name":                   {compile(policy.RuleSpec{Name: "named", To: to, SNI: []string{"a.example"}, Action: "bypass"}), "1 uncertain"},
			"by a profile":              {compile(policy.RuleSpec{Name: "past", To: to, Identity: "own", Client: policy.ClientSpec{Certificate: "none"}, Destination: policy.DestinationSpec{TLS: "plain"}}), "1 uncertain"},
			"by the addresses":          {compile(past), "1 the same"},
			"by its fingerprint, later": {compile(policy.RuleSpec{Name: "named", To: to, SNI: []string{"b.example"}, Action: "deny"}, print), "1 different"},
		} {
			r := New(c.set)
			if err := r.Add(recordOf(t, was, nil, f, hello)); err != nil {
				t.Fatal(err)
			}
			got := r.Result()
			want := c.want
			if name == "many protocols" && next != "by the addresses" { // which of them were offered is not known
				want = "1 uncertain"
			}
			if says := fmt.Sprintf("%d different, %d the same, %d uncertain", got.Different, got.Same, got.Uncertain); !strings.Contains(says, want) {
				t.Errorf("%s, %s: %s, want %s", name, next, says, want)
			}
			// What it is certain of is what the gateway does.
			if is, _, _ := live(c.set, f, false); got.Uncertain == 0 && is.Action.Lets() != (got.Same == 1) {
				t.Errorf("%s, %s: the gateway says %v, replay %+v", name, next, is.Action, got)
			}
		}
	}
}

// What ends a flow beside the policy says nothing of it.
func TestUndecided(t *testing.T) {
	r := New(nil)
	for _, code := range []reason.Code{reason.HelloTimeout, reason.NotTLS, reason.ClientLimit, reason.Draining, reason.ClientRefused, reason.HandshakeEOF, reason.Revoked, reason.PolicyChanged, reason.MemoryLimit} {
		rec := audit.NewRecord("1-1", time.Now(), netip.MustParseAddrPort("10.1.0.1:1"), netip.MustParseAddrPort("10.0.0.1:443"))
		rec.Reason, rec.Action = code, "deny"
		var b bytes.Buffer
		if err := audit.New(&b).Write(rec); err != nil {
			t.Fatal(err)
		}
		if err := r.Add(b.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	// What revocation or a reload has refused may be decided otherwise, in ways that a record does not have.
	if got := r.Result(); got.Undecided != 7 || got.Uncertain != 2 || got.Flows != 9 {
		t.Errorf("%+v", got)
	}
}

// FuzzAdd: any line is an error or one flow, and is in one of the sums.
func FuzzAdd(f *testing.F) {
	set, found := policy.Compile(policy.Spec{Rules: []policy.RuleSpec{{Name: "r", To: []string{"10.0.0.1:443"}, SNI: []string{"a.example"}, Identity: "own", Client: policy.ClientSpec{Certificate: "none"}, Destination: policy.DestinationSpec{TLS: "plain"}}}}, env(f))
	if set == nil {
		f.Fatal(found)
	}
	f.Add([]byte(`{"msg":"flow","time":"2026-11-01T00:00:00Z","client":"10.1.0.1:1","destination":"10.0.0.1:443","reason":"no_rule","hello":{"versions":"0304","suites":"1301","extensions":"0000"},"sni":"a.example"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r := New(set)
		err := r.Add(line)
		got := r.Result()
		if (err == nil) != (got.Flows == 1) || got.Flows != got.Same+got.Different+got.Uncertain+got.Undecided {
			t.Errorf("%v, %+v", err, got)
		}
		for i := range got.Groups {
			if strings.ContainsAny(got.Groups[i].String(), "\n\x1b") {
				t.Errorf("%q", got.Groups[i].String())
			}
		}
	})
}
