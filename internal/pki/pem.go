package pki

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sslgate/sslgate/internal/certread"
	"github.com/sslgate/sslgate/internal/keykind"
	"github.com/sslgate/sslgate/internal/pemfile"
)

// maxPEM bounds the input of the parsers, in bytes: a thousand certificates of 4 KiB in
// PEM form, far more than a bundle of public roots (about 220 KiB).
const maxPEM = 6 << 20

// The names of PEM blocks (RFC 7468; the older ones are OpenSSL's).
const (
	blockCert   = "CERTIFICATE"
	blockCSR    = "CERTIFICATE REQUEST"
	blockOldCSR = "NEW CERTIFICATE REQUEST"
	blockCRL    = "X509 CRL"
	blockPKCS8  = "PRIVATE KEY"
	blockPKCS1  = "RSA PRIVATE KEY"
	blockSEC1   = "EC PRIVATE KEY"
	blockEnc    = "ENCRYPTED PRIVATE KEY"
	blockParams = "EC PARAMETERS"
)

// ParseCertificates reads all certificates of a PEM file, in order: at least one. It
// ignores text around the blocks, as RFC 7468, section 2, allows. Errors say which block
// is bad and what to do about DER, a private key or a request in the wrong place; they do
// not name the file.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	return parseCertificates(data, nil)
}

// parseCertificates skips private keys if mode is given and is that of a key file.
func parseCertificates(data []byte, mode *fs.FileMode) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	keys := 0
	err := blocks(data, func(n int, b *pem.Block) error {
		switch {
		case b.Type == blockCert:
		case mode != nil && strings.HasSuffix(b.Type, blockPKCS8) && mode.Perm()&0o007 == 0:
			keys++
			return nil
		case mode != nil && strings.HasSuffix(b.Type, blockPKCS8):
			return fmt.Errorf("block %d is a private key (%s), and the file is open to everyone (mode %04o): close it with `chmod o= FILE`, or keep the key in a file of its own", n, quote(b.Type), mode.Perm())
		case otherForm(b.Type) != "":
			return fmt.Errorf("block %d %s%s", n, otherForm(b.Type), aloneIn(b.Type, data))
		case strings.HasSuffix(b.Type, blockPKCS8):
			return fmt.Errorf("block %d is a private key (%s): certificates and keys belong into separate files, the key readable by its owner only", n, quote(b.Type))
		case b.Type == blockCSR, b.Type == blockOldCSR:
			return fmt.Errorf("block %d is a certificate request, not a certificate: have a CA sign it first", n)
		case b.Type == blockParams:
			return nil
		default:
			return fmt.Errorf("block %d is %s, not a certificate", n, quote(b.Type))
		}
		c, err := certread.Certificate(b.Bytes)
		if err != nil {
			return fmt.Errorf("block %d: %w", n, err)
		}
		certs = append(certs, c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if len(certs) == 0 && keys > 0 {
		return nil, errors.New("contains a private key, but no certificate: are the two files mixed up?")
	}
	if len(certs) == 0 {
		return nil, errors.New("contains no certificate (no block " + `"-----BEGIN CERTIFICATE-----")`)
	}
	return certs, nil
}

// ParseKey reads the only private key of a PEM file: PKCS#8, PKCS#1 (RSA) or SEC 1 (EC).
// It ignores certificates. For an encrypted key the error has the command that decrypts
// it.
func ParseKey(data []byte) (crypto.Signer, error) {
	key, _, err := DecryptKey(data, nil)
	return key, err
}

// DecryptKey is ParseKey for a key that may be encrypted with a passphrase: PKCS#8 with
// PBES2 (RFC 8018, section 6.2). A nil passphrase is none. encrypted says whether it was.
func DecryptKey(data, passphrase []byte) (key crypto.Signer, encrypted bool, err error) {
	certs := 0
	err = blocks(data, func(n int, b *pem.Block) error {
		switch {
		case b.Type == blockCert:
			certs++
			return nil
		case b.Type == blockParams:
			return nil
		case b.Type == blockEnc && passphrase != nil && key == nil:
			encrypted = true
			k, err := decrypt(b.Bytes, passphrase)
			if err != nil {
				return fmt.Errorf("block %d: %w", n, err)
			}
			key = k
			return nil
		case b.Type == blockEnc, strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED"):
			return errors.New("the key is encrypted, and no passphrase of it is known: name the place of one (passphrase), which decrypts keys of PKCS#8's form, or decrypt it with " + fromKey)
		case otherForm(b.Type) != "":
			return fmt.Errorf("block %d %s", n, otherForm(b.Type))
		case b.Type == blockCSR, b.Type == blockOldCSR:
			return fmt.Errorf("block %d is a certificate request: its key was written beside it when it was made", n)
		case !strings.HasSuffix(b.Type, blockPKCS8):
			return fmt.Errorf("block %d is %s, not a private key", n, quote(b.Type))
		case b.Type == "OPENSSH PRIVATE KEY":
			return fmt.Errorf("block %d is a key in OpenSSH's own form: convert it with %s", n, fromSSH)
		case key != nil:
			return fmt.Errorf("block %d is a second private key: keep one key a file", n)
		}
		k, err := parseKeyDER(b.Type, b.Bytes)
		if err != nil {
			return fmt.Errorf("block %d: %w", n, err)
		}
		key = k
		return nil
	})
	switch {
	case err != nil:
		return nil, encrypted, err
	case key == nil && certs > 0:
		return nil, false, errors.New("contains a certificate, but no private key: are the two files mixed up?")
	case key == nil:
		return nil, false, errors.New(`contains no private key (no block "-----BEGIN PRIVATE KEY-----")`)
	}
	return key, encrypted, nil
}

// CheckPair says whether a key belongs to a certificate.
func CheckPair(cert *x509.Certificate, key crypto.Signer) error {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok {
		return fmt.Errorf("cannot compare a key of type %T", key)
	}
	if !pub.Equal(cert.PublicKey) {
		return fmt.Errorf("the key does not fit the certificate of %s: the certificate has an %s key, this is an %s key%s",
			subject(cert), keykind.NameOf(cert.PublicKey), keykind.NameOf(key.Public()), sameKind(cert.PublicKey, key.Public()))
	}
	return nil
}

func sameKind(a, b crypto.PublicKey) string {
	if keykind.NameOf(a) == keykind.NameOf(b) {
		return ", but another one"
	}
	return ""
}

// parseKeyDER first tries the form that the block's label names. It then tries the
// others, because OpenSSL also accepts a key under the wrong label.
func parseKeyDER(kind string, der []byte) (crypto.Signer, error) {
	k8, err8 := x509.ParsePKCS8PrivateKey(der)
	if err8 == nil {
		if k, ok := keykind.Signer(k8); ok {
			return k, nil
		}
		return nil, fmt.Errorf("a key of type %T cannot sign a TLS handshake: use RSA, ECDSA, Ed25519 or ML-DSA", k8)
	}
	switch text := err8.Error(); {
	case strings.Contains(text, "both seed and expanded key"):
		return nil, errors.New("it is an ML-DSA key with both its seed and its expanded form, and only the seed alone is read (RFC 9881, section 6): convert it with `openssl pkey -in FILE -provparam ml-dsa.output_formats=seed-only -out NEWFILE` (OpenSSL 3.5 or later)")
	case strings.Contains(text, "without seed"):
		return nil, errors.New("it is an ML-DSA key in its expanded form, and only the seed is read (RFC 9881, section 6), which cannot be found from it: make a new key (`sslgate pki issue --key ml-dsa-87`), or take the seed from where the key was made")
	}
	k1, err1 := x509.ParsePKCS1PrivateKey(der)
	if err1 == nil {
		return k1, nil
	}
	kec, errEC := x509.ParseECPrivateKey(der)
	if errEC == nil {
		return kec, nil
	}
	err := err8
	switch kind {
	case blockPKCS1:
		err = err1
	case blockSEC1:
		err = errEC
	}
	return nil, fmt.Errorf("private key (%s) cannot be decoded: %w", quote(kind), err)
}

// blocks calls f for each PEM block, counted from 1. For data that is not PEM the error
// says what it is.
func blocks(data []byte, f func(n int, b *pem.Block) error) error {
	if len(data) > maxPEM {
		return fmt.Errorf("is %d bytes long; more than %d is not read", len(data), maxPEM)
	}
	if bytes.HasPrefix(data, []byte(jks)) || bytes.HasPrefix(data, []byte(jceks)) {
		return errJKS
	}
	if len(data) > 1 && data[0] == 0x30 && data[1] >= 0x80 { // a SEQUENCE, in DER or BER: no text begins so
		return notPEM(data)
	}
	n := 0
	err := pemfile.Each(data, func(b pemfile.Block) error {
		n++
		if err := f(n, &b.Block); err != nil {
			return fmt.Errorf("line %d: %w", b.Line, err)
		}
		return nil
	})
	if errors.Is(err, pemfile.ErrNone) {
		return notPEM(data)
	}
	return err
}

func isOK[T any](_ T, err error) bool { return err == nil }
