package testpki

import (
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
)

// Cert is an end-entity certificate with its key.
type Cert struct {
	Cert *x509.Certificate
	// Chain is what its holder sends: the certificate itself, then the
	// intermediates, without the root.
	Chain []*x509.Certificate
	Key   crypto.Signer
}

// TLS returns the certificate as crypto/tls takes it.
func (c *Cert) TLS() tls.Certificate {
	t := tls.Certificate{PrivateKey: c.Key, Leaf: c.Cert}
	for _, x := range c.Chain {
		t.Certificate = append(t.Certificate, x.Raw)
	}
	return t
}

// Thief returns the certificate of c with another key, as a thief of a (public) certificate would
// use it. The key should be of the same kind, or the handshake ends before it is used.
func Thief(c *Cert, other crypto.Signer) tls.Certificate {
	t := c.TLS()
	t.PrivateKey = other
	return t
}

// SPKI returns the lower-case hex SHA-256 of the SubjectPublicKeyInfo.
func (c *Cert) SPKI() string {
	h := sha256.Sum256(c.Cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}

// PEM returns the chain and the key (PKCS#8) in PEM form.
func (c *Cert) PEM() (chain, key []byte, err error) {
	key, err = KeyPEM(c.Key)
	return CertsPEM(c.Chain...), key, err
}

// WritePEM writes dir/name.pem (the chain, 0644) and dir/name.key (PKCS#8,
// 0600), replacing what is there, and returns the two paths.
func (c *Cert) WritePEM(dir, name string) (certFile, keyFile string, err error) {
	chain, key, err := c.PEM()
	if err != nil {
		return "", "", err
	}
	return writePair(dir, name, chain, key)
}

// WritePEM writes dir/name.pem (the CA's certificate alone, 0644) and
// dir/name.key (0600), and returns the two paths.
func (ca *CA) WritePEM(dir, name string) (certFile, keyFile string, err error) {
	key, err := KeyPEM(ca.Key)
	if err != nil {
		return "", "", err
	}
	return writePair(dir, name, CertsPEM(ca.Cert), key)
}

// PEM returns the CA's own certificate in PEM form.
func (ca *CA) PEM() []byte { return CertsPEM(ca.Cert) }

// CertsPEM returns certificates in PEM form, one block each.
func CertsPEM(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// CRLPEM returns a revocation list in PEM form.
func CRLPEM(l *x509.RevocationList) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.Raw})
}

// KeyPEM returns a private key in PEM form (PKCS#8).
func KeyPEM(key crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func writePair(dir, name string, cert, key []byte) (certFile, keyFile string, err error) {
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for _, f := range []struct {
		path string
		data []byte
		mode os.FileMode
	}{{certFile, cert, 0o644}, {keyFile, key, 0o600}} {
		if err := os.WriteFile(f.path, f.data, f.mode); err != nil {
			return "", "", err
		}
		// The mode given to WriteFile is only for a new file, and less the umask.
		if err := os.Chmod(f.path, f.mode); err != nil {
			return "", "", err
		}
	}
	return certFile, keyFile, nil
}
