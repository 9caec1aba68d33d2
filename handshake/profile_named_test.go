package handshake

import (
	"crypto/tls"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

func named(t *testing.T, name string) Profile {
	t.Helper()
	for _, p := range NamedProfiles() {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no profile %s", name)
	return Profile{}
}

// Every named profile has its source, and what the engine cannot keep of it is
// reported.
func TestNamedProfilesAreHonest(t *testing.T) {
	cannot := map[string]int{"cnsa1": 1, "cnsa2": 3, "fips": 1, "bsi": 1}
	names := []string{"modern", "intermediate", "cnsa1", "cnsa2", "fips", "bsi", "legacy-rsa"}
	for i, p := range NamedProfiles() {
		if p.Name != names[i] || ProfileSource(p.Name) == "" {
			t.Errorf("profile %d is %q, source %q", i, p.Name, ProfileSource(p.Name))
		}
		if l := NewStdEngine().Cannot(&Params{Profile: p}); len(l) != cannot[p.Name] {
			t.Errorf("%s: cannot %v", p.Name, l)
		}
		if p.KeyTransport() != (p.Name == "legacy-rsa") {
			t.Errorf("%s: key transport %v", p.Name, p.KeyTransport())
		}
		// A profile of one's own keeps all of its base.
		derived, err := ProfileSpec{Base: p.Name}.Resolve(p.Name, able())
		if err != nil {
			t.Fatal(err)
		}
		a, b := Params{Profile: p}, Params{Profile: derived}
		if a.Demands(0) != b.Demands(0) || !slices.Equal(p.Lacks, derived.Lacks) || p.Order != derived.Order || p.Cap12 != derived.Cap12 {
			t.Errorf("%s: derived %+v", p.Name, derived)
		}
	}
	if ProfileSource("house") != "" {
		t.Error("a profile of one's own has a source")
	}
	capped, err := ProfileSpec{Base: "fips", Inexpressible: "cap-1.2"}.Resolve("house", able())
	if err != nil {
		t.Fatal(err)
	}
	if l := NewStdEngine().Cannot(&Params{Profile: capped}); l != nil {
		t.Errorf("held at TLS 1.2: cannot %v", l)
	}
}

func TestResolveStrength(t *testing.T) {
	p, err := ProfileSpec{
		Base: "intermediate", Curves: []string{"P-384"}, Signatures: []string{"ecdsa_secp384r1_sha384"},
		Order: "client", RequireEMS: true, Inexpressible: "cap-1.2", TLS13: []string{"TLS_AES_256_GCM_SHA384"},
	}.Resolve("house", able())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Curves, []uint16{0x18}) || !slices.Equal(p.Signatures, []uint16{0x503}) || p.Order != OrderClient || !p.RequireEMS || !p.Cap12 {
		t.Errorf("%+v", p)
	}
	for name, tt := range map[string]struct {
		spec ProfileSpec
		want string
	}{
		"curve":         {ProfileSpec{Curves: []string{"X25519"}}, "curves[0]: X25519 is no curve of ECDSA keys: secp256r1, secp384r1 and secp521r1 are"},
		"no curves":     {ProfileSpec{Curves: []string{}}, "curves: the list is empty: leave it out to take that of the base"},
		"SHA-1":         {ProfileSpec{Signatures: []string{"rsa_pkcs1_sha1"}}, "signatures[0]: rsa_pkcs1_sha1 rests on SHA-1, which is never accepted (RFC 9155)"},
		"order":         {ProfileSpec{Order: "servr"}, `order: unknown order "servr" (did you mean "server"?): fast, server or client`},
		"inexpressible": {ProfileSpec{Inexpressible: "cap"}, `inexpressible: unknown answer "cap": refuse or cap-1.2`},
		"key transport": {ProfileSpec{TLS12: []string{"AES128-GCM-SHA256"}}, "tls12[0]: TLS_RSA_WITH_AES_128_GCM_SHA256 gives no forward secrecy: only ECDHE is allowed"},
	} {
		if _, err := tt.spec.Resolve("house", able()); strings.Join(messages(err), "; ") != tt.want {
			t.Errorf("%s: %v", name, messages(err))
		}
	}
	p, err = ProfileSpec{Base: "legacy-rsa", TLS12: []string{"AES128-GCM-SHA256"}}.Resolve("old", able())
	if err != nil || !p.KeyTransport() {
		t.Errorf("%+v, %v", p, err)
	}
}

// The key transport of step 4 goes through under legacy-rsa, and nowhere else.
func TestLegacyRSA(t *testing.T) {
	f := fixtures()
	dir := t.TempDir()
	cert, key, err := f.client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	rsa := testpki.Must(f.ca.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	for _, profile := range NamedProfiles() {
		name := profile.Name
		p := serverParams(func(p *ServerParams) { p.Profile, p.Certificates = profile, []tls.Certificate{rsa.TLS()} })
		o, out := withOpenSSL(t, p, "-tls1_2", "-cipher", "AES256-GCM-SHA384", "-cert", cert, "-key", key)
		if name == "legacy-rsa" {
			if o.err != nil || o.s.Suite != tls.TLS_RSA_WITH_AES_256_GCM_SHA384 || o.s.Group != 0 || o.s.Peer == nil || !o.s.Peer.Proven {
				t.Errorf("%s: %v %+v\n%s", name, o.err, o.s, out)
			}
			continue
		}
		if o.err == nil || o.err.Step != StepClientHello {
			t.Errorf("%s: %v %+v", name, o.err, o.s)
		}
	}
}

// A client that is up to it passes cnsa1, one that is not is refused.
func TestCNSA1(t *testing.T) {
	f := fixtures()
	dir := t.TempDir()
	ca := testpki.Must(testpki.NewCA(testpki.Options{Key: testpki.P384}))
	strong := testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.P384}
	gateway, client := testpki.Must(ca.Issue(strong)), testpki.Must(ca.Issue(strong))
	cert, key, err := client.WritePEM(dir, "strong")
	if err != nil {
		t.Fatal(err)
	}
	weakCert, weakKey, err := f.client.WritePEM(dir, "weak")
	if err != nil {
		t.Fatal(err)
	}
	profile := named(t, "cnsa1")
	profile.Cap12 = true
	p := serverParams(func(p *ServerParams) {
		p.Profile, p.Certificates = profile, []tls.Certificate{gateway.TLS()}
		p.Authorities = []*Authority{authority("strong", ca), authority("weak", f.ca)}
	})
	// In TLS 1.2 crypto/tls asks for SHA-256 first, with any curve: a client must
	// hold itself to SHA-384, or is refused.
	for _, args := range [][]string{{"-client_sigalgs", "ECDSA+SHA384"}, {"-tls1_2", "-client_sigalgs", "ECDSA+SHA384"}, {"-ciphersuites", "TLS_AES_256_GCM_SHA384"}} {
		o, out := withOpenSSL(t, p, append(args, "-groups", "X25519:P-384", "-cert", cert, "-key", key)...)
		if o.err != nil || o.s.Group != uint16(tls.CurveP384) || o.s.Peer.SignatureScheme != uint16(tls.ECDSAWithP384AndSHA384) ||
			o.s.Suite != tls.TLS_AES_256_GCM_SHA384 && o.s.Suite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 {
			t.Errorf("%v: %v %+v\n%s", args, o.err, o.s, out)
		}
	}
	o, _ := withOpenSSL(t, p, "-cert", weakCert, "-key", weakKey)
	if o.err == nil || o.err.Reason != reason.WeakKey && o.err.Reason != reason.WeakSignature {
		t.Errorf("P-256: %v", o.err)
	}
	// An identity that cannot sign as the profile has it is not used.
	p = serverParams(func(p *ServerParams) { p.Profile = profile })
	if o, _ := withOpenSSL(t, p, "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-cert", cert, "-key", key); o.err == nil || o.err.Reason != reason.NoCommonSigAlg {
		t.Errorf("P-256 of ours: %v", o.err)
	}
}
