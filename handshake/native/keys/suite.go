// Package keys is the key schedule of TLS 1.3 (RFC 8446, section 7), the hash of the
// transcript (section 4.4.1), and the key exchange (section 4.2.8). The functions that
// are composed here are those of the standard library and golang.org/x/crypto.
//
// Secrets of our own are cleared when they are used up: what the standard library has
// copied meanwhile it does not clear.
package keys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"
)

// Suite is a CipherSuite of TLS 1.3 (RFC 8446, appendix B.4): an AEAD and a hash.
type Suite struct {
	ID       uint16
	HashSize int // bytes

	// MaxRecords is how many records one key may seal (RFC 8446, section 5.5): 2^24.5
	// of full size for AES-GCM, here 2^24; with ChaCha20-Poly1305 the sequence number ends first.
	MaxRecords uint64

	keyLen int  // bytes
	chacha bool // the AEAD is ChaCha20-Poly1305; else AES-GCM
}

// maxKey is the longest key of an AEAD, in bytes.
const maxKey = chacha20poly1305.KeySize

// SuiteOf finds a CipherSuite by its number; nil for one that is not implemented.
func SuiteOf(id uint16) *Suite {
	switch id {
	case tls.TLS_AES_128_GCM_SHA256:
		return &Suite{ID: id, HashSize: sha256.Size, MaxRecords: 1 << 24, keyLen: 16}
	case tls.TLS_AES_256_GCM_SHA384:
		return &Suite{ID: id, HashSize: sha512.Size384, MaxRecords: 1 << 24, keyLen: 32}
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		return &Suite{ID: id, HashSize: sha256.Size, MaxRecords: 1 << 60, keyLen: chacha20poly1305.KeySize, chacha: true}
	}
	return nil
}

// Hash is the hash of data, HashSize bytes.
func (s *Suite) Hash(data []byte) []byte {
	var out [maxHash]byte
	s.sum(&out, data)
	return append(make([]byte, 0, maxHash), out[:s.HashSize]...)
}

// newHash begins a hash of the suite.
func (s *Suite) newHash() hash.Hash {
	if s.HashSize == sha256.Size {
		return sha256.New()
	}
	return sha512.New384()
}

// aead is the AEAD with a key of keyLen bytes.
func (s *Suite) aead(key []byte) (cipher.AEAD, error) {
	if s.chacha {
		return chacha20poly1305.New(key)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// SameHash says whether a PSK of one suite can be used with another (RFC 8446, section
// 4.2.11).
func (s *Suite) SameHash(o *Suite) bool { return s.HashSize == o.HashSize }
