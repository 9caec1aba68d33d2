package member

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/pki"
)

// Files names the files that a Member is made of. CA and Key may be "".
type Files struct {
	Root, Certificate, Key, CA string
}

// maxPEM bounds those files in bytes.
const maxPEM = 1 << 20

// OpenFiles is Open with root, certificate, key and CA read from files.
func OpenFiles(f Files, mark dialer.Mark, o Options) (*Member, error) {
	root, err := read(f.Root, seal.MaxEnvelope)
	if err != nil {
		return nil, fmt.Errorf("fleet.root: %w", err)
	}
	o.Root = root.Text
	chain, err := readChain(f.Certificate)
	if err != nil {
		return nil, fmt.Errorf("fleet.certificate: %w", err)
	}
	if o.Credentials, err = ReadCredentials(f); err != nil {
		return nil, fmt.Errorf("fleet.%w", err)
	}
	o.Certificate, o.Credentials.Mark = chain[0], mark
	return Open(o)
}

// ReadCredentials reads what a source is shown, and whom it is verified by, from Key with
// Certificate, and CA. An error begins with "key: " or "ca: ".
func ReadCredentials(f Files) (Credentials, error) {
	var c Credentials
	if f.Key != "" {
		c.Certificate = func() (tls.Certificate, error) { return pair(f.Certificate, f.Key) }
		if _, err := c.Certificate(); err != nil {
			return c, fmt.Errorf("key: %w", err)
		}
	}
	if f.CA == "" {
		return c, nil
	}
	c.Roots = func() (*x509.CertPool, error) { return readPool(f.CA) }
	_, err := c.Roots()
	return c, err
}

// readPool reads roots.
func readPool(path string) (*x509.CertPool, error) {
	text, err := read(path, maxPEM)
	if err != nil {
		return nil, fmt.Errorf("ca: %w", err)
	}
	certs, err := pki.ParseCertificates(text.Text)
	if err != nil {
		return nil, fmt.Errorf("ca: %s: %w", path, err)
	}
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool, nil
}

func read(path string, limit int64) (fileset.File, error) {
	return fileset.Disk{}.Read(context.Background(), path, limit, nil)
}

func readChain(path string) ([]*x509.Certificate, error) {
	f, err := read(path, maxPEM)
	if err != nil {
		return nil, err
	}
	defer clear(f.Text) // it may hold a key
	chain, err := pki.ParseChain(f.Text, f.Mode)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return chain, nil
}

// pair reads a certificate with its key.
func pair(certificate, key string) (tls.Certificate, error) {
	chain, err := readChain(certificate)
	if err != nil {
		return tls.Certificate{}, err
	}
	f, err := read(key, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	defer clear(f.Text)
	if mode := f.Mode.Perm(); mode&0o007 != 0 {
		return tls.Certificate{}, fmt.Errorf("%s is open to everyone (mode %04o): chmod o= %[1]s", key, mode)
	}
	signer, err := pki.ParseKey(f.Text)
	if err == nil {
		err = pki.CheckPair(chain[0], signer)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s: %w", key, err)
	}
	out := tls.Certificate{PrivateKey: signer, Leaf: chain[0]}
	for _, c := range chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}
