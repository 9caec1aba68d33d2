package seal

import (
	"crypto"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
)

// Kinds of keys: Ed25519 (RFC 8032) and ML-DSA-65 (FIPS 204), which a quantum computer does not
// break.
const (
	Ed25519 = "ed25519"
	MLDSA65 = "ml-dsa-65"
)

// Kinds lists them, the default first.
func Kinds() []string { return []string{Ed25519, MLDSA65} }

// PublicKey is a key that may sign in a fleet.
type PublicKey struct {
	key  crypto.PublicKey
	kind string
	spki []byte
}

// NewKey makes a private key of a kind.
func NewKey(kind string) (crypto.Signer, error) {
	switch kind {
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case MLDSA65:
		return mldsa.GenerateKey(mldsa.MLDSA65())
	}
	return nil, fmt.Errorf("no kind of key %q: %v are", kind, Kinds())
}

// KeyPEM is a private key as it is written to its file (PKCS #8). The caller clears it after use.
func KeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

var errKind = errors.New("neither an Ed25519 nor an ML-DSA-65 key")

// Public returns the public key of a private one.
func Public(key crypto.Signer) (*PublicKey, error) { return newPublic(key.Public()) }

func newPublic(pub crypto.PublicKey) (*PublicKey, error) {
	p := &PublicKey{key: pub}
	switch k := pub.(type) {
	case ed25519.PublicKey:
		p.kind = Ed25519
	case *mldsa.PublicKey:
		if k.Parameters() != mldsa.MLDSA65() {
			return nil, errKind
		}
		p.kind = MLDSA65
	default:
		return nil, errKind
	}
	var err error
	if p.spki, err = x509.MarshalPKIXPublicKey(pub); err != nil {
		return nil, err
	}
	return p, nil
}

// parsePublic reads SubjectPublicKeyInfo in base64, which has one form only.
func parsePublic(text string) (*PublicKey, error) {
	der, err := decode64(text)
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	p, err := newPublic(key)
	if err != nil {
		return nil, err
	}
	if string(p.spki) != string(der) {
		return nil, errors.New("not the one form of this key")
	}
	return p, nil
}

// ID is the SHA-256 of the key's SubjectPublicKeyInfo in hexadecimal: who has another ID has
// another key.
func (p *PublicKey) ID() string {
	sum := sha256.Sum256(p.spki)
	return hex.EncodeToString(sum[:])
}

// Kind is one of Kinds.
func (p *PublicKey) Kind() string { return p.kind }

// text is the key in a root.
func (p *PublicKey) text() string { return base64.StdEncoding.EncodeToString(p.spki) }

// verify says whether the key has signed a message.
func (p *PublicKey) verify(message, signature []byte) bool {
	switch k := p.key.(type) {
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, signature)
	case *mldsa.PublicKey:
		return mldsa.Verify(k, message, signature, nil) == nil
	}
	return false
}

// decode64 reads base64 (RFC 4648, section 4) that has one form only.
func decode64(text string) ([]byte, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil && base64.StdEncoding.EncodeToString(raw) != text {
		err = errors.New("base64 with something between") // the decoder passes over line ends
	}
	return raw, err
}
