package handshake

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
)

// The seal holds, and for its own text only.
func TestSeal(t *testing.T) {
	key, signature := seal()
	c := &x509.Certificate{PublicKeyAlgorithm: x509.RSA, PublicKey: key}
	if err := c.CheckSignature(x509.SHA256WithRSA, []byte(sealed), signature); err != nil || key.N.BitLen() != 2048 {
		t.Errorf("%d bits: %v", key.N.BitLen(), err)
	}
	if c.CheckSignature(x509.SHA256WithRSA, []byte(sealed+"."), signature) == nil {
		t.Error("it signs anything")
	}
}

// A CA that permits thousands of hosts, and a certificate below it with as many
// names: each is looked up, and not compared with every other.
func TestConstraintsAreLookedUp(t *testing.T) {
	const n = 3000
	var mails []string
	for i := range n {
		mails = append(mails, fmt.Sprintf("m%d.example", i), fmt.Sprintf("a@b%d.example", i), fmt.Sprintf(".s%d.example", i))
	}
	p := permits(mails)
	for _, c := range []struct {
		local, host string
		ok          bool
	}{
		{"x@", "m7.example", true}, {"x@", "M7.Example", true}, {"x@", "y.m7.example", false}, {"a@", "b9.example", true},
		{"A@", "b9.example", false}, {"x@", "b9.example", false}, {"x@", "a.s5.example", true}, {"x@", "a.b.S5.example", true},
		{"x@", "s5.example", false}, {"x@", "", false}, {"x@", strings.Repeat("a.", 200) + "s5.example", false},
	} {
		if p.permit(c.local, c.host) != c.ok {
			t.Errorf("%s%s: %v", c.local, c.host, !c.ok)
		}
	}
	if !permits(nil).permit("x@", "y") || !permits([]string{"z", ""}).permit("x@", "y") {
		t.Error("what permits everything does not")
	}
	if allocs := testing.AllocsPerRun(10, func() { p.permit("x@", "nowhere.example") }); allocs > 3 {
		t.Errorf("%v allocations for a look-up", allocs)
	}
}
