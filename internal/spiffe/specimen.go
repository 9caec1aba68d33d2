package spiffe

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net/url"
	"time"

	"github.com/sslgate/sslgate/internal/identity"
)

// KeyTypes are the kinds of key that SVIDs may have, in SPIRE's words. The first is the default.
func KeyTypes() []string { return []string{"ec-p256", "ec-p384", "rsa-2048"} }

// Specimen is a certificate of the kind that the SVID of an ID is, signed by nobody who counts and
// without a key: what a policy is compiled with before the agent has answered.
func Specimen(id, keyType string) (*tls.Certificate, error) {
	u, err := url.Parse(id)
	if err != nil {
		return nil, err
	}
	var key crypto.Signer
	switch keyType {
	case "ec-p384":
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "rsa-2048":
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return nil, err
	}
	t := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{u}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: identity.NoKey{Of: leaf.PublicKey}, Leaf: leaf}, nil
}
