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
	// Proven is set by the engine, and only after the handshake proved
	// possession of the leaf's key.
	Proven bool
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
