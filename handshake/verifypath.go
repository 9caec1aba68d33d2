package handshake

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/internal/keykind"
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
	return weakSignature(c) || v.signatures != nil && !allowedOn(c.SignatureAlgorithm, v.signatures)
}

// onCertificates are the signature schemes that stand for an algorithm of X.509 (RFC 8446,
// section 4.2.3), each with the type of the key that signs with it. Of ECDSA the hash alone
// counts: which curve goes with it is the key's part. It never changes.
var onCertificates = [...]struct {
	algorithm x509.SignatureAlgorithm
	scheme    tls.SignatureScheme
	key       string // a type of keykind
}{
	{x509.SHA256WithRSA, tls.PKCS1WithSHA256, keykind.RSA},
	{x509.SHA384WithRSA, tls.PKCS1WithSHA384, keykind.RSA},
	{x509.SHA512WithRSA, tls.PKCS1WithSHA512, keykind.RSA},
	{x509.SHA256WithRSAPSS, tls.PSSWithSHA256, keykind.RSA},
	{x509.SHA384WithRSAPSS, tls.PSSWithSHA384, keykind.RSA},
	{x509.SHA512WithRSAPSS, tls.PSSWithSHA512, keykind.RSA},
	{x509.ECDSAWithSHA256, tls.ECDSAWithP256AndSHA256, keykind.ECDSA},
	{x509.ECDSAWithSHA384, tls.ECDSAWithP384AndSHA384, keykind.ECDSA},
	{x509.ECDSAWithSHA512, tls.ECDSAWithP521AndSHA512, keykind.ECDSA},
	{x509.PureEd25519, tls.Ed25519, keykind.Ed25519},
	{x509.MLDSA44, tls.MLDSA44, keykind.MLDSA44},
	{x509.MLDSA65, tls.MLDSA65, keykind.MLDSA65},
	{x509.MLDSA87, tls.MLDSA87, keykind.MLDSA87},
}

// allowedOn says whether one of the schemes stands for the algorithm.
func allowedOn(a x509.SignatureAlgorithm, schemes []uint16) bool {
	for _, c := range onCertificates {
		if c.algorithm == a && slices.Contains(schemes, uint16(c.scheme)) {
			return true
		}
	}
	return false
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
	kind := keykind.Of(c.PublicKey)
	least := v.minEC
	switch kind.Type {
	case "":
		return &fault{code: reason.WeakKey, detail: v.about(c) + ": " + c.PublicKeyAlgorithm.String() + " keys are not accepted"}
	case keykind.RSA:
		least = v.minRSA
	case keykind.ECDSA:
		k := c.PublicKey.(*ecdsa.PublicKey)
		if v.curves != nil && !slices.Contains(v.curves, CurveOf(k)) {
			return &fault{code: reason.WeakKey, detail: fmt.Sprintf("%s: EC key on %s, which the profile does not allow", v.about(c), k.Params().Name)}
		}
	}
	if kind.Type == keykind.RSA && kind.Bits > keykind.MaxRSABits {
		return &fault{code: reason.WeakKey, detail: fmt.Sprintf("%s: RSA key of %d bits, at most %d are accepted", v.about(c), kind.Bits, keykind.MaxRSABits)}
	}
	if kind.Bits < least {
		family := map[string]string{keykind.RSA: "RSA", keykind.ECDSA: "EC", keykind.Ed25519: "Ed25519"} // ML-DSA keys are larger
		return &fault{code: reason.WeakKey, detail: fmt.Sprintf("%s: %s key of %d bits, at least %d are demanded", v.about(c), family[kind.Type], kind.Bits, least)}
	}
	return nil
}

// candidate is who may have issued a certificate; the least comes first.
type candidate struct {
	cert  *x509.Certificate
	keyID int // how the key identifiers agree
	unfit int // 1: it cannot be in a path that is accepted
	steps int // to a root; -1 for one
}

func (a candidate) compare(b candidate) int {
	return cmp.Or(cmp.Compare(a.keyID, b.keyID), cmp.Compare(a.unfit, b.unfit), cmp.Compare(a.steps, b.steps))
}

// issuers lists who may have issued c and leads to a root, the best first. Of a CA
// of the configuration those are known. What was shown and is one of these counts
// as that: its signature needs no check.
func (w *walk) issuers(c *x509.Certificate) []candidate {
	all := w.configured(c)
	if _, known := w.a.known.up[c]; known {
		return all
	}
	for _, p := range w.s.nodes[1:] {
		if steps, ok := w.far[p]; ok && w.may(c, p) && !w.a.trusts(p) && !w.a.completes(p) {
			one := w.candidate(c, p, steps)
			at, _ := slices.BinarySearchFunc(all, one, func(have, one candidate) int { return cmp.Or(have.compare(one), -1) }) // behind its equals
			all = slices.Insert(slices.Clip(all), at, one)
		}
	}
	return all
}

// configured are the issuers of c in the configuration.
func (w *walk) configured(c *x509.Certificate) []candidate {
	all, done := w.named[c]
	if done {
		return all
	}
	from, known := w.a.known.up[c]
	if !known {
		from = slices.Concat(w.a.byName[string(c.RawIssuer)], w.a.known.byName[string(c.RawIssuer)])
	}
	for _, p := range from {
		if steps, below := w.a.known.far[p]; below {
			all = append(all, w.candidate(c, p, steps))
		} else {
			all = append(all, w.candidate(c, p, -1))
		}
	}
	slices.SortStableFunc(all, candidate.compare)
	if w.named == nil {
		w.named = map[*x509.Certificate][]candidate{}
	}
	w.named[c] = all
	return all
}

func (w *walk) candidate(c, p *x509.Certificate, steps int) candidate {
	one := candidate{cert: p, keyID: keyIDs(c, p), steps: steps}
	if w.s.v.unfit(p) {
		one.unfit = 1
	}
	return one
}

// unfit says whether a certificate makes every path with it a refused one: now is
// not in its time, or its extended key usage does not have the one asked for.
func (v *verifier) unfit(c *x509.Certificate) bool {
	return v.now.Before(c.NotBefore) || v.now.After(c.NotAfter) || !keyusage.Serves(c, v.usage)
}

// keyIDs says how the key identifiers of a certificate and of its issuer agree
// (RFC 5280, section 4.2.1.1): 0 they do, 1 one of them is absent, 2 they differ.
func keyIDs(c, p *x509.Certificate) int {
	switch {
	case bytes.Equal(c.AuthorityKeyId, p.SubjectKeyId):
		return 0
	case len(c.AuthorityKeyId) == 0 || len(p.SubjectKeyId) == 0:
		return 1
	}
	return 2
}
