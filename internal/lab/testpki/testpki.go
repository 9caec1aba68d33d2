// Package testpki makes throw-away certificate authorities and certificates, valid ones and ones
// with exactly one fault, for tests and for the demo. Nothing of it belongs in a real PKI.
//
// A sound pair is two lines:
//
//	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
//	client := testpki.Must(ca.Issue(testpki.Leaf{URIs: []string{"spiffe://corp/pay"}}))
//
// and every unsound one has its constructor in faults.go: ca.Expired(leaf),
// ca.WrongEKU(leaf), ...; Faults lists them all with the reason each must be
// refused for.
package testpki

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"time"
)

// Options of a CA. The zero value is a root named "Test CA" with an ECDSA
// P-256 key, valid from ten days ago for ten days.
type Options struct {
	CN  string // default "Test CA", of an intermediate "Test Intermediate"
	Org string // default "sslgate test"
	Key KeyKind

	// NotBefore and NotAfter are by default ten days ago and in ten days, so that the CA of an
	// expired leaf is still valid.
	NotBefore, NotAfter time.Time

	// SignatureAlgorithm that the issuer signs this CA's certificate with;
	// zero is the usual one of its key.
	SignatureAlgorithm x509.SignatureAlgorithm
	// Mutate is called last on the template, before it is signed.
	Mutate func(*x509.Certificate)
}

// CA is a certificate authority, a root or an intermediate.
type CA struct {
	Cert *x509.Certificate
	Key  crypto.Signer
	// Chain is what a holder of a certificate of this CA must send after the
	// certificate: this CA and those above it without the root. Empty for a root.
	Chain []*x509.Certificate
	// Root is the trust anchor; Cert itself for a root.
	Root *x509.Certificate
}

// Leaf describes an end-entity certificate. The zero value is good for client
// and server authentication, without any name but the CN "test leaf".
type Leaf struct {
	CN    string // default "test leaf"; "-" leaves the subject without CN
	O, OU []string

	DNS    []string
	IPs    []string // address literals
	URIs   []string // for example spiffe://corp/pay
	Emails []string

	Key                 KeyKind
	NotBefore, NotAfter time.Time // default an hour ago, in a day
	// EKU is the extended key usage; nil is clientAuth and serverAuth. For a
	// certificate without the extension set Mutate.
	EKU []x509.ExtKeyUsage
	// SignatureAlgorithm the CA signs with; zero is the usual one of its key.
	SignatureAlgorithm x509.SignatureAlgorithm
	// CRL is the list of CRL distribution points.
	CRL []string
	// OCSP is the list of OCSP responders.
	OCSP []string
	// Mutate is called last on the template, before it is signed.
	Mutate func(*x509.Certificate)
}

// NewCA makes a self-signed root.
func NewCA(o Options) (*CA, error) {
	if o.CN == "" {
		o.CN = "Test CA"
	}
	key, err := NewKey(o.Key)
	if err != nil {
		return nil, err
	}
	t, err := o.template()
	if err != nil {
		return nil, err
	}
	cert, err := sign(t, t, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make CA %q: %w", o.CN, err)
	}
	return &CA{Cert: cert, Key: key, Root: cert}, nil
}

// Intermediate makes a CA whose certificate this one signs.
func (ca *CA) Intermediate(o Options) (*CA, error) {
	if o.CN == "" {
		o.CN = "Test Intermediate"
	}
	key, err := NewKey(o.Key)
	if err != nil {
		return nil, err
	}
	t, err := o.template()
	if err != nil {
		return nil, err
	}
	cert, err := sign(t, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		return nil, fmt.Errorf("make CA %q: %w", o.CN, err)
	}
	return &CA{Cert: cert, Key: key, Root: ca.Root, Chain: prepend(cert, ca.Chain)}, nil
}

// Issue signs a certificate for a fresh key.
func (ca *CA) Issue(l Leaf) (*Cert, error) {
	key, err := NewKey(l.Key)
	if err != nil {
		return nil, err
	}
	return ca.IssueFor(l, key)
}

// IssueFor signs a certificate for a key that exists; l.Key is ignored.
func (ca *CA) IssueFor(l Leaf, key crypto.Signer) (*Cert, error) {
	t, err := l.template(key.Public())
	if err != nil {
		return nil, err
	}
	cert, err := sign(t, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		return nil, fmt.Errorf("issue %q: %w", l.CN, err)
	}
	return &Cert{Cert: cert, Chain: prepend(cert, ca.Chain), Key: key}, nil
}

// CRL signs a revocation list (RFC 5280, section 5) with the given number
// that names the certificates; it is valid from an hour ago until nextUpdate.
func (ca *CA) CRL(number int64, nextUpdate time.Time, revoked ...*x509.Certificate) (*x509.RevocationList, error) {
	t := &x509.RevocationList{Number: big.NewInt(number), ThisUpdate: nextUpdate.Add(-48 * time.Hour), NextUpdate: nextUpdate}
	if now := time.Now(); nextUpdate.After(now) {
		t.ThisUpdate = now.Add(-time.Hour)
	}
	for _, c := range revoked {
		t.RevokedCertificateEntries = append(t.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: t.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, t, ca.Cert, ca.Key)
	if err != nil {
		return nil, fmt.Errorf("sign CRL: %w", err)
	}
	return x509.ParseRevocationList(der)
}

// Pool holds the CA's root alone.
func (ca *CA) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(ca.Root)
	return p
}

// Must returns v and panics on an error: for fixtures that a correct program can always make.
func Must[T any](v T, err error) T {
	if err != nil {
		panic("testpki: " + err.Error())
	}
	return v
}

func (o Options) template() (*x509.Certificate, error) {
	if o.Org == "" {
		o.Org = "sslgate test"
	}
	t, err := template(o.NotBefore, o.NotAfter, 240*time.Hour, 240*time.Hour)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: o.CN, Organization: []string{o.Org}}
	t.SignatureAlgorithm = o.SignatureAlgorithm
	t.IsCA = true
	t.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	if o.Mutate != nil {
		o.Mutate(t)
	}
	return t, nil
}

func (l Leaf) template(pub crypto.PublicKey) (*x509.Certificate, error) {
	t, err := template(l.NotBefore, l.NotAfter, time.Hour, 24*time.Hour)
	if err != nil {
		return nil, err
	}
	t.Subject = pkix.Name{CommonName: l.CN, Organization: l.O, OrganizationalUnit: l.OU}
	switch l.CN {
	case "":
		t.Subject.CommonName = "test leaf"
	case "-":
		t.Subject.CommonName = ""
	}
	t.DNSNames, t.EmailAddresses = l.DNS, l.Emails
	for _, s := range l.IPs {
		ip := net.ParseIP(s)
		if ip == nil {
			return nil, fmt.Errorf("%q is no IP address", s)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	for _, s := range l.URIs {
		u, err := url.Parse(s)
		if err != nil {
			return nil, fmt.Errorf("%q is no URI: %w", s, err)
		}
		t.URIs = append(t.URIs, u)
	}
	t.KeyUsage = x509.KeyUsageDigitalSignature
	if _, ok := pub.(*rsa.PublicKey); ok {
		t.KeyUsage |= x509.KeyUsageKeyEncipherment // RSA key transport: step 4 in the classic handshake
	}
	t.ExtKeyUsage = l.EKU
	if l.EKU == nil {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	}
	t.CRLDistributionPoints, t.OCSPServer = l.CRL, l.OCSP
	t.SignatureAlgorithm = l.SignatureAlgorithm
	if l.Mutate != nil {
		l.Mutate(t)
	}
	return t, nil
}

// template has what CAs and leaves share: a random serial of 127 bits (RFC
// 5280, section 4.1.2.2: positive, at most 20 octets) and the validity, by default
// from before now to after now.
func template(from, to time.Time, before, after time.Duration) (*x509.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	now := time.Now()
	if from.IsZero() {
		from = now.Add(-before)
	}
	if to.IsZero() {
		to = now.Add(after)
	}
	return &x509.Certificate{
		SerialNumber: serial.SetBit(serial, 126, 1), // 16 octets, and none before them in DER
		NotBefore:    from, NotAfter: to, BasicConstraintsValid: true,
	}, nil
}

func sign(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func prepend(c *x509.Certificate, rest []*x509.Certificate) []*x509.Certificate {
	return append([]*x509.Certificate{c}, rest...)
}
