package keys

import (
	"crypto/cipher"
	"fmt"
	"io"
	"slices"
)

const (
	// MasterSize is the length of a master secret, in bytes (RFC 5246, section 8.1).
	MasterSize = 48
	// finishedSize is the length of verify_data, in bytes (section 7.4.9).
	finishedSize = 12
	// ExplicitNonce is the part of an AES-GCM nonce that stands in the record, in bytes
	// (RFC 5288, section 3).
	ExplicitNonce = 8
)

// Master12 is the master secret of TLS 1.2 (RFC 5246, section 8.1; RFC 7627, section 4).
type Master12 struct {
	suite *Suite12
	value []byte
}

// NewMaster12 makes the master secret of the key exchange's shared secret, which is
// cleared, and both randoms: without extended_master_secret.
func NewMaster12(s *Suite12, shared []byte, client, server *[32]byte) *Master12 {
	defer clear(shared)
	return &Master12{s, s.prf(shared, "master secret", slices.Concat(client[:], server[:]), MasterSize)}
}

// NewExtendedMaster12 is that of RFC 7627, section 4: sessionHash is the hash of all
// messages up to ClientKeyExchange, this one included. The shared secret is cleared.
func NewExtendedMaster12(s *Suite12, shared, sessionHash []byte) *Master12 {
	defer clear(shared)
	return &Master12{s, s.prf(shared, "extended master secret", sessionHash, MasterSize)}
}

// ResumedMaster12 is the master secret of a session that is gone on with; nil where it has
// another length. The caller clears its own copy.
func ResumedMaster12(s *Suite12, value []byte) *Master12 {
	if len(value) != MasterSize {
		return nil
	}
	return &Master12{s, slices.Clone(value)}
}

// Secret is a copy for a ticket, which the caller clears.
func (m *Master12) Secret() []byte { return slices.Clone(m.value) }

// Format keeps the secret out of whatever prints one by mistake, with any verb.
func (m Master12) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, redacted) }

// Clear forgets the secret.
func (m *Master12) Clear() {
	if m != nil {
		clear(m.value)
	}
}

// ClientFinished is the verify_data of the client's Finished (RFC 5246, section 7.4.9).
func (m *Master12) ClientFinished(transcript []byte) []byte {
	return m.suite.prf(m.value, "client finished", transcript, finishedSize)
}

// ServerFinished is that of the server's.
func (m *Master12) ServerFinished(transcript []byte) []byte {
	return m.suite.prf(m.value, "server finished", transcript, finishedSize)
}

// Expand makes the keys of both directions (section 6.3): an AEAD has no MAC keys.
func (m *Master12) Expand(client, server *[32]byte) (ofClient, ofServer *Traffic12) {
	s := m.suite
	block := s.prf(m.value, "key expansion", slices.Concat(server[:], client[:]), 2*(s.keyLen+s.fixedIV))
	part := func(n int) []byte {
		p := block[:n:n]
		block = block[n:]
		return p
	}
	ofClient, ofServer = &Traffic12{suite: s}, &Traffic12{suite: s}
	ofClient.key, ofServer.key = part(s.keyLen), part(s.keyLen)
	ofClient.iv, ofServer.iv = part(s.fixedIV), part(s.fixedIV)
	return ofClient, ofServer
}

// Traffic12 are the write keys of one direction.
type Traffic12 struct {
	suite   *Suite12
	key, iv []byte
}

// Protection is the AEAD of the direction, and the IV that a record's sequence number is
// added to. explicit says that the nonce is the IV's first four bytes and eight that
// stand in the record (RFC 5288, section 3); else it is made as in TLS 1.3 (RFC 7905,
// section 2).
func (t *Traffic12) Protection() (aead cipher.AEAD, iv [NonceSize]byte, explicit bool) {
	aead, err := t.suite.aead(t.key)
	if err != nil {
		panic(fmt.Sprintf("keys: %v", err)) // the key has the right length
	}
	copy(iv[:], t.iv)
	return aead, iv, t.suite.fixedIV < NonceSize
}

// Format keeps the keys out of whatever prints them by mistake, with any verb.
func (t Traffic12) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, redacted) }

// Clear forgets the keys: what Protection has made of them stays with its caller.
func (t *Traffic12) Clear() {
	if t != nil {
		clear(t.key)
		clear(t.iv)
	}
}

// prf is the pseudorandom function of the suite: P_hash with its hash (RFC 5246, section
// 5; RFC 5289, section 3.2).
func (s *Suite12) prf(secret []byte, label string, seed []byte, n int) []byte {
	labelled := append([]byte(label), seed...)
	var a, block [maxHash]byte
	defer clear(a[:])
	defer clear(block[:])
	out := make([]byte, 0, n+s.HashSize) // so that no copy is left where it grew
	for s.mac(&a, secret, labelled); len(out) < n; s.mac(&a, secret, a[:s.HashSize]) {
		s.mac(&block, secret, a[:s.HashSize], labelled)
		out = append(out, block[:s.HashSize]...)
	}
	clear(out[n:cap(out)])
	return out[:n:n]
}
