package testpki

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
)

// DuplicateExtension has one extension twice, which RFC 5280, section 4.2, forbids.
// crypto/x509 does not parse it, so only what its holder sends is returned.
func (ca *CA) DuplicateExtension(l Leaf) (tls.Certificate, error) {
	key, err := NewKey(l.Key)
	if err != nil {
		return tls.Certificate{}, err
	}
	t, err := l.template(key.Public())
	if err != nil {
		return tls.Certificate{}, err
	}
	twice := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 32473, 2}, Value: []byte{0x05, 0x00}}
	t.ExtraExtensions = append(t.ExtraExtensions, twice, twice)
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue %q: %w", l.CN, err)
	}
	c := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	for _, x := range ca.Chain {
		c.Certificate = append(c.Certificate, x.Raw)
	}
	return c, nil
}

// Huge is valid except for its size: names of about n bytes in total.
func (ca *CA) Huge(l Leaf, n int) (*Cert, error) {
	for i := range n / 32 {
		l.DNS = append(l.DNS, fmt.Sprintf("%024d.example", i))
	}
	return ca.Issue(l)
}
