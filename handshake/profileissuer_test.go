package handshake

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// What the profile says of a CA's key is what becomes of a certificate below it.
func TestRefusesIssuer(t *testing.T) {
	ec := testpki.Must(testpki.NewCA(testpki.Options{CN: "EC", Key: testpki.P256})).Cert
	rsa := testpki.Must(testpki.NewCA(testpki.Options{CN: "RSA", Key: testpki.RSA2048})).Cert
	ed := testpki.Must(testpki.NewCA(testpki.Options{CN: "Ed", Key: testpki.Ed25519})).Cert
	schemes := func(all ...tls.SignatureScheme) (ids []uint16) {
		for _, s := range all {
			ids = append(ids, uint16(s))
		}
		return ids
	}
	for _, tc := range []struct {
		name        string
		p           Profile
		ec, rsa, ed string
	}{
		{"anything", Profile{MinRSABits: 2048, MinECBits: 256}, "", "", ""},
		{"large RSA", Profile{MinRSABits: 3072, MinECBits: 256}, "", "at least 3072", ""},
		{"large EC", Profile{MinRSABits: 2048, MinECBits: 384}, "at least 384", "", "at least 384"},
		{"ECDSA alone", Profile{Signatures: schemes(tls.ECDSAWithP256AndSHA256)}, "", "no signature with RSA", "no signature with Ed25519"},
		{"PSS alone", Profile{Signatures: schemes(tls.PSSWithSHA256)}, "no signature with ECDSA", "", "no signature with Ed25519"},
		{"P-384 alone", Profile{Curves: []uint16{uint16(tls.CurveP384)}}, "P-256, which the profile does not allow", "", ""},
	} {
		for _, got := range []struct{ ca, said, want string }{
			{"EC", tc.p.RefusesIssuer(ec), tc.ec}, {"RSA", tc.p.RefusesIssuer(rsa), tc.rsa}, {"Ed25519", tc.p.RefusesIssuer(ed), tc.ed},
		} {
			if (got.said == "") != (got.want == "") || !strings.Contains(got.said, got.want) {
				t.Errorf("%s, %s: %q, want %q", tc.name, got.ca, got.said, got.want)
			}
		}
	}
}
