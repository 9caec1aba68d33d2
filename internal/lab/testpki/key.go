package testpki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// KeyKind is the kind and size of a key pair. The zero value is ECDSA P-256,
// the cheapest to make.
type KeyKind uint8

// The kinds of keys.
const (
	P256 KeyKind = iota
	P224
	P384
	P521
	RSA1024
	RSA2048
	RSA3072
	Ed25519
	MLDSA44
	MLDSA65
	MLDSA87
)

// String names the kind the way certificates are talked about: "RSA-1024".
func (k KeyKind) String() string {
	switch k {
	case P256:
		return "ECDSA-P256"
	case P224:
		return "ECDSA-P224"
	case P384:
		return "ECDSA-P384"
	case P521:
		return "ECDSA-P521"
	case RSA1024:
		return "RSA-1024"
	case RSA2048:
		return "RSA-2048"
	case RSA3072:
		return "RSA-3072"
	case Ed25519:
		return "Ed25519"
	case MLDSA44:
		return "ML-DSA-44"
	case MLDSA65:
		return "ML-DSA-65"
	case MLDSA87:
		return "ML-DSA-87"
	}
	return fmt.Sprintf("KeyKind(%d)", uint8(k))
}

// NewKey makes a key pair. An RSA key takes from some milliseconds (1024
// bits) to about a second (3072 bits under the race detector).
func NewKey(k KeyKind) (crypto.Signer, error) {
	switch k {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P224:
		return ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case MLDSA44:
		return mldsa.GenerateKey(mldsa.MLDSA44())
	case MLDSA65:
		return mldsa.GenerateKey(mldsa.MLDSA65())
	case MLDSA87:
		return mldsa.GenerateKey(mldsa.MLDSA87())
	}
	return nil, fmt.Errorf("no such kind of key: %s", k)
}
