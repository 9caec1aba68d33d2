package identity

import (
	"crypto"
	"errors"
	"io"
)

// NoKey is in the place of the key of a certificate that is not there yet: what the key will be
// good for is known by Of, a public key, and nothing is done with it. Good takes no certificate
// that has it.
type NoKey struct{ Of crypto.PublicKey }

var errNoKey = errors.New("there is no certificate yet, and no key")

// Public is Of.
func (k NoKey) Public() crypto.PublicKey { return k.Of }

// Sign fails.
func (k NoKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errNoKey }

// Decrypt fails.
func (k NoKey) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) {
	return nil, errNoKey
}
