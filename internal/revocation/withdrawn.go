package revocation

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/sslgate/sslgate/internal/certread"
)

// Withdrawn says whether an OCSP answer, of the responder or a staple, has called one of the
// certificates revoked that a client showed earlier, in DER, leaf first. It asks nobody and
// looks at the answers of these authorities. It is for tickets: one of a certificate that was
// revoked since is not to be taken, so that its client can show another certificate. Lists
// are not looked at, because a ticket is bound to their digest. What is denied (Deny) is.
//
// False says nothing: Check decides.
func (c *Checker) Withdrawn(authorities []string, shown [][]byte) bool {
	if c.deniedBefore(shown) {
		return true
	}
	s := c.data.Load()
	var chain []*x509.Certificate
	for _, name := range authorities {
		v := s.authorities[name]
		if v == nil || v.Mode == Off || v.taken.empty() {
			continue
		}
		if chain == nil {
			for _, der := range shown {
				cert, err := certread.Certificate(der)
				if err != nil {
					return false
				}
				chain = append(chain, cert)
			}
		}
		issuers := slices.Concat(chain, v.cas())
		for _, cert := range chain {
			n, ok := serialOf(cert)
			if ok && slices.ContainsFunc(issuers, func(ca *x509.Certificate) bool {
				return bytes.Equal(ca.RawSubject, cert.RawIssuer) && v.taken.has(n, ca)
			}) {
				return true
			}
		}
	}
	return false
}
