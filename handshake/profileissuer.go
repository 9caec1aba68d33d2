package handshake

import (
	"crypto/x509"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/keykind"
)

// RefusesIssuer says why no certificate that the CA has signed can be accepted of a
// peer under the profile: its key is too weak, or no scheme for it is allowed on
// certificates (RFC 8446, section 4.2.3). "" if some can.
func (p Profile) RefusesIssuer(ca *x509.Certificate) string {
	v := verifier{shown: []*x509.Certificate{ca}, minRSA: p.MinRSABits, minEC: p.MinECBits, signatures: p.Signatures, curves: p.Curves}
	if f := v.key(ca); f != nil {
		return strings.TrimPrefix(f.detail, v.about(ca)+": ")
	}
	key := keykind.Of(ca.PublicKey).Type
	if p.Signatures == nil {
		return ""
	}
	for _, c := range onCertificates {
		if c.key == key && slices.Contains(p.Signatures, uint16(c.scheme)) {
			return ""
		}
	}
	return "it allows no signature with " + ca.PublicKeyAlgorithm.String() + " keys on certificates"
}
