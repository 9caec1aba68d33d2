package policy

import (
	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/policy/pattern"
)

// SPIFFEID returns the SPIFFE id of a certificate with these names, and whether
// it has one. An X.509 SVID has exactly one URI (X509-SVID, section 2): with more
// there is none.
func SPIFFEID(n *certname.AltNames) (string, bool) {
	if len(n.URI) != 1 || pattern.CheckSPIFFE(n.URI[0]) != nil {
		return "", false
	}
	return n.URI[0], true
}
