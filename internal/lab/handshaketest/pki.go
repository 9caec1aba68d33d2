package handshaketest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// Maker makes certificates of any graph.
type Maker struct {
	t      testing.TB
	Keys   []crypto.Signer
	serial int64
}

// NewMaker makes the given number of keys, which certificates can share.
func NewMaker(t testing.TB, keys int) *Maker {
	m := &Maker{t: t}
	for range keys {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		m.Keys = append(m.Keys, k)
	}
	return m
}

// Made is one certificate to make.
type Made struct {
	Subject, Issuer string
	Key, Signer     int  // indexes of Maker.Keys
	Leaf            bool // else a CA
	SKI, AKI        []byte
	Mutate          func(*x509.Certificate)
}

// Cert makes and signs one.
func (m *Maker) Cert(c Made) *x509.Certificate {
	m.serial++
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: c.Subject},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: !c.Leaf, BasicConstraintsValid: true, SubjectKeyId: c.SKI,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		// Different names, because crypto/x509 treats certificates with the same name and key
		// as equal.
		DNSNames: []string{fmt.Sprintf("a%d.test", m.serial)},
	}
	if c.Leaf {
		tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	} else if c.SKI == nil {
		tmpl.SubjectKeyId = []byte{} // else CreateCertificate makes one
	}
	if c.Mutate != nil {
		c.Mutate(tmpl)
	}
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: c.Issuer}, SubjectKeyId: c.AKI}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, m.Keys[c.Key].Public(), m.Keys[c.Signer])
	if err != nil {
		m.t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return parsed
}

// NoBit stands for an extension in which no bit is set.
const NoBit = x509.KeyUsage(-1)

// WithUsage is a Mutate that sets the key usage (RFC 5280, section 4.2.1.3).
func WithUsage(u x509.KeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		if c.KeyUsage = u; u == NoBit {
			c.KeyUsage = 0
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 1, 0}}}
		}
	}
}
