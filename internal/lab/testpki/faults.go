package testpki

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/internal/reason"
)

// Fault is one way in which a certificate can be invalid.
type Fault struct {
	// Name in lower case with dashes: "wrong-eku".
	Name string
	// Reason a verifier must give for a client that shows it.
	Reason reason.Code
	// Make issues such a certificate. Everything else in it follows l.
	Make func(ca *CA, l Leaf) (*Cert, error)
}

// Faults lists every kind of invalid certificate that this package makes. The verifier must trust
// ca, which must be valid itself.
func Faults() []Fault {
	return []Fault{
		{"other-ca", reason.UnknownCA, (*CA).OfOtherCA},
		{"impostor-ca", reason.UnknownCA, (*CA).OfImpostor},
		{"self-signed", reason.UnknownCA, func(_ *CA, l Leaf) (*Cert, error) { return SelfSigned(l) }},
		{"missing-intermediate", reason.UnknownCA, (*CA).MissingIntermediate},
		{"expired", reason.Expired, (*CA).Expired},
		{"expired-intermediate", reason.Expired, (*CA).ExpiredIntermediate},
		{"not-yet-valid", reason.NotYetValid, (*CA).NotYetValid},
		{"wrong-eku", reason.WrongUsage, (*CA).WrongEKU},
		{"rsa-1024", reason.WeakKey, (*CA).RSA1024},
		{"rsa-1024-intermediate", reason.WeakKey, (*CA).RSA1024Intermediate},
		{"p224", reason.WeakKey, (*CA).P224},
		{"sha1", reason.WeakSignature, (*CA).SHA1},
		{"sha1-intermediate", reason.WeakSignature, (*CA).SHA1Intermediate},
		{"bad-signature", reason.BadCertificate, (*CA).BadSignature},
		{"path-length", reason.NotACA, (*CA).PathLength},
		{"issuer-not-ca", reason.NotACA, (*CA).IssuerNotCA},
		{"name-constraint", reason.NameConstraint, (*CA).NameConstraint},
		{"unknown-critical", reason.UnknownCritical, (*CA).UnknownCritical},
		{"long-chain", reason.ChainTooLong, func(ca *CA, l Leaf) (*Cert, error) { return ca.LongChain(l, 12) }},
	}
}

// OfOtherCA comes from a CA with another name and another key.
func (ca *CA) OfOtherCA(l Leaf) (*Cert, error) {
	other, err := NewCA(Options{CN: "Some Other CA"})
	if err != nil {
		return nil, err
	}
	return other.Issue(l)
}

// Impostor makes a root with the same subject as this CA and another key.
func (ca *CA) Impostor() (*CA, error) {
	return NewCA(Options{Mutate: func(t *x509.Certificate) { t.RawSubject = ca.Cert.RawSubject }})
}

// OfImpostor comes from a CA with the same name as ca and another key.
func (ca *CA) OfImpostor(l Leaf) (*Cert, error) {
	other, err := ca.Impostor()
	if err != nil {
		return nil, err
	}
	return other.Issue(l)
}

// SelfSigned is signed with its own key.
func SelfSigned(l Leaf) (*Cert, error) {
	key, err := NewKey(l.Key)
	if err != nil {
		return nil, err
	}
	t, err := l.template(key.Public())
	if err != nil {
		return nil, err
	}
	cert, err := sign(t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("self-sign: %w", err)
	}
	return &Cert{Cert: cert, Chain: []*x509.Certificate{cert}, Key: key}, nil
}

// MissingIntermediate comes from an intermediate that its holder does not send.
func (ca *CA) MissingIntermediate(l Leaf) (*Cert, error) {
	c, err := ca.under(Options{}, l)
	if err != nil {
		return nil, err
	}
	c.Chain = c.Chain[:1]
	return c, nil
}

// Expired ran out an hour ago.
func (ca *CA) Expired(l Leaf) (*Cert, error) {
	l.NotBefore, l.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
	return ca.Issue(l)
}

// ExpiredIntermediate is still valid itself, but comes from an intermediate that expired an hour
// ago.
func (ca *CA) ExpiredIntermediate(l Leaf) (*Cert, error) {
	return ca.under(Options{NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, l)
}

// NotYetValid begins in an hour.
func (ca *CA) NotYetValid(l Leaf) (*Cert, error) {
	l.NotBefore, l.NotAfter = time.Now().Add(time.Hour), time.Now().Add(48*time.Hour)
	return ca.Issue(l)
}

// WrongEKU is for servers only (serverAuth): wrong for a client.
func (ca *CA) WrongEKU(l Leaf) (*Cert, error) {
	l.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	return ca.Issue(l)
}

// ClientOnlyEKU is for clients only (clientAuth): wrong for a destination.
func (ca *CA) ClientOnlyEKU(l Leaf) (*Cert, error) {
	l.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return ca.Issue(l)
}

// RSA1024 has an RSA key of 1024 bits.
func (ca *CA) RSA1024(l Leaf) (*Cert, error) {
	l.Key = RSA1024
	return ca.Issue(l)
}

// RSA1024Intermediate comes from an intermediate with an RSA key of 1024 bits.
func (ca *CA) RSA1024Intermediate(l Leaf) (*Cert, error) {
	return ca.under(Options{Key: RSA1024}, l)
}

// P224 has an ECDSA key on P-224, which TLS 1.3 cannot use at all and
// crypto/tls does not sign with; for tests of chain verification.
func (ca *CA) P224(l Leaf) (*Cert, error) {
	l.Key = P224
	return ca.Issue(l)
}

// SHA1 is signed with SHA-1.
func (ca *CA) SHA1(l Leaf) (*Cert, error) {
	alg, err := ca.sha1()
	if err != nil {
		return nil, err
	}
	l.SignatureAlgorithm = alg
	return ca.Issue(l)
}

// SHA1Intermediate comes from an intermediate that is signed with SHA-1.
func (ca *CA) SHA1Intermediate(l Leaf) (*Cert, error) {
	alg, err := ca.sha1()
	if err != nil {
		return nil, err
	}
	return ca.under(Options{SignatureAlgorithm: alg}, l)
}

func (ca *CA) sha1() (x509.SignatureAlgorithm, error) {
	switch ca.Cert.PublicKeyAlgorithm {
	case x509.RSA:
		return x509.SHA1WithRSA, nil
	case x509.ECDSA:
		return x509.ECDSAWithSHA1, nil
	default:
		return 0, fmt.Errorf("a CA with an %s key cannot sign with SHA-1", ca.Cert.PublicKeyAlgorithm)
	}
}

// BadSignature decodes, but the issuer's signature over it is wrong: one bit
// of the signature is flipped.
func (ca *CA) BadSignature(l Leaf) (*Cert, error) {
	c, err := ca.Issue(l)
	if err != nil {
		return nil, err
	}
	raw := append([]byte(nil), c.Cert.Raw...)
	raw[len(raw)-1] ^= 1 // the signature is the last element of a Certificate (RFC 5280, section 4.1)
	bad, err := x509.ParseCertificate(raw)
	if err != nil {
		return nil, err
	}
	return &Cert{Cert: bad, Chain: prepend(bad, ca.Chain), Key: c.Key}, nil
}

// PathLength has two intermediates above it, and the upper one allows none
// below itself (pathLenConstraint 0; RFC 5280, section 4.2.1.9).
func (ca *CA) PathLength(l Leaf) (*Cert, error) {
	upper, err := ca.Intermediate(Options{CN: "Test Intermediate pathlen 0", Mutate: func(t *x509.Certificate) {
		t.MaxPathLen, t.MaxPathLenZero = 0, true
	}})
	if err != nil {
		return nil, err
	}
	return upper.under(Options{CN: "Test Intermediate too deep"}, l)
}

// IssuerNotCA is signed with the key of an end-entity certificate (no
// CA:TRUE), which it sends as its intermediate.
func (ca *CA) IssuerNotCA(l Leaf) (*Cert, error) {
	return ca.under(Options{CN: "not a CA", Mutate: func(t *x509.Certificate) {
		t.IsCA, t.KeyUsage = false, x509.KeyUsageDigitalSignature
	}}, l)
}

// NameConstraint has the DNS name outside.example.org on top of its own, and
// comes from an intermediate that may only speak for .inside.example.org
// (RFC 5280, section 4.2.1.10).
func (ca *CA) NameConstraint(l Leaf) (*Cert, error) {
	l.DNS = append(append([]string(nil), l.DNS...), "outside.example.org")
	return ca.under(Options{CN: "Test Intermediate constrained", Mutate: func(t *x509.Certificate) {
		t.PermittedDNSDomainsCritical, t.PermittedDNSDomains = true, []string{"inside.example.org"}
	}}, l)
}

// UnknownCritical has a critical extension that no verifier knows, under the private enterprise
// number that RFC 5612 reserves for examples.
func (ca *CA) UnknownCritical(l Leaf) (*Cert, error) {
	mutate := l.Mutate
	l.Mutate = func(t *x509.Certificate) {
		t.ExtraExtensions = append(t.ExtraExtensions, pkix.Extension{
			Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 1}, Critical: true, Value: []byte{0x05, 0x00},
		})
		if mutate != nil {
			mutate(t)
		}
	}
	return ca.Issue(l)
}

// LongChain has n intermediates between itself and this CA, each sound: its
// holder sends n+1 certificates.
func (ca *CA) LongChain(l Leaf, n int) (*Cert, error) {
	var err error
	for i := range n {
		if ca, err = ca.Intermediate(Options{CN: fmt.Sprintf("Test Intermediate %d of %d", i+1, n)}); err != nil {
			return nil, err
		}
	}
	return ca.Issue(l)
}

// under issues from a fresh intermediate.
func (ca *CA) under(o Options, l Leaf) (*Cert, error) {
	inter, err := ca.Intermediate(o)
	if err != nil {
		return nil, err
	}
	return inter.Issue(l)
}
