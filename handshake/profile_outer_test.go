package handshake_test

import (
	"crypto/tls"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
)

func TestResolve(t *testing.T) {
	groups := []uint16{0x11ec, 0x1d, 0x17, 0x18}
	suites := handshake.NamedProfiles()[1].Suites12
	for name, c := range map[string]struct {
		spec handshake.ProfileSpec
		want handshake.Profile
	}{
		"nothing written": {handshake.ProfileSpec{}, handshake.Profile{MinVersion: 0x0303, MaxVersion: 0x0304, Suites12: suites, Groups: groups, MinRSABits: 2048}},
		"modern":          {handshake.ProfileSpec{Base: "modern"}, handshake.Profile{MinVersion: 0x0304, MaxVersion: 0x0304, Groups: groups, MinRSABits: 2048}},
		"the house of the docs": {
			handshake.ProfileSpec{Base: "intermediate", TLS12: []string{"ECDHE-ECDSA-AES256-GCM-SHA384"}, Groups: []string{"X25519MLKEM768", "X25519"}, MinRSABits: 3072},
			handshake.Profile{MinVersion: 0x0303, MaxVersion: 0x0304, Suites12: []uint16{0xc02c}, Groups: []uint16{0x11ec, 0x1d}, MinRSABits: 3072},
		},
		"1.3 of intermediate": {handshake.ProfileSpec{Versions: []string{"1.3"}}, handshake.Profile{MinVersion: 0x0304, MaxVersion: 0x0304, Groups: groups, MinRSABits: 2048}},
		"1.2 alone":           {handshake.ProfileSpec{Versions: []string{"TLSv1.2"}}, handshake.Profile{MinVersion: 0x0303, MaxVersion: 0x0303, Suites12: suites, Groups: groups, MinRSABits: 2048}},
		"modern with 1.2": {
			handshake.ProfileSpec{Base: "modern", Versions: []string{"1.3", "1.2"}, TLS12: []string{"ECDHE-RSA-AES128-GCM-SHA256"}},
			handshake.Profile{MinVersion: 0x0303, MaxVersion: 0x0304, Suites12: []uint16{0xc02f}, Groups: groups, MinRSABits: 2048},
		},
		"one suite of 1.3": {
			handshake.ProfileSpec{Base: "modern", TLS13: []string{"TLS_AES_256_GCM_SHA384"}},
			handshake.Profile{MinVersion: 0x0304, MaxVersion: 0x0304, Suites13: []uint16{0x1302}, Groups: groups, MinRSABits: 2048},
		},
		"all suites of 1.3": {
			handshake.ProfileSpec{Base: "modern", TLS13: []string{"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"}},
			handshake.Profile{MinVersion: 0x0304, MaxVersion: 0x0304, Groups: groups, MinRSABits: 2048},
		},
		"hybrids alone in 1.3": {
			handshake.ProfileSpec{Base: "modern", Groups: []string{"SecP384r1MLKEM1024"}},
			handshake.Profile{MinVersion: 0x0304, MaxVersion: 0x0304, Groups: []uint16{0x11ed}, MinRSABits: 2048},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.spec.Resolve("house", able())
			if err != nil {
				t.Fatal(err)
			}
			c.want.Name, c.want.MinECBits = "house", 256
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		spec handshake.ProfileSpec
		want []string
	}{
		"unknown base": {handshake.ProfileSpec{Base: "modem"}, []string{
			`base: unknown profile "modem" (did you mean "modern"?): the base is one of the named profiles, modern, intermediate, pq, cnsa1, cnsa2, fips, bsi, legacy-rsa`}},
		"an own base": {handshake.ProfileSpec{Base: "house"}, []string{
			`base: unknown profile "house": the base is one of the named profiles, modern, intermediate, pq, cnsa1, cnsa2, fips, bsi, legacy-rsa`}},
		"old versions": {handshake.ProfileSpec{Versions: []string{"1.0", "TLS 1.1", "1.2", "1.5"}}, []string{
			`versions[0]: TLS 1.0 is obsolete (RFC 8996) and never allowed: write "1.2" or "1.3"`,
			`versions[1]: TLS 1.1 is obsolete (RFC 8996) and never allowed: write "1.2" or "1.3"`,
			`versions[3]: unknown TLS version "1.5" (did you mean "1.0"?)`}},
		"the same twice": {handshake.ProfileSpec{Versions: []string{"1.2", "TLSv1.2"}, Groups: []string{"P-256", "secp256r1"}}, []string{
			"versions[1]: listed twice", "groups[1]: listed twice"}},
		"weak suites": {handshake.ProfileSpec{TLS12: []string{"AES128-GCM-SHA256", "ECDHE-RSA-AES128-SHA", "DHE-RSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA265"}}, []string{
			"tls12[0]: TLS_RSA_WITH_AES_128_GCM_SHA256 gives no forward secrecy: only ECDHE is allowed",
			"tls12[1]: TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA is not authenticated encryption: only AES-GCM and ChaCha20-Poly1305 are allowed",
			"tls12[2]: CipherSuite TLS_DHE_RSA_WITH_AES_128_GCM_SHA256 is not implemented by Go's crypto/tls",
			"tls12[3]: TLS_AES_128_GCM_SHA256 is a CipherSuite of TLS 1.3: it belongs in tls13",
			`tls12[4]: unknown CipherSuite "ECDHE-RSA-AES128-GCM-SHA265" (did you mean "ECDHE-RSA-AES128-GCM-SHA256"?)`}},
		"a 1.2 suite in tls13": {handshake.ProfileSpec{TLS13: []string{"ECDHE-RSA-AES128-GCM-SHA256"}}, []string{
			"tls13[0]: TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 is a CipherSuite of TLS 1.2: it belongs in tls12"}},
		"tls12 in modern": {handshake.ProfileSpec{Base: "modern", TLS12: []string{"ECDHE-RSA-AES128-GCM-SHA256"}}, []string{
			`tls12: has no effect, for the profile allows TLS 1.3 only: add versions: ["1.2", "1.3"], or leave the list out`}},
		"tls13 in 1.2": {handshake.ProfileSpec{Versions: []string{"1.2"}, TLS13: []string{"TLS_AES_128_GCM_SHA256"}}, []string{
			`tls13: has no effect, for the profile allows TLS 1.2 only: add "1.3" to versions, or leave the list out`}},
		"modern with 1.2 and no suites": {handshake.ProfileSpec{Base: "modern", Versions: []string{"1.2"}}, []string{
			"versions: TLS 1.2 is allowed, but the base modern has no CipherSuites for it: list them in tls12, or take base: intermediate"}},
		"hybrids alone with 1.2": {handshake.ProfileSpec{Groups: []string{"X25519MLKEM768"}}, []string{
			`groups: none of them exists in TLS 1.2, which the profile allows: add X25519 or secp256r1, or set versions: ["1.3"]`}},
		"unknown group": {handshake.ProfileSpec{Groups: []string{"P-257", "X448"}}, []string{
			`groups[0]: unknown group "P-257" (did you mean "P-256"?)`,
			"groups[1]: group X448 is not implemented by Go's crypto/tls"}},
		"empty lists": {handshake.ProfileSpec{Versions: []string{}, TLS12: []string{}, TLS13: []string{}, Groups: []string{}}, []string{
			"versions: the list is empty: leave it out to take that of the base", "tls12: the list is empty: leave it out to take that of the base",
			"tls13: the list is empty: leave it out to take that of the base", "groups: the list is empty: leave it out to take that of the base"}},
		"nothing signs in 1.2": {handshake.ProfileSpec{Signatures: []string{"mldsa65", "mldsa87"}}, []string{
			"signatures: none of them signs a handshake of TLS 1.2, which the profile allows, so each would be refused: add one that does, or take the version out"}},
		"nothing signs in 1.3": {handshake.ProfileSpec{Signatures: []string{"rsa_pkcs1_sha256"}}, []string{
			"signatures: none of them signs a handshake of TLS 1.3, which the profile allows, so each would be refused: add one that does, or take the version out"}},
		"the base's sign nothing in 1.2": {handshake.ProfileSpec{Base: "cnsa2", Versions: []string{"1.2", "1.3"}, TLS12: []string{"ECDHE-RSA-AES128-GCM-SHA256"}}, []string{
			"signatures: none of them signs a handshake of TLS 1.2, which the profile allows, so each would be refused: add one that does, or take the version out"}},
		"small RSA keys":    {handshake.ProfileSpec{MinRSABits: 1024}, []string{"min_rsa_bits: 1024 is too small: RSA keys below 2048 bits are never accepted"}},
		"negative RSA keys": {handshake.ProfileSpec{MinRSABits: -1}, []string{"min_rsa_bits: -1 is too small: RSA keys below 2048 bits are never accepted"}},
		"huge RSA keys":     {handshake.ProfileSpec{MinRSABits: 16384}, []string{"min_rsa_bits: 16384 is too large: crypto/tls accepts RSA keys of at most 8192 bits, so no peer would pass"}},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := c.spec.Resolve("house", able())
			if d := cmp.Diff(c.want, messages(err)); d != "" {
				t.Error(d)
			}
			if d := cmp.Diff(handshake.Profile{}, p); d != "" {
				t.Error("a profile beside the error", d)
			}
		})
	}
}

func messages(err error) []string {
	var out []string
	for _, e := range fielderr.All(err) {
		out = append(out, e.Error())
	}
	return out
}

func TestResolveProfiles(t *testing.T) {
	got, err := handshake.ResolveProfiles(map[string]handshake.ProfileSpec{"house": {Groups: []string{"X25519"}}}, able())
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(handshake.NamedProfiles())+1 || got["modern"].MinVersion != tls.VersionTLS13 || got["intermediate"].Name != "intermediate" ||
		got["house"].Name != "house" || !slices.Equal(got["house"].Groups, []uint16{0x1d}) {
		t.Errorf("got %+v", got)
	}
	got, err = handshake.ResolveProfiles(map[string]handshake.ProfileSpec{
		"modern": {}, "my house": {}, "v1.2": {MinRSABits: 1}, "on-call": {Base: "x", TLS12: []string{"y"}}, "fine": {},
	}, able())
	want := []string{
		"modern: modern is a named profile and cannot be changed: choose another name, and base: modern",
		`["my house"]: a profile's name has letters, digits, "-", "_" and "." only`,
		`on-call.base: unknown profile "x": the base is one of the named profiles, modern, intermediate, pq, cnsa1, cnsa2, fips, bsi, legacy-rsa`,
		`on-call.tls12[0]: unknown CipherSuite "y"`,
		`["v1.2"].min_rsa_bits: 1 is too small: RSA keys below 2048 bits are never accepted`,
	}
	if d := cmp.Diff(want, messages(err)); d != "" || got != nil {
		t.Error(got, d)
	}
	if got, err := handshake.ResolveProfiles(nil, able()); err != nil || len(got) != len(handshake.NamedProfiles()) {
		t.Errorf("without own profiles: %v, %v", got, err)
	}
}
