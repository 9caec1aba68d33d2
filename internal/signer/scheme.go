package signer

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the schemes
	_ "crypto/sha512"
	"crypto/tls"
	"errors"
	"fmt"
)

// scheme is a signature scheme of TLS (RFC 8446, section 4.2.3).
type scheme struct {
	id       tls.SignatureScheme
	hash     crypto.Hash // 0: what is signed is not hashed before
	rsa, pss bool
}

// schemes are those that a signer can be asked for. Those of ECDSA say the hash alone: in
// TLS 1.2 any curve goes with any.
func schemes() []scheme {
	return []scheme{
		{tls.ECDSAWithP256AndSHA256, crypto.SHA256, false, false},
		{tls.ECDSAWithP384AndSHA384, crypto.SHA384, false, false},
		{tls.ECDSAWithP521AndSHA512, crypto.SHA512, false, false},
		{tls.PSSWithSHA256, crypto.SHA256, true, true},
		{tls.PSSWithSHA384, crypto.SHA384, true, true},
		{tls.PSSWithSHA512, crypto.SHA512, true, true},
		{tls.PKCS1WithSHA256, crypto.SHA256, true, false},
		{tls.PKCS1WithSHA384, crypto.SHA384, true, false},
		{tls.PKCS1WithSHA512, crypto.SHA512, true, false},
		{tls.Ed25519, 0, false, false},
	}
}

// fits says whether a scheme without a hash is one of the key.
func (s scheme) fits(pub crypto.PublicKey) bool {
	_, ok := pub.(ed25519.PublicKey)
	return ok && s.id == tls.Ed25519
}

var errNotVerified = errors.New("the signature does not verify")

// verify looks at a signature before anybody else does: a faulty one of an RSA key can give
// the key away (Boneh, DeMillo, Lipton 1997), and of a wrong key it is a riddle to the peer.
func verify(pub crypto.PublicKey, digest, signature []byte, opts crypto.SignerOpts) error {
	good := false
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(pub, digest, signature)
	case ed25519.PublicKey:
		good = ed25519.Verify(pub, digest, signature)
	case *rsa.PublicKey:
		if pss, ok := opts.(*rsa.PSSOptions); ok {
			good = rsa.VerifyPSS(pub, opts.HashFunc(), digest, signature, pss) == nil
		} else {
			good = rsa.VerifyPKCS1v15(pub, opts.HashFunc(), digest, signature) == nil
		}
	default:
		return fmt.Errorf("a key of type %T cannot be a signer's", pub)
	}
	if !good {
		return errNotVerified
	}
	return nil
}
