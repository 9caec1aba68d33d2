package acmeclient

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Only a certificate that is of use takes the place of what is in use.
func TestFits(t *testing.T) {
	now := time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := &Order{Names: []string{"a.example", "*.b.example"}}
	issue := func(change func(*x509.Certificate)) []byte {
		t.Helper()
		c := &x509.Certificate{
			SerialNumber: big.NewInt(1), DNSNames: []string{"*.b.example", "a.example"},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), BasicConstraintsValid: true,
		}
		change(c)
		der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	good := issue(func(*x509.Certificate) {})
	for name, c := range map[string]struct {
		chain [][]byte
		key   *ecdsa.PrivateKey
		want  string // of the error; "": none
	}{
		"good":               {[][]byte{good}, key, ""},
		"with a chain":       {[][]byte{good, good}, key, ""},
		"a clock ahead":      {[][]byte{issue(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Minute) })}, key, ""},
		"nothing":            {nil, key, "nothing"},
		"no certificate":     {[][]byte{{1}}, key, "no certificate"},
		"another key":        {[][]byte{good}, other, "another key"},
		"a name less":        {[][]byte{issue(func(c *x509.Certificate) { c.DNSNames = c.DNSNames[:1] })}, key, "other names"},
		"a name more":        {[][]byte{issue(func(c *x509.Certificate) { c.DNSNames = append(c.DNSNames, "c.example") })}, key, "other names"},
		"ended":              {[][]byte{issue(func(c *x509.Certificate) { c.NotAfter = now })}, key, "now it is"},
		"not yet":            {[][]byte{issue(func(c *x509.Certificate) { c.NotBefore = now.Add(10 * time.Minute) })}, key, "now it is"},
		"a CA":               {[][]byte{issue(func(c *x509.Certificate) { c.IsCA = true })}, key, "of a CA"},
		"a chain of garbage": {[][]byte{good, {1, 2, 3}}, key, "certificate 2 of the chain"},
	} {
		err := o.fits(c.key, c.chain, now)
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A CA gets proofs for the names that were ordered, and for no others.
func TestOrderedNames(t *testing.T) {
	o := &Order{Names: []string{"a.example", "*.b.example"}}
	for name, want := range map[string]bool{
		"a.example": true, "A.Example": true, "b.example": true,
		"": false, "c.example": false, "x.b.example": false, "*.b.example": false, "a.example\npresent x": false, "a.example ": false, "a.example.": false,
	} {
		if o.ordered(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}
