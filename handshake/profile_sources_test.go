package handshake_test

import (
	"crypto/tls"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// said is what a document says, in its own words, of those things that
// crypto/tls has.
type said struct {
	versions, suites12, suites13, groups, signatures, curves string
	rsaBits                                                  int
	ems                                                      bool
}

// The named profiles are what their documents say. The lists are copied from
// there, so that a change of the one or the other is seen here.
func TestProfilesAsTheDocumentsSay(t *testing.T) {
	all13 := "TLS_AES_128_GCM_SHA256 TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256"
	mozilla12 := "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 " +
		"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 " +
		"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
	gcm12 := "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 " +
		"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
	pss := "ecdsa_secp256r1_sha256 ecdsa_secp384r1_sha384 ecdsa_secp521r1_sha512 rsa_pss_rsae_sha256 rsa_pss_rsae_sha384 rsa_pss_rsae_sha512"
	for name, want := range map[string]said{
		// tls_versions, ciphers.iana, ciphersuites, tls_curves, rsa_key_size of guidelines 6.0.
		"modern":       {versions: "1.3", suites13: all13, groups: "X25519MLKEM768 X25519 secp256r1 secp384r1", rsaBits: 2048},
		"intermediate": {versions: "1.2 1.3", suites12: mozilla12, suites13: all13, groups: "X25519MLKEM768 X25519 secp256r1 secp384r1", rsaBits: 2048},
		"pq":           {versions: "1.3", suites13: all13, groups: "X25519MLKEM768 SecP256r1MLKEM768 SecP384r1MLKEM1024", rsaBits: 2048},
		// Of RSA and DHE key exchange there is none here, of rsa_pss_pss neither.
		"cnsa1": {
			versions: "1.2 1.3", suites12: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
			suites13: "TLS_AES_256_GCM_SHA384", groups: "secp384r1", curves: "secp384r1",
			signatures: "ecdsa_secp384r1_sha384 rsa_pss_rsae_sha384 rsa_pkcs1_sha384", rsaBits: 3072, ems: true,
		},
		"cnsa2": {versions: "1.3", suites13: "TLS_AES_256_GCM_SHA384", groups: "MLKEM1024", signatures: "mldsa87", rsaBits: 2048},
		// 3.3.1.1 and 3.4.4 without CBC, CCM and DHE; 3.3.2 and 3.4.2 without
		// brainpool and ffdhe; 3.3.3 and 3.4.3; 3.6.1.
		"bsi": {
			versions: "1.2 1.3", suites12: gcm12, suites13: "TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256",
			groups: "secp256r1 secp384r1 secp521r1", curves: "secp256r1 secp384r1 secp521r1", signatures: pss, rsaBits: 3000, ems: true,
		},
		"fips": {
			versions: "1.2 1.3", suites12: gcm12, suites13: "TLS_AES_256_GCM_SHA384 TLS_AES_128_GCM_SHA256",
			groups: "X25519MLKEM768 SecP256r1MLKEM768 SecP384r1MLKEM1024 MLKEM1024 secp256r1 secp384r1 secp521r1", curves: "secp256r1 secp384r1 secp521r1",
			signatures: pss + " mldsa44 mldsa65 mldsa87 ed25519 rsa_pkcs1_sha256 rsa_pkcs1_sha384 rsa_pkcs1_sha512", rsaBits: 2048, ems: true,
		},
		"legacy-rsa": {
			versions: "1.2 1.3", suites12: mozilla12 + " TLS_RSA_WITH_AES_128_GCM_SHA256 TLS_RSA_WITH_AES_256_GCM_SHA384", suites13: all13,
			groups: "X25519MLKEM768 X25519 secp256r1 secp384r1", rsaBits: 2048,
		},
	} {
		p := handshaketest.Named(t, name)
		list := func(ids []uint16, name func(uint16) string) string { return strings.Join(names(ids, name), " ") }
		got := said{
			suites12: list(p.Suites12, handshake.SuiteName), suites13: list(p.Suites13, handshake.SuiteName), groups: list(p.Groups, handshake.GroupName),
			signatures: list(p.Signatures, handshake.SchemeName), curves: list(p.Curves, handshake.GroupName), rsaBits: p.MinRSABits, ems: p.RequireEMS,
		}
		if p.Suites13 == nil {
			got.suites13 = all13
		}
		for _, v := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if v >= p.MinVersion && v <= p.MaxVersion {
				got.versions = strings.TrimSpace(got.versions + " " + strings.TrimPrefix(handshake.VersionName(v), "TLS "))
			}
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(said{})); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// The profile fips is what Go's module lets pass, read from this very
// toolchain, without the CipherSuites in CBC mode.
func TestFIPSAsGoHasIt(t *testing.T) {
	file := filepath.Join(runtime.GOROOT(), "src/crypto/tls/defaults_fips140.go") //nolint:staticcheck // the sources of the toolchain that runs this test
	if _, err := os.Stat(file); err != nil {
		testenv.Missing(t, "no sources of Go: %v", err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && len(v.Values) == 1 {
			if lit, ok := v.Values[0].(*ast.CompositeLit); ok {
				for _, e := range lit.Elts {
					if id, ok := e.(*ast.Ident); ok && !strings.Contains(id.Name, "_CBC_") {
						lists[v.Names[0].Name] = append(lists[v.Names[0].Name], id.Name)
					}
				}
			}
		}
		return true
	})
	goNames := map[uint16]string{
		uint16(tls.X25519MLKEM768): "X25519MLKEM768", uint16(tls.SecP256r1MLKEM768): "SecP256r1MLKEM768", uint16(tls.SecP384r1MLKEM1024): "SecP384r1MLKEM1024", uint16(tls.MLKEM1024): "MLKEM1024",
		uint16(tls.CurveP256): "CurveP256", uint16(tls.CurveP384): "CurveP384", uint16(tls.CurveP521): "CurveP521",
	}
	p := handshaketest.Named(t, "fips")
	for list, got := range map[string][]string{
		"allowedCurvePreferencesFIPS":    names(p.Groups, func(id uint16) string { return goNames[id] }),
		"allowedSignatureAlgorithmsFIPS": names(p.Signatures, func(id uint16) string { return tls.SignatureScheme(id).String() }),
		"allowedCipherSuitesFIPS":        names(p.Suites12, tls.CipherSuiteName),
		"allowedCipherSuitesTLS13FIPS":   names(p.Suites13, tls.CipherSuiteName),
	} {
		want := lists[list]
		slices.Sort(want)
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", list, d)
		}
	}
}

// names are numbers in words.
func names(ids []uint16, name func(uint16) string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = name(id)
	}
	return out
}
