package native

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes of the schemes
	_ "crypto/sha512"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/keykind"
)

// This file is the CertificateVerify of RFC 8446, section 4.4.3, and of RFC 5246, section
// 7.4.8, and the signature of a ServerKeyExchange.

var (
	errNoSignature = errors.New("the signature does not verify")
	errWrongScheme = errors.New("the signature scheme does not fit the key")
)

// hashOf is the hash of a scheme; 0 is one that signs the content itself.
func hashOf(scheme uint16) crypto.Hash {
	switch tls.SignatureScheme(scheme) {
	case tls.ECDSAWithP256AndSHA256, tls.PSSWithSHA256, tls.PKCS1WithSHA256:
		return crypto.SHA256
	case tls.ECDSAWithP384AndSHA384, tls.PSSWithSHA384, tls.PKCS1WithSHA384:
		return crypto.SHA384
	case tls.ECDSAWithP521AndSHA512, tls.PSSWithSHA512, tls.PKCS1WithSHA512:
		return crypto.SHA512
	}
	return 0
}

// digest is what the key's operation is given.
func digest(scheme uint16, content []byte) ([]byte, crypto.Hash) {
	h := hashOf(scheme)
	if h == 0 {
		return content, 0
	}
	sum := h.New()
	sum.Write(content)
	return sum.Sum(nil), h
}

// sign signs with the key of one of our certificates, which fits the scheme.
func sign(c *tls.Certificate, scheme uint16, content []byte) ([]byte, error) {
	key, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T signs nothing", c.PrivateKey)
	}
	input, hash := digest(scheme, content)
	opts := crypto.SignerOpts(hash)
	if _, isRSA := key.Public().(*rsa.PublicKey); isRSA && !slices.Contains(schemesCert(), scheme) { // section 4.2.3: the salt is as long as the hash
		opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
	}
	signature, err := key.Sign(rand.Reader, input, opts)
	if err != nil {
		return nil, fmt.Errorf("sign with %s: %w", handshake.SchemeName(scheme), err)
	}
	return signature, nil
}

// usableKey says whether anything can be verified with a peer's key in TLS 1.3, within
// a bounded time.
func usableKey(pub crypto.PublicKey) bool {
	k := keykind.Of(pub)
	return len(handshake.SchemesOf(tls.VersionTLS13, pub)) > 0 && k.Bits <= keykind.MostBits(k.Type)
}

// verify checks a signature with the key of a peer in a version of TLS. errWrongScheme is
// for a scheme that does not belong to the key.
func verify(version uint16, pub crypto.PublicKey, scheme uint16, content, signature []byte) error {
	if !usableKey(pub) || !slices.Contains(handshake.SchemesOf(version, pub), tls.SignatureScheme(scheme)) {
		return errWrongScheme
	}
	input, hash := digest(scheme, content)
	good := false
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		good = ecdsa.VerifyASN1(k, input, signature)
	case *rsa.PublicKey:
		if slices.Contains(schemesCert(), scheme) { // RFC 8017, section 8.2: TLS 1.2 alone
			good = rsa.VerifyPKCS1v15(k, hash, input, signature) == nil
			break
		}
		good = rsa.VerifyPSS(k, hash, input, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
	case ed25519.PublicKey:
		good = ed25519.Verify(k, input, signature)
	case *mldsa.PublicKey:
		good = mldsa.Verify(k, input, signature, nil) == nil
	}
	if !good {
		return errNoSignature
	}
	return nil
}
