package handshake

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rsa"
	"crypto/tls"
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
	var with []x509.SignatureAlgorithm
	switch ca.PublicKey.(type) {
	case *rsa.PublicKey:
		with = []x509.SignatureAlgorithm{x509.SHA256WithRSA, x509.SHA384WithRSA, x509.SHA512WithRSA, x509.SHA256WithRSAPSS, x509.SHA384WithRSAPSS, x509.SHA512WithRSAPSS}
	case *ecdsa.PublicKey:
		with = []x509.SignatureAlgorithm{x509.ECDSAWithSHA256, x509.ECDSAWithSHA384, x509.ECDSAWithSHA512}
	case ed25519.PublicKey:
		with = []x509.SignatureAlgorithm{x509.PureEd25519}
	case *mldsa.PublicKey:
		with = []x509.SignatureAlgorithm{map[string]x509.SignatureAlgorithm{
			keykind.MLDSA44: x509.MLDSA44, keykind.MLDSA65: x509.MLDSA65, keykind.MLDSA87: x509.MLDSA87,
		}[keykind.Of(ca.PublicKey).Type]}
	}
	if p.Signatures == nil || slices.ContainsFunc(with, func(a x509.SignatureAlgorithm) bool {
		return slices.ContainsFunc(schemesOn(a), func(s tls.SignatureScheme) bool { return slices.Contains(p.Signatures, uint16(s)) })
	}) {
		return ""
	}
	return "it allows no signature with " + ca.PublicKeyAlgorithm.String() + " keys on certificates"
}
