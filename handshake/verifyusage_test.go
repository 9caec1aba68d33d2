package handshake_test

import (
	"crypto/x509"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// An issuer without keyCertSign is none, also where its key usage has no bit at
// all; and its path length counts.
func TestUsageOfIssuers(t *testing.T) {
	f := handshaketest.Fixtures()
	for name, change := range map[string]func(*x509.Certificate){
		"cRLSign alone":     func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign },
		"digitalSignature":  func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature },
		"no bit set":        handshaketest.WithUsage(handshaketest.NoBit),
		"no constraints":    func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false },
		"not a CA":          func(c *x509.Certificate) { c.IsCA = false },
		"for servers alone": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
	} {
		inter := testpki.Must(f.CA.Intermediate(testpki.Options{Mutate: change}))
		leaf := testpki.Must(inter.Issue(testpki.Leaf{CN: "bob"}))
		want := reason.NotACA
		if name == "for servers alone" {
			want = reason.WrongUsage
		}
		if _, e := handshake.Verify(leaf.Chain, []*handshake.Authority{handshaketest.Authority("staff", f.CA)}, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params); e == nil || e.Reason != want {
			t.Errorf("%s: %v", name, e)
		}
	}
	short := testpki.Must(f.CA.Intermediate(testpki.Options{Mutate: func(c *x509.Certificate) { c.MaxPathLenZero = true }}))
	below := testpki.Must(testpki.Must(short.Intermediate(testpki.Options{CN: "below"})).Issue(testpki.Leaf{CN: "bob"}))
	if _, e := handshake.Verify(below.Chain, []*handshake.Authority{handshaketest.Authority("staff", f.CA)}, x509.ExtKeyUsageClientAuth, &handshaketest.ServerParams().Params); e == nil || e.Reason != reason.NotACA {
		t.Errorf("path length: %v", e)
	}
}
