// Package keyusage reads the key usage extension of certificates (RFC 5280, section
// 4.2.1.3) in one way for all packages.
package keyusage

import (
	"crypto/x509"
	"encoding/asn1"
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
