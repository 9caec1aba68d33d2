package keykind

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Every type has a key, and no key is larger than its type says.
func TestKinds(t *testing.T) {
	public := func(k crypto.Signer, err error) crypto.PublicKey { return testpki.Must(k, err).Public() }
	ec := func(c elliptic.Curve) crypto.PublicKey { return public(ecdsa.GenerateKey(c, rand.Reader)) }
	pq := func(p mldsa.Parameters) crypto.PublicKey { return public(mldsa.GenerateKey(p)) }
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), bits), big.NewInt(1)), E: 65537}
	}
	seen := map[string]bool{}
	for _, c := range []struct {
		key  crypto.PublicKey
		want Kind
		name string
	}{
		{modulus(2048), Kind{RSA, 2048}, "RSA 2048"}, {modulus(8192), Kind{RSA, 8192}, "RSA 8192"},
		{ec(elliptic.P224()), Kind{ECDSA, 224}, "ECDSA P-224"}, {ec(elliptic.P256()), Kind{ECDSA, 256}, "ECDSA P-256"},
		{ec(elliptic.P521()), Kind{ECDSA, 521}, "ECDSA P-521"},
		{ed, Kind{Ed25519, 256}, "Ed25519"},
		{pq(mldsa.MLDSA44()), Kind{MLDSA44, 10496}, "ML-DSA-44"}, {pq(mldsa.MLDSA65()), Kind{MLDSA65, 15616}, "ML-DSA-65"},
		{pq(mldsa.MLDSA87()), Kind{MLDSA87, 20736}, "ML-DSA-87"},
	} {
		got := Of(c.key)
		if got != c.want || NameOf(c.key) != c.name || got.Bits > MostBits(got.Type) || got.IsMLDSA() != (got.Bits > 10000) {
			t.Errorf("%+v, at most %d; want %+v, %s", got, MostBits(got.Type), c.want, c.name)
		}
		seen[got.Type] = true
	}
	for _, typ := range Types() {
		if !seen[typ] || MostBits(typ) == 0 {
			t.Errorf("%s: no key of it was tried", typ)
		}
	}
	for _, k := range []any{nil, testpki.Must(ecdh.X25519().GenerateKey(rand.Reader)).Public(), "key", &ed} {
		if Of(k) != (Kind{}) || NameOf(k) == "" || slices.Contains(Types(), NameOf(k)) {
			t.Errorf("%T: %+v", k, Of(k))
		}
	}
	if MostBits("dsa") != 0 {
		t.Error("dsa has a size")
	}
}

// Keys that agree on secrets sign nothing.
func TestSigner(t *testing.T) {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []any{ed, testpki.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)), testpki.Must(mldsa.GenerateKey(mldsa.MLDSA65()))} {
		if s, ok := Signer(k); !ok || s == nil {
			t.Errorf("%T signs nothing", k)
		}
	}
	for _, k := range []any{nil, testpki.Must(ecdh.X25519().GenerateKey(rand.Reader)), 1} {
		if _, ok := Signer(k); ok {
			t.Errorf("%T signs", k)
		}
	}
}
