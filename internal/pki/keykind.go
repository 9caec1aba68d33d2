package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// KeyKinds lists the words for the kinds of keys NewKey makes, the default first.
func KeyKinds() []string {
	return []string{"ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096", "ed25519", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"}
}

// NewKey makes a key pair of the kind named, "" being ecdsa-p256. An unknown
// kind is a *UsageError.
func NewKey(kind string) (crypto.Signer, error) {
	switch strings.ToLower(kind) {
	case "", "ecdsa-p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ecdsa-p384":
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa-2048":
		return rsa.GenerateKey(rand.Reader, 2048)
	case "rsa-3072":
		return rsa.GenerateKey(rand.Reader, 3072)
	case "rsa-4096":
		return rsa.GenerateKey(rand.Reader, 4096)
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "ml-dsa-44":
		return mldsa.GenerateKey(mldsa.MLDSA44())
	case "ml-dsa-65":
		return mldsa.GenerateKey(mldsa.MLDSA65())
	case "ml-dsa-87":
		return mldsa.GenerateKey(mldsa.MLDSA87())
	}
	return nil, usagef("no such kind of key: %q%s; there are %s",
		kind, fielderr.Suggest(kind, KeyKinds()), strings.Join(KeyKinds(), ", "))
}

func keyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: blockPKCS8, Bytes: der}), nil
}

func certPEM(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: blockCert, Bytes: c.Raw})
}
