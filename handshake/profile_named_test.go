package handshake_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
)

// Every named profile has its source, and what the engine cannot keep of it is
// reported.
func TestNamedProfilesAreHonest(t *testing.T) {
	cannot := map[string]int{"cnsa1": 1, "cnsa2": 1, "fips": 1, "bsi": 1}
	names := []string{"modern", "intermediate", "pq", "cnsa1", "cnsa2", "fips", "bsi", "legacy-rsa"}
	for i, p := range handshake.NamedProfiles() {
		if p.Name != names[i] || handshake.ProfileSource(p.Name) == "" {
			t.Errorf("profile %d is %q, source %q", i, p.Name, handshake.ProfileSource(p.Name))
		}
		if l := stdtls.New().Cannot(&handshake.Params{Profile: p}); len(l) != cannot[p.Name] {
			t.Errorf("%s: cannot %v", p.Name, l)
		}
		if p.KeyTransport() != (p.Name == "legacy-rsa") {
			t.Errorf("%s: key transport %v", p.Name, p.KeyTransport())
		}
		// A profile of one's own keeps all of its base.
		derived, err := handshake.ProfileSpec{Base: p.Name}.Resolve(p.Name, able())
		if err != nil {
			t.Fatal(err)
		}
		a, b := handshake.Params{Profile: p}, handshake.Params{Profile: derived}
		if a.Demands(0) != b.Demands(0) || p.Order != derived.Order || p.Cap12 != derived.Cap12 {
			t.Errorf("%s: derived %+v", p.Name, derived)
		}
	}
	if handshake.ProfileSource("house") != "" {
		t.Error("a profile of one's own has a source")
	}
	capped, err := handshake.ProfileSpec{Base: "fips", Inexpressible: "cap-1.2"}.Resolve("house", able())
	if err != nil {
		t.Fatal(err)
	}
	if l := stdtls.New().Cannot(&handshake.Params{Profile: capped}); l != nil {
		t.Errorf("held at TLS 1.2: cannot %v", l)
	}
}

func TestResolveStrength(t *testing.T) {
	p, err := handshake.ProfileSpec{
		Base: "intermediate", Curves: []string{"P-384"}, Signatures: []string{"ecdsa_secp384r1_sha384"},
		Order: "client", RequireEMS: true, Inexpressible: "cap-1.2", TLS13: []string{"TLS_AES_256_GCM_SHA384"},
	}.Resolve("house", able())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(p.Curves, []uint16{0x18}) || !slices.Equal(p.Signatures, []uint16{0x503}) || p.Order != handshake.OrderClient || !p.RequireEMS || !p.Cap12 {
		t.Errorf("%+v", p)
	}
	for name, tt := range map[string]struct {
		spec handshake.ProfileSpec
		want string
	}{
		"curve":         {handshake.ProfileSpec{Curves: []string{"X25519"}}, "curves[0]: X25519 is no curve of ECDSA keys: secp256r1, secp384r1 and secp521r1 are"},
		"no curves":     {handshake.ProfileSpec{Curves: []string{}}, "curves: the list is empty: leave it out to take that of the base"},
		"SHA-1":         {handshake.ProfileSpec{Signatures: []string{"rsa_pkcs1_sha1"}}, "signatures[0]: rsa_pkcs1_sha1 rests on SHA-1, which is never accepted (RFC 9155)"},
		"order":         {handshake.ProfileSpec{Order: "servr"}, `order: unknown order "servr" (did you mean "server"?): fast, server or client`},
		"inexpressible": {handshake.ProfileSpec{Inexpressible: "cap"}, `inexpressible: unknown answer "cap": refuse, native or cap-1.2`},
		"key transport": {handshake.ProfileSpec{TLS12: []string{"AES128-GCM-SHA256"}}, "tls12[0]: TLS_RSA_WITH_AES_128_GCM_SHA256 gives no forward secrecy: only ECDHE is allowed"},
	} {
		if _, err := tt.spec.Resolve("house", able()); strings.Join(messages(err), "; ") != tt.want {
			t.Errorf("%s: %v", name, messages(err))
		}
	}
	p, err = handshake.ProfileSpec{Base: "legacy-rsa", TLS12: []string{"AES128-GCM-SHA256"}}.Resolve("old", able())
	if err != nil || !p.KeyTransport() {
		t.Errorf("%+v, %v", p, err)
	}
}
