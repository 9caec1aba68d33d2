// Package keyusage reads the key usage and extended key usage extensions of certificates
// (RFC 5280, sections 4.2.1.3 and 4.2.1.12) in one way for all packages.
package keyusage

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

var oid = asn1.ObjectIdentifier{2, 5, 29, 15}

// Allows says whether the certificate's key may be used for one of the given purposes.
// Without the extension it may be used for all. An extension with no bit set allows
// nothing; crypto/x509 does not tell that from no extension.
func Allows(c *x509.Certificate, oneOf x509.KeyUsage) bool {
	if c.KeyUsage != 0 {
		return c.KeyUsage&oneOf != 0
	}
	for _, ext := range c.Extensions {
		if ext.Id.Equal(oid) {
			return false
		}
	}
	return true
}

// Serves says whether a certificate's extended key usage allows a purpose: it names it,
// or anyExtendedKeyUsage, or the certificate does not have the extension (RFC 5280,
// section 4.2.1.12).
func Serves(c *x509.Certificate, purpose x509.ExtKeyUsage) bool {
	return len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 ||
		slices.Contains(c.ExtKeyUsage, purpose) || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}
