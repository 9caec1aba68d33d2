package keys

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"

	"golang.org/x/crypto/chacha20poly1305"
)

// Suite12 is a CipherSuite of TLS 1.2 with ECDHE and an AEAD (RFC 5289, section 3.2; RFC
// 7905, section 2). There are no others.
type Suite12 struct {
	Suite
	RSA bool // the server signs with an RSA key; else with an ECDSA or EdDSA key

	fixedIV int // bytes of the IV that the keys have: the rest stands in the records
}

// Suites12 are those that are implemented, in no order of preference.
func Suites12() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// Suite12Of finds a CipherSuite by its number; nil for one that is not implemented.
func Suite12Of(id uint16) *Suite12 {
	switch id {
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return &Suite12{
			Suite: Suite{ID: id, HashSize: sha256.Size, keyLen: 16},
			RSA:   id == tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, fixedIV: NonceSize - ExplicitNonce,
		}
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return &Suite12{
			Suite: Suite{ID: id, HashSize: sha512.Size384, keyLen: 32},
			RSA:   id == tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, fixedIV: NonceSize - ExplicitNonce,
		}
	case tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return &Suite12{
			Suite: Suite{ID: id, HashSize: sha256.Size, keyLen: chacha20poly1305.KeySize, chacha: true},
			RSA:   id == tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, fixedIV: NonceSize,
		}
	}
	return nil
}
