package handshake

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/internal/keyusage"
	"github.com/sslgate/sslgate/internal/reason"
)

// fits says what is wrong between a certificate and the one that issued it, its
// signature not looked at.
func (v *verifier) fits(c, parent *x509.Certificate) *fault {
	if v.weak(c) {
		return &fault{code: reason.WeakSignature, detail: v.about(c) + ": " + c.SignatureAlgorithm.String()}
	}
	if f := v.key(parent); f != nil {
		return f
	}
	// RFC 5280, sections 4.2.1.9 and 4.2.1.3: an issuer is a CA and may sign.
	if parent.Version >= 3 && (!parent.BasicConstraintsValid || !parent.IsCA) {
		return &fault{code: reason.NotACA, detail: v.about(parent) + ": basic constraints do not say CA"}
	}
	if !keyusage.Allows(parent, x509.KeyUsageCertSign) {
		return &fault{code: reason.NotACA, detail: v.about(parent) + ": key usage lacks keyCertSign"}
	}
	return nil
}

// strength demands key sizes of every certificate in a verified chain and a
// sound signature on each but the trust anchor, whose signature proves nothing.
func (v *verifier) strength(chain []*x509.Certificate) *fault {
	for i, c := range chain {
		if f := v.key(c); f != nil {
			return f
		}
		if i < len(chain)-1 && v.weak(c) {
			return &fault{code: reason.WeakSignature, detail: v.about(c) + ": " + c.SignatureAlgorithm.String()}
		}
	}
	return nil
}

// weak says whether the signature on a certificate is not accepted.
func (v *verifier) weak(c *x509.Certificate) bool {
	return weakSignature(c) || v.signatures != nil && !slices.ContainsFunc(schemesOn(c.SignatureAlgorithm), func(s tls.SignatureScheme) bool {
		return slices.Contains(v.signatures, uint16(s))
	})
}

// schemesOn lists the signature schemes that stand for an algorithm of X.509
// (RFC 8446, section 4.2.3). Of ECDSA the hash alone counts: which curve goes
// with it is the key's part.
func schemesOn(a x509.SignatureAlgorithm) []tls.SignatureScheme {
	switch a {
	case x509.SHA256WithRSA:
		return []tls.SignatureScheme{tls.PKCS1WithSHA256}
	case x509.SHA384WithRSA:
		return []tls.SignatureScheme{tls.PKCS1WithSHA384}
	case x509.SHA512WithRSA:
		return []tls.SignatureScheme{tls.PKCS1WithSHA512}
	case x509.SHA256WithRSAPSS:
		return []tls.SignatureScheme{tls.PSSWithSHA256}
	case x509.SHA384WithRSAPSS:
		return []tls.SignatureScheme{tls.PSSWithSHA384}
	case x509.SHA512WithRSAPSS:
		return []tls.SignatureScheme{tls.PSSWithSHA512}
	case x509.ECDSAWithSHA256:
		return []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	case x509.ECDSAWithSHA384:
		return []tls.SignatureScheme{tls.ECDSAWithP384AndSHA384}
	case x509.ECDSAWithSHA512:
		return []tls.SignatureScheme{tls.ECDSAWithP521AndSHA512}
	case x509.PureEd25519:
		return []tls.SignatureScheme{tls.Ed25519}
	}
	return nil
}

// weakSignature says whether a signature rests on a broken hash (RFC 8446,
// section 4.4.2.4; RFC 9155).
func weakSignature(c *x509.Certificate) bool {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return true
	}
	return false
}

// key judges kind and size of a certificate's key.
func (v *verifier) key(c *x509.Certificate) *fault {
	kind, bits, least := "", 0, v.minEC
	switch k := c.PublicKey.(type) {
	case *rsa.PublicKey:
		kind, bits, least = "RSA", k.N.BitLen(), v.minRSA
	case *ecdsa.PublicKey:
		kind, bits = "EC", k.Params().BitSize
		if v.curves != nil && !slices.Contains(v.curves, curveOf(k)) {
			return &fault{code: reason.WeakKey, detail: fmt.Sprintf("%s: EC key on %s, which the profile does not allow", v.about(c), k.Params().Name)}
		}
	case ed25519.PublicKey:
		kind, bits = "Ed25519", 256 // the strength of a 256-bit curve (RFC 8032, section 8.5)
	default:
		return &fault{code: reason.WeakKey, detail: v.about(c) + ": " + c.PublicKeyAlgorithm.String() + " keys are not accepted"}
	}
	if kind == "RSA" && bits > maxRSABits {
		return &fault{code: reason.WeakKey, detail: fmt.Sprintf("%s: RSA key of %d bits, at most %d are accepted", v.about(c), bits, maxRSABits)}
	}
	if bits < least {
		return &fault{code: reason.WeakKey, detail: fmt.Sprintf("%s: %s key of %d bits, at least %d are demanded", v.about(c), kind, bits, least)}
	}
	return nil
}
