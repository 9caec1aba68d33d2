package handshake

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/internal/reason"
)

// maxLinkChecks bounds the signatures that one diagnosis checks: a chain of 10
// with every certificate signed by every other would otherwise cost thousands.
const maxLinkChecks = 32

// path looks for the path from the leaf to the authority's roots that the
// names describe, and says which link breaks it; nil if none does. crypto/x509
// calls every broken link "unknown authority", and an expired leaf expired
// before it has looked for an authority at all, so the question is asked here
// again, by name. It only words a refusal that is already certain.
func (v *verifier) path(a *Authority) *fault {
	w := &walk{v: v, roots: a.Roots, budget: maxLinkChecks}
	ok := false
	for _, r := range a.Roots {
		ok = ok || r.Equal(v.shown[0]) // the leaf is itself a trust anchor
	}
	if ok || w.up([]*x509.Certificate{v.shown[0]}) {
		return nil
	}
	if w.broken != nil {
		return w.broken
	}
	last := v.shown[0]
	if w.end != nil {
		last = w.end
	}
	return &fault{
		code:   reason.UnknownCA,
		detail: fmt.Sprintf("the chain ends at issuer %q, which is not a CA of authority %q", cut(last.Issuer.String(), maxNameLength), a.Name),
	}
}

// walk is a bounded search upwards.
type walk struct {
	v      *verifier
	roots  []*x509.Certificate
	budget int
	broken *fault            // the first broken link on a path whose names lead to a root
	end    *x509.Certificate // where the longest path without a root ended
	depth  int
}

// up says whether a path whose links all hold leads from the last of chain to
// a root.
func (w *walk) up(chain []*x509.Certificate) bool {
	c := chain[len(chain)-1]
	found := false
	for i, candidates := range [][]*x509.Certificate{w.roots, w.v.shown[1:]} {
		isRoot := i == 0
		for _, parent := range candidates {
			if !bytes.Equal(c.RawIssuer, parent.RawSubject) || contains(chain, parent) {
				continue
			}
			if w.budget--; w.budget < 0 {
				return false
			}
			found = true
			if f := w.v.link(c, parent); f != nil {
				// A broken link counts only where its names lead to the
				// authority; else the chain leads nowhere, whatever is in it.
				if w.broken == nil && (isRoot || w.leads(append(chain[:len(chain):len(chain)], parent))) {
					w.broken = f
				}
				continue
			}
			if isRoot || w.up(append(chain[:len(chain):len(chain)], parent)) {
				return true
			}
		}
	}
	if !found && len(chain) > w.depth {
		w.depth, w.end = len(chain), c
	}
	return false
}

// leads says whether names alone lead from the last of chain to a root.
func (w *walk) leads(chain []*x509.Certificate) bool {
	c := chain[len(chain)-1]
	for _, r := range w.roots {
		if bytes.Equal(c.RawIssuer, r.RawSubject) {
			return true
		}
	}
	for _, parent := range w.v.shown[1:] {
		if w.budget--; w.budget < 0 {
			return false
		}
		if bytes.Equal(c.RawIssuer, parent.RawSubject) && !contains(chain, parent) &&
			w.leads(append(chain[:len(chain):len(chain)], parent)) {
			return true
		}
	}
	return false
}

func contains(chain []*x509.Certificate, c *x509.Certificate) bool {
	for _, x := range chain {
		if x.Equal(c) {
			return true
		}
	}
	return false
}

// link says what is wrong between a certificate and the one that issued it.
func (v *verifier) link(c, parent *x509.Certificate) *fault {
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
	if parent.KeyUsage != 0 && parent.KeyUsage&x509.KeyUsageCertSign == 0 {
		return &fault{code: reason.NotACA, detail: v.about(parent) + ": key usage lacks keyCertSign"}
	}
	if err := c.CheckSignatureFrom(parent); err != nil {
		// Without matching key identifiers (RFC 5280, section 4.2.1.1) this is
		// another CA that bears the same name.
		if len(c.AuthorityKeyId) > 0 && bytes.Equal(c.AuthorityKeyId, parent.SubjectKeyId) {
			return &fault{code: reason.BadCertificate, detail: v.about(c) + ": its signature is wrong", err: err}
		}
		return &fault{code: reason.UnknownCA, named: true, detail: v.about(c) + ": issued by another CA of the same name as the authority's", err: err}
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
	if bits < least {
		return &fault{code: reason.WeakKey, detail: fmt.Sprintf("%s: %s key of %d bits, at least %d are demanded", v.about(c), kind, bits, least)}
	}
	return nil
}
