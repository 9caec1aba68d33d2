package pki

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/scrypt"
)

// This file reads PKCS#8's EncryptedPrivateKeyInfo (RFC 5958, section 3) with PBES2 (RFC
// 8018, section 6.2): PBKDF2 or scrypt (RFC 7914) makes the key, AES or 3DES in CBC mode is
// the cipher. OpenSSL writes AES-256 with PBKDF2 and HMAC-SHA-256.

// Bounds of the work that a file can ask for: some seconds.
const (
	maxIterations = 10_000_000 // OpenSSL writes 2048, OWASP asks for 600,000
	maxScrypt     = 1 << 26    // bytes of memory, 128*N*r; OpenSSL's default takes 16 MiB
	maxParallel   = 4          // times that much work
)

var (
	oidPBES2  = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 13}
	oidPBKDF2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 5, 12}
	oidScrypt = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11591, 4, 11}
)

// errPassphrase says that what was decrypted is no key.
var errPassphrase = errors.New("the passphrase does not decrypt the key")

type encryptedInfo struct {
	Algorithm pkix.AlgorithmIdentifier
	Data      []byte
}

type pbes2 struct {
	KDF    pkix.AlgorithmIdentifier
	Cipher pkix.AlgorithmIdentifier
}

type pbkdf2Params struct {
	Salt       []byte
	Iterations int
	Length     int                      `asn1:"optional"`
	PRF        pkix.AlgorithmIdentifier `asn1:"optional"`
}

type scryptParams struct {
	Salt    []byte
	N, R, P int
	Length  int `asn1:"optional"`
}

// Passphrase is the one in a text of one line, its own copy; the text is overwritten.
func Passphrase(text []byte) []byte {
	p := bytes.Clone(bytes.TrimRight(text, "\r\n"))
	clear(text)
	return p
}

// decrypt reads a key of the form above.
func decrypt(der, passphrase []byte) (crypto.Signer, error) {
	var e encryptedInfo
	var p pbes2
	if err := unmarshal(der, &e); err != nil {
		return nil, fmt.Errorf("encrypted private key cannot be decoded: %w", err)
	}
	if !e.Algorithm.Algorithm.Equal(oidPBES2) {
		return nil, fmt.Errorf("the key is encrypted with %s, and only PBES2 is read (RFC 8018): decrypt it with %s", e.Algorithm.Algorithm, fromKey)
	}
	if err := unmarshal(e.Algorithm.Parameters.FullBytes, &p); err != nil {
		return nil, fmt.Errorf("parameters of PBES2 cannot be decoded: %w", err)
	}
	size, block, err := cipherOf(p.Cipher.Algorithm)
	if err != nil {
		return nil, err
	}
	key, err := derive(p.KDF, passphrase, size)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	var iv []byte
	if err := unmarshal(p.Cipher.Parameters.FullBytes, &iv); err != nil {
		return nil, fmt.Errorf("parameters of the cipher cannot be decoded: %w", err)
	}
	b, err := block(key)
	if err != nil {
		return nil, err
	}
	if n := b.BlockSize(); len(iv) != n || len(e.Data) == 0 || len(e.Data)%n != 0 {
		return nil, errors.New("the encrypted private key has a wrong length")
	}
	plain := make([]byte, len(e.Data))
	defer clear(plain)
	cipher.NewCBCDecrypter(b, iv).CryptBlocks(plain, e.Data)
	// Who tries passphrases has the file: nothing is given away by which check fails.
	pad := int(plain[len(plain)-1])
	if pad == 0 || pad > b.BlockSize() {
		return nil, errPassphrase
	}
	for _, c := range plain[len(plain)-pad:] {
		if int(c) != pad {
			return nil, errPassphrase
		}
	}
	inner := plain[:len(plain)-pad]
	var outer asn1.RawValue
	if err := unmarshal(inner, &outer); err != nil || outer.Tag != asn1.TagSequence {
		return nil, errPassphrase
	}
	return parseKeyDER(blockPKCS8, inner)
}

// unmarshal wants all of der.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	return err
}

// cipherOf is a cipher with the size of its key in bytes.
func cipherOf(id asn1.ObjectIdentifier) (int, func([]byte) (cipher.Block, error), error) {
	switch id.String() {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher, nil
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher, nil
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher, nil
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher, nil
	}
	return 0, nil, fmt.Errorf("the key is encrypted with the cipher %s, and only AES and 3DES in CBC mode are read: encrypt it anew with `openssl pkcs8 -topk8 -v2 aes-256-cbc`", id)
}

// derive makes a key of so many bytes.
func derive(kdf pkix.AlgorithmIdentifier, passphrase []byte, size int) ([]byte, error) {
	switch {
	case kdf.Algorithm.Equal(oidPBKDF2):
		var p pbkdf2Params
		if err := unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return nil, fmt.Errorf("parameters of PBKDF2 cannot be decoded: %w", err)
		}
		if p.Iterations < 1 || p.Iterations > maxIterations || p.Length != 0 && p.Length != size {
			return nil, fmt.Errorf("PBKDF2 with %d iterations and a key of %d bytes: 1 to %d iterations are done", p.Iterations, p.Length, maxIterations)
		}
		h, err := prfOf(p.PRF.Algorithm)
		if err != nil {
			return nil, err
		}
		return pbkdf2.Key(h, string(passphrase), p.Salt, p.Iterations, size)
	case kdf.Algorithm.Equal(oidScrypt):
		var p scryptParams
		if err := unmarshal(kdf.Parameters.FullBytes, &p); err != nil {
			return nil, fmt.Errorf("parameters of scrypt cannot be decoded: %w", err)
		}
		if p.N < 2 || p.R < 1 || p.P < 1 || p.P > maxParallel || p.R > maxScrypt/128 || p.N > maxScrypt/128/p.R || p.Length != 0 && p.Length != size {
			return nil, fmt.Errorf("scrypt with N %d, r %d, p %d takes too much memory or time", p.N, p.R, p.P)
		}
		return scrypt.Key(passphrase, p.Salt, p.N, p.R, p.P, size)
	}
	return nil, fmt.Errorf("the key is encrypted with a key of %s, and only PBKDF2 and scrypt are known", kdf.Algorithm)
}

// prfOf is the hash of HMAC; absent it is SHA-1 (RFC 8018, appendix A.2).
func prfOf(id asn1.ObjectIdentifier) (func() hash.Hash, error) {
	switch id.String() {
	case "", "1.2.840.113549.2.7":
		return sha1.New, nil
	case "1.2.840.113549.2.9":
		return sha256.New, nil
	case "1.2.840.113549.2.10":
		return sha512.New384, nil
	case "1.2.840.113549.2.11":
		return sha512.New, nil
	}
	return nil, fmt.Errorf("PBKDF2 with the pseudorandom function %s, and only HMAC with SHA-1 and SHA-2 is known", id)
}
