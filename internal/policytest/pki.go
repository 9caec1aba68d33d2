package policytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// StandIns are certificate authorities that exist only while a policy is tested. Each has the
// subject of the real one, if that is known, so that conditions on the issuer can be tested too.
// They are not safe for concurrent use.
type StandIns struct {
	cas map[string]*standIn
}

// standIn is one such authority.
type standIn struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewStandIns returns an empty StandIns.
func NewStandIns() *StandIns { return &StandIns{cas: map[string]*standIn{}} }

// Their validity covers every time that a test may use.
var (
	caFrom = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	caTo   = time.Date(2199, 1, 1, 0, 0, 0, 0, time.UTC)
)

// Authority makes the stand-in for an entry of authorities, with the subject of its first loaded
// root. It returns nil if it cannot; then conditions on that authority match no made-up
// certificate.
func (s *StandIns) Authority(name string, loaded []*x509.Certificate) []*x509.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: caFrom, NotAfter: caTo,
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if len(loaded) > 0 {
		t.RawSubject = loaded[0].RawSubject
	}
	cert, err := create(t, t, key.Public(), key)
	if err != nil {
		return nil
	}
	s.cas[name] = &standIn{cert, key}
	return []*x509.Certificate{cert}
}

// Identity makes a certificate to show to clients that do not exist. It has no key, as nothing is
// signed with it.
func (s *StandIns) Identity() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "stand-in"}, NotBefore: caFrom, NotAfter: caTo}
	cert, err := create(t, t, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, Leaf: cert}, nil
}

func create(t, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Certificate describes what a client shows, in a test.
type Certificate struct {
	// File is the PEM file of a real certificate, with its intermediates behind it. The other keys are not possible with it.
	File string `yaml:"file"`
	// Authority is the entry of authorities that has signed it; "" with untrusted.
	Authority string `yaml:"authority"`
	// Untrusted signs it with a CA that no rule trusts.
	Untrusted bool `yaml:"untrusted"`
	// Subject attributes.
	CN []string `yaml:"subject_cn"`
	O  []string `yaml:"subject_o"`
	OU []string `yaml:"subject_ou"`
	C  []string `yaml:"subject_c"`
	// Names.
	DNS   []string `yaml:"san_dns"`
	URI   []string `yaml:"san_uri"`
	Email []string `yaml:"san_email"`
	IP    []string `yaml:"san_ip"`
	// Serial number in hex. Default 1.
	Serial string `yaml:"serial"`
	// EKU are the extended key usages: clientAuth, serverAuth or OIDs. Default clientAuth.
	EKU []string `yaml:"eku"`
	// Policies are OIDs.
	Policies []string `yaml:"policies"`
	// Key is its kind and size. Default ecdsa-256.
	Key string `yaml:"key"`
	// ValidLeft is how long it is still valid, negative for an expired one. Default 30d.
	ValidLeft string `yaml:"valid_left"`
	// Age is how long it has been valid. Default 1h.
	Age string `yaml:"age"`
}

// Issue makes the certificate, valid as of now. Mistakes in the description have the paths of its
// keys.
func (s *StandIns) Issue(c *Certificate, now time.Time) (*x509.Certificate, error) {
	var list fielderr.List
	ca := s.cas[c.Authority]
	switch {
	case c.Untrusted && c.Authority != "":
		list.Addf("untrusted", "an authority has signed it, or none that is trusted: take one of the two out")
	case c.Untrusted:
		stranger := NewStandIns()
		stranger.Authority("a CA that nobody knows", nil)
		ca = stranger.cas["a CA that nobody knows"]
	case c.Authority == "":
		list.Addf("", `the certificate needs an "authority", a "file", or "untrusted: true"`)
	case ca == nil:
		names := make([]string, 0, len(s.cas))
		for name := range s.cas {
			names = append(names, name)
		}
		list.Addf("authority", "there is no %q in authorities%s", c.Authority, fielderr.Suggest(c.Authority, names))
	}
	t := c.template(now, &list)
	pub, err := publicKey(c.Key)
	if err != nil {
		list.Addf("key", "%v", err)
	}
	if err := list.Err(); err != nil {
		return nil, err
	}
	if ca == nil {
		return nil, errors.New("the stand-in of the authority could not be made")
	}
	cert, err := create(t, ca.cert, pub, ca.key)
	if err != nil {
		return nil, fmt.Errorf("such a certificate cannot be made: %w", err)
	}
	return cert, nil
}

func (c *Certificate) template(now time.Time, list *fielderr.List) *x509.Certificate {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), KeyUsage: x509.KeyUsageDigitalSignature,
		DNSNames: c.DNS, EmailAddresses: c.Email,
		Subject: pkix.Name{Organization: c.O, OrganizationalUnit: c.OU, Country: c.C},
	}
	for _, cn := range c.CN {
		t.Subject.ExtraNames = append(t.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: cn})
	}
	if c.Serial != "" {
		if n, ok := new(big.Int).SetString(c.Serial, 16); ok && n.Sign() > 0 && n.BitLen() <= 159 {
			t.SerialNumber = n
		} else {
			list.Addf("serial", "%q is no serial number: a positive number of at most 20 bytes in hex", c.Serial)
		}
	}
	for i, s := range c.URI {
		u, err := url.Parse(s)
		if err != nil {
			list.Addf(fmt.Sprintf("san_uri[%d]", i), "%q is no URI", s)
			continue
		}
		t.URIs = append(t.URIs, u)
	}
	for i, s := range c.IP {
		ip := net.ParseIP(s)
		if ip == nil {
			list.Addf(fmt.Sprintf("san_ip[%d]", i), "%q is no address", s)
		}
		t.IPAddresses = append(t.IPAddresses, ip)
	}
	for i, s := range c.Policies {
		oid, err := x509.ParseOID(s)
		if err != nil {
			list.Addf(fmt.Sprintf("policies[%d]", i), "%q is no OID", s)
		}
		t.Policies = append(t.Policies, oid)
	}
	c.usages(t, list)
	t.NotBefore = now.Add(-span(list, "age", c.Age, time.Hour))
	t.NotAfter = now.Add(span(list, "valid_left", c.ValidLeft, 30*24*time.Hour))
	return t
}

func (c *Certificate) usages(t *x509.Certificate, list *fielderr.List) {
	if c.EKU == nil {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for i, s := range c.EKU {
		switch s {
		case "clientAuth":
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
		case "serverAuth":
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
		case "emailProtection":
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageEmailProtection)
		case "codeSigning":
			t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageCodeSigning)
		default:
			var oid asn1.ObjectIdentifier
			for _, arc := range strings.Split(s, ".") {
				n, err := strconv.Atoi(arc)
				if err != nil || n < 0 {
					oid = nil
					break
				}
				oid = append(oid, n)
			}
			if len(oid) < 2 {
				list.Addf(fmt.Sprintf("eku[%d]", i), "%q is neither clientAuth, serverAuth, emailProtection nor codeSigning, and no OID", s)
				continue
			}
			t.UnknownExtKeyUsage = append(t.UnknownExtKeyUsage, oid)
		}
	}
}

// span parses a duration in hours or days, which may be negative.
func span(list *fielderr.List, field, text string, otherwise time.Duration) time.Duration {
	if text == "" {
		return otherwise
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > -36525 && n < 36525 {
			return time.Duration(n) * 24 * time.Hour
		}
	} else if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	list.Addf(field, `%q is no length of time such as "72h", "30d" or "-1h"`, text)
	return otherwise
}

// publicKey makes a public key without a private key. Of an RSA key only the size matters, so its
// modulus is an arbitrary number, which takes no time to find.
func publicKey(kind string) (crypto.PublicKey, error) {
	if kind == "" {
		kind = "ecdsa-256"
	}
	curves := map[string]elliptic.Curve{"ecdsa-256": elliptic.P256(), "ecdsa-384": elliptic.P384(), "ecdsa-521": elliptic.P521()}
	if curve, ok := curves[kind]; ok {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		return key.Public(), nil
	}
	if kind == "ed25519" {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		return pub, err
	}
	if params, ok := map[string]mldsa.Parameters{"ml-dsa-44": mldsa.MLDSA44(), "ml-dsa-65": mldsa.MLDSA65(), "ml-dsa-87": mldsa.MLDSA87()}[kind]; ok {
		key, err := mldsa.GenerateKey(params)
		if err != nil {
			return nil, err
		}
		return key.PublicKey(), nil
	}
	if size, ok := strings.CutPrefix(kind, "rsa-"); ok {
		if bits, err := strconv.Atoi(size); err == nil && bits >= 1024 && bits <= 8192 && bits%8 == 0 {
			n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), uint(bits)))
			if err != nil {
				return nil, err
			}
			n.SetBit(n.SetBit(n, 0, 1), bits-1, 1)
			return &rsa.PublicKey{N: n, E: 65537}, nil
		}
	}
	return nil, fmt.Errorf("%q is no kind of key: ecdsa-256, ecdsa-384, ecdsa-521, ed25519, ml-dsa-44, ml-dsa-65, ml-dsa-87, or rsa-BITS from 1024 to 8192", kind)
}
