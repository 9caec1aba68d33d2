package handshake

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// Peer is what the other side's certificate says. It is a claim until Proven:
// crypto/tls calls its verification hooks before the peer has proved that it
// holds the key, in TLS 1.2 and in TLS 1.3.
type Peer struct {
	// Shown is the chain as the peer sent it, leaf first, never empty.
	Shown []*x509.Certificate
	// Chain is the verified chain from leaf to trust anchor; nil until verified.
	Chain []*x509.Certificate
	// Authority is the name of the Authority the chain leads to.
	Authority string
	// Refusal is why the chain did not verify. It is set only where the
	// handshake went on in spite of it (Params.Observe); Chain is nil and
	// Authority "" then. Nobody is allowed anything by such a Peer.
	Refusal *Error
	// Proven is set by the engine, and only after the handshake proved
	// possession of the leaf's key.
	Proven bool
	// OCSPStaple is the OCSP answer (RFC 6960, DER) that a TLS 1.3 client sent
	// with its certificate (RFC 8446, section 4.4.2.1), nil if it sent none. It
	// is not looked at by this package: a claim until somebody verified it.
	OCSPStaple []byte
	// SignatureScheme of the peer's CertificateVerify, 0 if not seen.
	SignatureScheme uint16
}

// Leaf returns the peer's own certificate.
func (p *Peer) Leaf() *x509.Certificate { return p.Shown[0] }

// SPKI returns the lower-case hex SHA-256 of the leaf's SubjectPublicKeyInfo
// (the pin of RFC 7469, section 2.4, in hex).
func (p *Peer) SPKI() string {
	h := sha256.Sum256(p.Leaf().RawSubjectPublicKeyInfo)
	return hex.EncodeToString(h[:])
}
