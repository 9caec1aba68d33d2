// Package keykind says of what kind a public key is, and how strong: one reader for
// policy, the handshake, what is shown, and what is made.
package keykind

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rsa"
	"fmt"
	"strings"
)

// The types of keys that a handshake can be signed with, in the words of policy. Each
// parameter set of ML-DSA (FIPS 204, section 4) is a type of its own, as it is a
// signature scheme of its own in TLS (draft-ietf-tls-mldsa, section 3).
const (
	RSA     = "rsa"
	ECDSA   = "ecdsa"
	Ed25519 = "ed25519"
	MLDSA44 = "mldsa44"
	MLDSA65 = "mldsa65"
	MLDSA87 = "mldsa87"
)

// Types lists them.
func Types() []string { return []string{RSA, ECDSA, Ed25519, MLDSA44, MLDSA65, MLDSA87} }

// MaxRSABits is the largest RSA key that crypto/tls verifies a signature of.
const MaxRSABits = 8192

// MostBits is the size of the largest key of a type; 0 for what is no type.
func MostBits(typ string) int {
	switch typ {
	case RSA:
		return MaxRSABits
	case ECDSA:
		return 521 // P-521
	case Ed25519:
		return ed25519Bits
	case MLDSA44:
		return 8 * mldsa.MLDSA44PublicKeySize
	case MLDSA65:
		return 8 * mldsa.MLDSA65PublicKeySize
	case MLDSA87:
		return 8 * mldsa.MLDSA87PublicKeySize
	}
	return 0
}

// ed25519Bits: it has the strength of a 256-bit curve (RFC 8032, section 8.5).
const ed25519Bits = 256

// Kind is what a key is. The zero value is no key that can be used.
type Kind struct {
	// Type is one of Types.
	Type string
	// Bits is the size: of the modulus, of the curve's order, of an ML-DSA public key.
	Bits int
}

// IsMLDSA says whether it is a key of ML-DSA, which signs nothing before TLS 1.3.
func (k Kind) IsMLDSA() bool { return strings.HasPrefix(k.Type, "mldsa") }

// Of is the kind of a public key, the zero value for a key of another kind.
func Of(pub crypto.PublicKey) Kind {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return Kind{Type: RSA, Bits: k.N.BitLen()}
	case *ecdsa.PublicKey:
		return Kind{Type: ECDSA, Bits: k.Params().BitSize}
	case ed25519.PublicKey:
		return Kind{Type: Ed25519, Bits: ed25519Bits}
	case *mldsa.PublicKey:
		p := k.Parameters()
		switch size := 8 * p.PublicKeySize(); p {
		case mldsa.MLDSA44():
			return Kind{Type: MLDSA44, Bits: size}
		case mldsa.MLDSA65():
			return Kind{Type: MLDSA65, Bits: size}
		case mldsa.MLDSA87():
			return Kind{Type: MLDSA87, Bits: size}
		}
	}
	return Kind{}
}

// NameOf is the kind of a public key for people: "RSA 2048", "ECDSA P-256", "Ed25519",
// "ML-DSA-87"; of one that cannot be used, its Go type.
func NameOf(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Params().Name
	case ed25519.PublicKey:
		return "Ed25519"
	case *mldsa.PublicKey:
		return k.Parameters().String()
	}
	return fmt.Sprintf("unknown (%T)", pub)
}

// Signer is a private key that can sign a handshake, false for another one: the types
// that x509.ParsePKCS8PrivateKey returns.
func Signer(key any) (crypto.Signer, bool) {
	s, ok := key.(crypto.Signer)
	if !ok || Of(s.Public()).Type == "" {
		return nil, false
	}
	return s, true
}
