package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// What one of our certificates signs with is what its key can, the profile allows and the
// certificate's own list has.
func TestSignsWith(t *testing.T) {
	key := testpki.Must(testpki.NewKey(testpki.RSA2048))
	of := func(list ...tls.SignatureScheme) *tls.Certificate {
		return &tls.Certificate{Leaf: &x509.Certificate{PublicKey: key.Public()}, SupportedSignatureAlgorithms: list}
	}
	pss := []tls.SignatureScheme{tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512}
	for name, c := range map[string]struct {
		cert    *tls.Certificate
		profile Profile
		want    []tls.SignatureScheme
	}{
		"whatever the key can":     {of(), Profile{}, pss},
		"of the profile":           {of(), Profile{Signatures: []uint16{0x0805, 0x0403}}, pss[1:2]},
		"of the certificate":       {of(tls.PSSWithSHA512, tls.PKCS1WithSHA1), Profile{}, pss[2:]},
		"of both":                  {of(tls.PSSWithSHA512, tls.PSSWithSHA256), Profile{Signatures: []uint16{0x0804, 0x0805}}, pss[:1]},
		"of both, nothing":         {of(tls.PSSWithSHA512), Profile{Signatures: []uint16{0x0804}}, []tls.SignatureScheme{}},
		"a key that is not known":  {&tls.Certificate{Leaf: &x509.Certificate{}}, Profile{Signatures: []uint16{0x0804}}, nil},
		"a list for TLS 1.2 alone": {of(tls.PKCS1WithSHA256), Profile{}, []tls.SignatureScheme{}},
	} {
		got := c.profile.SignsWith(tls.VersionTLS13, c.cert)
		if !slices.Equal(got, c.want) || (got == nil) != (c.want == nil) {
			t.Errorf("%s: %v, not %v", name, got, c.want)
		}
	}
	if len(SchemesOf(tls.VersionTLS13, key.Public())) != len(pss) {
		t.Error("the key's own list has changed")
	}
	small := testpki.Must(testpki.NewKey(testpki.RSA1024)).Public()
	if got := SchemesOf(tls.VersionTLS13, small); !slices.Equal(got, pss[:2]) {
		t.Errorf("1024 bits, in which SHA-512 has no room: %v", got)
	}
}
