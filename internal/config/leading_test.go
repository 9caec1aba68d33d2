package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// CAs that have all signed each other take as many checks as there are pairs,
// not ways through them: with 12 of one name there would be 479 million.
func TestLeadingToIsBounded(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := func(i int, subject, issuer string, key, signer *ecdsa.PrivateKey) *x509.Certificate {
		c := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: subject}, IsCA: true, BasicConstraintsValid: true,
			NotAfter: time.Now().Add(time.Hour), DNSNames: []string{fmt.Sprintf("a%d.test", i)},
		}
		der, err := x509.CreateCertificate(rand.Reader, c, &x509.Certificate{Subject: pkix.Name{CommonName: issuer}}, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return parsed
	}
	root := ca(0, "root", "root", other, other)
	var all []*x509.Certificate
	for i := range 12 {
		all = append(all, ca(i, "X", "X", key, key))
	}
	start := time.Now()
	leading := func() []bool {
		leads := slices.Repeat([]bool{true}, len(all))
		for _, i := range (&handshake.Authority{Roots: []*x509.Certificate{root}, Intermediates: all}).Unled() {
			leads[i] = false
		}
		return leads
	}
	for _, leads := range leading() {
		if leads {
			t.Error("a clique leads to a root that has signed none of it")
		}
	}
	all = append(all, ca(20, "X", "root", key, other), ca(21, "Y", "X", other, key), ca(22, "Z", "Y", key, key))
	leads := leading()
	for i, want := range []bool{true, true, false} {
		if leads[12+i] != want {
			t.Errorf("%d: %v", i, leads[12+i])
		}
	}
	if !leads[0] {
		t.Error("one that the intermediate's key has signed does not lead to the root")
	}
	if took := time.Since(start); took > testenv.Patience() {
		t.Errorf("it took %s", took)
	}
}
