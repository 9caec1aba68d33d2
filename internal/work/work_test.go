package work

import (
	"crypto"
	"crypto/rsa"
	"crypto/tls"
	"math/big"
	"testing"
)

// rsaKey is a public key of a length and exponent, without a private key.
func rsaKey(length uint, e int) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), int(length)-1, 1), E: e}
}

// What costs more on every machine weighs more here.
func TestOrder(t *testing.T) {
	ec := map[string]crypto.PublicKey{}
	for _, kind := range []string{"P-256", "P-384", "P-521", "Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"} {
		ec[kind] = key(t, kind).Public()
	}
	for name, rising := range map[string][]Units{
		"verify EC":     {Verify(ec["P-256"]), Verify(ec["P-384"]), Verify(ec["P-521"])},
		"sign EC":       {Sign(ec["P-256"]), Sign(ec["P-384"]), Sign(ec["P-521"])},
		"verify ML-DSA": {Verify(ec["ML-DSA-44"]), Verify(ec["ML-DSA-65"]), Verify(ec["ML-DSA-87"])},
		"sign ML-DSA":   {Verify(ec["ML-DSA-44"]), Sign(ec["ML-DSA-44"])},
		"verify RSA":    {Verify(rsaKey(2048, 65537)), Verify(rsaKey(3072, 65537)), Verify(rsaKey(4096, 65537)), Verify(rsaKey(8192, 65537)), Verify(rsaKey(16384, 65537))},
		"exponents":     {Verify(rsaKey(8192, 3)), Verify(rsaKey(8192, 65537)), Verify(rsaKey(8192, 1<<30+1)), Verify(rsaKey(8192, 1<<31-1))},
		"sign RSA":      {Sign(rsaKey(2048, 65537)), Sign(rsaKey(3072, 65537)), Sign(rsaKey(4096, 65537))},
		"RSA":           {Verify(rsaKey(2048, 65537)), Sign(rsaKey(2048, 65537))},
		"groups":        {KeyExchange(tls.X25519, nil), KeyExchange(tls.X25519MLKEM768, nil), KeyExchange(tls.CurveP384, nil), KeyExchange(tls.SecP384r1MLKEM1024, nil), KeyExchange(tls.CurveP521, nil)},
		"unknown group": {KeyExchange(tls.CurveP384, nil), KeyExchange(0x7a7a, nil)},
		"key transport": {KeyExchange(tls.X25519, nil), KeyExchange(0, rsaKey(2048, 65537))},
		"records":       {Records(-1), Records(1), Records(1000)},
		"bytes":         {Bytes(0), Bytes(1), Bytes(4 << 10), Bytes(64 << 10)},
		"a handshake":   {Leg(0, 0, 0), Leg(1024, 0, 0), Leg(1024, 1, 0), Leg(1024, 1, 1), Ordinary, 3 * fixed},
	} {
		for i := 1; i < len(rising); i++ {
			if rising[i] <= rising[i-1] {
				t.Errorf("%s: %v does not rise", name, rising)
			}
		}
	}
	if Bytes(-1) != 0 || Verify(nil) != 0 || Sign(nil) != 0 || Verify(ec["Ed25519"]) <= 0 || Sign(ec["Ed25519"]) <= 0 {
		t.Error("what is not there weighs something, or what is there nothing")
	}
	// The square of the length: 16384 bits are 64 times 2048.
	if a, b := Verify(rsaKey(2048, 65537)), Verify(rsaKey(16384, 65537)); b < 60*a || b > 70*a {
		t.Errorf("%d and %d", a, b)
	}
}
