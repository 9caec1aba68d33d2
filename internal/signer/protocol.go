// Package signer keeps private keys out of the gateway: a process of its own has them and
// signs, over a Unix socket. It has both ends of the protocol, which docs/signer.md
// describes, so that others can write signers too.
package signer

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// A message is one line of JSON, of at most MaxMessage bytes with its newline. The gateway
// asks, the signer answers, in this order, one question at a time on a connection. Bytes are
// in base64.

// MaxMessage bounds a message in bytes: a signer with a hundred keys of RSA 4096 bits fits.
const MaxMessage = 128 << 10

// Request is what the gateway asks.
type Request struct {
	// Do is "keys" or "sign".
	Do string `json:"do"`
	// Key is the lower-case hex SHA-256 of the key's SubjectPublicKeyInfo.
	Key string `json:"key,omitempty"`
	// Scheme is the number of the signature scheme (RFC 8446, section 4.2.3). It says the
	// hash, and the padding of RSA: PSS has a salt as long as the hash.
	Scheme tls.SignatureScheme `json:"scheme,omitempty"`
	// Digest is the hash of what is signed; of schemes without a hash of their own, such as
	// ed25519, what is signed itself.
	Digest []byte `json:"digest,omitempty"`
}

// Response is what the signer answers.
type Response struct {
	Keys      []KeyInfo `json:"keys,omitempty"`
	Signature []byte    `json:"signature,omitempty"` // as TLS has it: of ECDSA in DER
	// Error says why there is no answer; it is shown to the gateway's operator.
	Error string `json:"error,omitempty"`
}

// KeyInfo is a key that the signer has.
type KeyInfo struct {
	// Public is the SubjectPublicKeyInfo in DER (RFC 5280, section 4.1.2.7).
	Public []byte `json:"public"`
	// Schemes are what it signs with. Empty: all that a key of its kind can.
	Schemes []tls.SignatureScheme `json:"schemes,omitempty"`
}

// The words of Request.Do.
const (
	doKeys = "keys"
	doSign = "sign"
)

// Name is what a Request calls a public key.
func Name(pub crypto.PublicKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return "", err
	}
	return nameOf(der), nil
}

func nameOf(der []byte) string {
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

var (
	errTooLong  = fmt.Errorf("a message of more than %d bytes", MaxMessage)
	errNoScheme = errors.New("no signature scheme of TLS")
)

// write sends one message.
func write(w io.Writer, message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(text) >= MaxMessage {
		return errTooLong
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// read receives one message. r has a buffer of MaxMessage bytes.
func read(r *bufio.Reader, into any) error {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return errTooLong
	}
	if err != nil {
		if len(line) > 0 && errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	d := json.NewDecoder(bytes.NewReader(line))
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("no message: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one message in a line")
	}
	return nil
}

// schemeOf is the scheme of an operation that a TLS engine asks a crypto.Signer for.
func schemeOf(pub crypto.PublicKey, opts crypto.SignerOpts) (tls.SignatureScheme, error) {
	h := opts.HashFunc()
	_, isRSA := pub.(*rsa.PublicKey)
	_, isPSS := opts.(*rsa.PSSOptions)
	for _, s := range schemes() {
		if s.hash == h && s.rsa == isRSA && s.pss == isPSS && (h != 0 || s.fits(pub)) {
			return s.id, nil
		}
	}
	return 0, fmt.Errorf("%w for %T with %v", errNoScheme, pub, h)
}

// optionsOf is the reverse.
func optionsOf(id tls.SignatureScheme) (crypto.SignerOpts, error) {
	for _, s := range schemes() {
		if s.id != id {
			continue
		}
		if s.pss {
			return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.hash}, nil
		}
		return s.hash, nil
	}
	return nil, fmt.Errorf("%w: %d", errNoScheme, uint16(id))
}
