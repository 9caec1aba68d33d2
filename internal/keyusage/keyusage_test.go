package keyusage

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestAllows(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*x509.Certificate)
		signs  bool
	}{
		"no extension":      {func(c *x509.Certificate) { c.KeyUsage = 0 }, true},
		"digitalSignature":  {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, true},
		"one of several":    {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign }, true},
		"keyAgreement":      {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }, false},
		"contentCommitment": {func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageContentCommitment }, false},
		"no bit set": {func(c *x509.Certificate) {
			c.KeyUsage, c.ExtraExtensions = 0, []pkix.Extension{{Id: oid, Critical: true, Value: []byte{3, 1, 0}}}
		}, false},
	} {
		ca := testpki.Must(testpki.NewCA(testpki.Options{}))
		leaf := testpki.Must(ca.Issue(testpki.Leaf{Mutate: c.change}))
		if got := Allows(leaf.Cert, x509.KeyUsageDigitalSignature); got != c.signs {
			t.Errorf("%s: %v", name, got)
		}
	}
}
