package revocation

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1" // for names only, see ocspanswer.go
	"crypto/x509"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/keyusage"
	"github.com/sslgate/sslgate/internal/times"
)

// question asks about one certificate.
type question struct {
	number serial
	issuer *x509.Certificate
	// nonce is the nonce that was sent, nil if none was. demanded: an answer without the
	// nonce is refused.
	nonce    []byte
	demanded bool
	// revoked says whether the issuer's lists have a certificate, because a delegate of
	// the issuer may be revoked too.
	revoked func(*x509.Certificate) bool
}

// judge verifies an answer for one certificate (RFC 6960, section 3.2) and returns its
// status and until when it holds. An error wraps ErrOCSP.
//
// A signed revocation counts whatever the age and nonce of the answer. Both only prevent
// that an old "good" is replayed, and a revocation is final.
func (a *answer) judge(q question, now time.Time) (st Status, until time.Time, err error) {
	if err := a.signed(q, now); err != nil {
		return Unknown, time.Time{}, err
	}
	if a.unknownExtension != "" {
		return Unknown, time.Time{}, useless("critical extension %s", a.unknownExtension)
	}
	for i := range a.singles {
		if s := &a.singles[i]; s.status == Revoked && s.about(q) {
			if st, until, err = s.at(now); err == nil {
				return st, until, nil
			}
		}
	}
	switch {
	case q.nonce != nil && a.hasNonce && !bytes.Equal(a.nonce, q.nonce):
		return Unknown, time.Time{}, useless("its nonce is not the one that was sent")
	case q.demanded && !a.hasNonce:
		return Unknown, time.Time{}, useless("it has no nonce, and ocsp.nonce demands one")
	case a.produced.After(now.Add(skew)):
		return Unknown, time.Time{}, useless("produced in the future, at %s", times.RFC3339(a.produced))
	}
	err = useless("it is not about this certificate")
	for i := range a.singles {
		s := &a.singles[i]
		if !s.about(q) {
			continue
		}
		if st, until, err = s.at(now); err == nil {
			return st, until, nil
		}
	}
	return Unknown, time.Time{}, err
}

// about says whether the single answer is for the certificate, compared by issuer name,
// issuer key and serial number (RFC 6960, section 4.1.1).
func (s *single) about(q question) bool {
	number, ok := newSerial(s.number)
	if !ok || number != q.number || s.hash == 0 {
		return false
	}
	h := s.hash.New()
	h.Write(q.issuer.RawSubject)
	if !bytes.Equal(h.Sum(nil), s.nameHash) {
		return false
	}
	key, ok := publicKeyBits(q.issuer.RawSubjectPublicKeyInfo)
	if !ok {
		return false
	}
	h.Reset()
	h.Write(key)
	return bytes.Equal(h.Sum(nil), s.keyHash)
}

// at returns the status of the single answer now. A revocation counts however old the
// answer is, because it is final.
func (s *single) at(now time.Time) (Status, time.Time, error) {
	until := s.next
	if !s.hasNext {
		until = s.this.Add(withoutNext)
	}
	switch {
	case s.unknownExtension != "":
		return Unknown, time.Time{}, useless("critical extension %s", s.unknownExtension)
	case s.status == Revoked:
		return Revoked, until, nil
	case s.this.After(now.Add(skew)):
		return Unknown, time.Time{}, useless("not valid before %s", times.RFC3339(s.this))
	case !now.Before(until):
		return Unknown, time.Time{}, useless("stale since %s", times.RFC3339(until))
	case s.status == Good:
		return Good, until, nil
	}
	return Unknown, time.Time{}, useless("the responder does not know the certificate")
}

// publicKeyBits are the bits of subjectPublicKey, over which key hashes are made.
func publicKeyBits(spki []byte) ([]byte, bool) {
	in := cryptobyte.String(spki)
	var seq, bits cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.SkipASN1(cbasn1.SEQUENCE) || !seq.ReadASN1(&bits, cbasn1.BIT_STRING) || len(bits) < 1 {
		return nil, false
	}
	return bits[1:], true
}

// isResponder says whether the answer names c as its responder.
func (a *answer) isResponder(c *x509.Certificate) bool {
	if a.name != nil {
		return bytes.Equal(a.name, c.RawSubject)
	}
	key, ok := publicKeyBits(c.RawSubjectPublicKeyInfo)
	sum := sha1.Sum(key)
	return ok && bytes.Equal(sum[:], a.keyHash)
}

// signed verifies that the answer is signed by the issuer of the certificate, or by a
// delegate that the issuer has certified directly for this (RFC 6960, section 4.2.2.2). It
// checks at most 2*maxCerts+1 signatures.
func (a *answer) signed(q question, now time.Time) error {
	if a.algorithm == x509.UnknownSignatureAlgorithm {
		return useless("signed with an algorithm that is weak or not known")
	}
	if a.isResponder(q.issuer) && q.issuer.CheckSignature(a.algorithm, a.tbs, a.signature) == nil {
		return nil
	}
	err := useless("signed neither by the issuer of the certificate nor by a delegate of it")
	for i, c := range a.certs {
		if slices.ContainsFunc(a.certs[:i], c.Equal) { // each once: it takes two signature checks
			continue
		}
		if !a.isResponder(c) || !bytes.Equal(c.RawIssuer, q.issuer.RawSubject) {
			continue
		}
		if why := delegateFault(c, q.issuer, now); why != "" {
			err = useless("its signer %s %s", certname.Quoted(c), why)
			continue
		}
		// Checked even with id-pkix-ocsp-nocheck, because the list is at hand.
		if q.revoked != nil && q.revoked(c) {
			err = useless("its signer %s is revoked", certname.Quoted(c))
			continue
		}
		if c.CheckSignature(a.algorithm, a.tbs, a.signature) == nil {
			return nil
		}
		err = useless("its signature is wrong")
	}
	return err
}

// delegateFault says why a certificate does not belong to a delegated responder; "" if it
// does.
func delegateFault(c, issuer *x509.Certificate, now time.Time) string {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1, x509.DSAWithSHA1:
		return "has a certificate with a weak signature"
	}
	key, isRSA := c.PublicKey.(*rsa.PublicKey)
	switch {
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return "is not certified for signing answers (extended key usage OCSPSigning)"
	case now.Before(c.NotBefore) || now.After(c.NotAfter):
		return "has a certificate that is not valid now"
	case len(c.UnhandledCriticalExtensions) > 0:
		return "has a certificate with a critical extension that is not understood"
	case isRSA && key.N.BitLen() < 2048:
		return "has an RSA key below 2048 bits"
	case isRSA && key.N.BitLen() > 8192: // as in crypto/tls
		return "has an RSA key above 8192 bits"
	case !keyusage.Allows(c, x509.KeyUsageDigitalSignature):
		return "may not sign (key usage)"
	case c.CheckSignatureFrom(issuer) != nil:
		return "has a certificate that the issuer did not sign"
	}
	return ""
}
