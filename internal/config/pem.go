package config

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// maxPEM is the size of a certificate or key file in bytes; a bundle of all
// public roots has about 250 KiB.
const maxPEM = 4 << 20

// readPEM reads a file, with a hint where it is missing.
func readPEM(path string) (os.FileInfo, []byte, error) {
	info, text, err := readFileInfo(path, maxPEM)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, fmt.Errorf("%w%s", err, nearFile(path))
	}
	return info, text, err
}

// nearFile suggests another file of the same directory.
func nearFile(path string) string {
	dir, base := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return ""
	}
	var names []string
	for _, e := range entries[:min(len(entries), 1000)] {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return fielderr.Suggest(base, names)
}

// parseCertificates reads every certificate of a PEM file. Anything else in
// it is refused, so that nobody puts a key where a certificate belongs.
func parseCertificates(path string, text []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	rest := text
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case block.Type == "CERTIFICATE":
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return nil, fmt.Errorf("%s holds a private key (%s): certificates and keys belong in files of their own", path, block.Type)
		case block.Type == "TRUSTED CERTIFICATE":
			return nil, fmt.Errorf("%s holds a TRUSTED CERTIFICATE, a form of OpenSSL's own: convert it with `openssl x509 -in %[1]s -out NEW.pem`", path)
		default:
			return nil, fmt.Errorf("%s holds a %s where certificates are wanted", path, quote(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: certificate %d: %w", path, len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	switch {
	case bytes.Contains(rest, []byte("-----BEGIN")):
		return nil, fmt.Errorf("%s: the PEM block after certificate %d is damaged", path, len(certs))
	case len(certs) > 0:
		return certs, nil
	}
	if _, err := x509.ParseCertificate(text); err == nil {
		return nil, fmt.Errorf("%s is in DER form: convert it with `openssl x509 -inform der -in %[1]s -out NEW.pem`", path)
	}
	return nil, fmt.Errorf("%s holds no PEM certificate", path)
}

// parseKey reads the one private key of a PEM file.
func parseKey(path string, text []byte) (crypto.Signer, error) {
	var key crypto.Signer
	rest, seen := text, ""
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			seen = block.Type // EC PARAMETERS may stand before a key (RFC 5915)
			continue
		}
		if key != nil {
			return nil, fmt.Errorf("%s holds more than one private key", path)
		}
		if block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			return nil, fmt.Errorf("%s is encrypted, and nobody is there to type a passphrase: decrypt it with `openssl pkey -in %[1]s -out NEW.key`", path)
		}
		k, err := parsePrivateKey(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		key = k
	}
	switch {
	case key != nil:
		return key, nil
	case seen == "CERTIFICATE":
		return nil, fmt.Errorf("%s holds a certificate, not a private key: are certificate and key swapped?", path)
	case seen != "":
		return nil, fmt.Errorf("%s holds a %s, not a private key", path, quote(seen))
	}
	return nil, fmt.Errorf("%s holds no PEM private key", path)
}

// parsePrivateKey knows PKCS #8 (RFC 5958), PKCS #1 (RFC 8017) and SEC 1
// (RFC 5915).
func parsePrivateKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("a %s is not supported", quote(block.Type))
	}
	if err != nil {
		return nil, err
	}
	switch k := key.(type) {
	case *rsa.PrivateKey:
		return k, nil
	case *ecdsa.PrivateKey:
		return k, nil
	case ed25519.PrivateKey:
		return k, nil
	}
	return nil, fmt.Errorf("a key of type %T is not supported: RSA, ECDSA or Ed25519", key)
}

// publicKey is what the standard library's public keys have in common.
type publicKey interface{ Equal(crypto.PublicKey) bool }

// fits says whether a private key belongs to a certificate.
func fits(key crypto.Signer, c *x509.Certificate) bool {
	pub, ok := key.Public().(publicKey)
	return ok && pub.Equal(c.PublicKey)
}
