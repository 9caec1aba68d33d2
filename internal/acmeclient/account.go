package acmeclient

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/sslgate/sslgate/internal/pki"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/writefile"
)

// maxKey is the size of an account's key in bytes.
const maxKey = 16 << 10

// account is the key of the account with the CA. It is made once, and kept beside o.File.
func (o *Order) account() (crypto.Signer, error) {
	path := o.accountFile()
	if key, err := readKey(path); !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	text, err := encode(key, nil)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	if err := writefile.Create(path, text, 0o600); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return readKey(path)
}

// accountFile is where the key of the account with the CA stands: the same for all orders of it.
func (o *Order) accountFile() string {
	sum := sha256.Sum256([]byte(o.Directory))
	return filepath.Join(filepath.Dir(o.File), "account-"+hex.EncodeToString(sum[:8])+".key")
}

// read is a file that was written by us, as a whole.
func read(path string, limit int64) ([]byte, error) {
	_, text, err := readfile.All(context.Background(), path, limit, nil)
	return text, err
}

// readKey reads a private key that encode has written; fs.ErrNotExist if there is none.
func readKey(path string) (crypto.Signer, error) {
	text, err := read(path, maxKey)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	key, err := pki.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// encode is a key, PKCS#8, with its chain in PEM.
func encode(key crypto.Signer, chain [][]byte) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	block := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(block)
	size := len(block)
	for _, c := range chain {
		size += 2*len(c) + 128 // so that no copy of the key is left behind by an append
	}
	text := append(make([]byte, 0, size), block...)
	for _, c := range chain {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c})...)
	}
	return text, nil
}
