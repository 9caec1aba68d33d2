package keys

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"
	"io"
)

// The schedule of RFC 8446, section 7.1, as three types: each is made of the one
// before, which is cleared with that. A transcript is Transcript.Sum, at the message
// that the RFC names.

// Early is the Early Secret.
type Early struct{ secret }

// Handshake is the Handshake Secret.
type Handshake struct{ secret }

// Master is the Master Secret.
type Master struct{ secret }

// Traffic is a traffic secret: one direction, one epoch.
type Traffic struct{ secret }

// secret is a secret of a CipherSuite's hash.
type secret struct {
	suite *Suite
	room  [maxHash]byte
}

// value is the secret, HashSize bytes.
func (s *secret) value() []byte { return s.room[:s.suite.HashSize] }

// redacted is what is printed of every secret.
const redacted = "(a secret)"

// Format keeps the secret out of whatever prints one by mistake, with any verb.
func (s secret) Format(to fmt.State, _ rune) { _, _ = io.WriteString(to, redacted) }

// NewEarly makes the Early Secret of a PSK; nil is no PSK.
func NewEarly(s *Suite, psk []byte) *Early {
	var none [maxHash]byte
	if psk == nil {
		psk = none[:s.HashSize]
	}
	e := &Early{secret{suite: s}}
	s.extract(&e.room, psk, nil)
	return e
}

// Binder is what a binder of a resumption PSK must be (section 4.2.11.2): the
// transcript ends with the truncated ClientHello.
func (e *Early) Binder(transcript []byte) []byte {
	key := Traffic{secret{suite: e.suite}}
	defer key.Clear()
	e.derive(key.value(), "res binder", e.suite.Hash(nil))
	return key.Finished(transcript)
}

// Handshake goes on with the shared secret of the key exchange, and clears both.
func (e *Early) Handshake(shared []byte) *Handshake {
	defer clear(shared)
	h := &Handshake{secret{suite: e.suite}}
	e.next(&h.secret, shared)
	return h
}

// Client is client_handshake_traffic_secret; the transcript ends with ServerHello.
func (h *Handshake) Client(transcript []byte) *Traffic { return h.traffic("c hs traffic", transcript) }

// Server is server_handshake_traffic_secret.
func (h *Handshake) Server(transcript []byte) *Traffic { return h.traffic("s hs traffic", transcript) }

// Master goes on to the Master Secret.
func (h *Handshake) Master() *Master {
	var zero [maxHash]byte
	m := &Master{secret{suite: h.suite}}
	h.next(&m.secret, zero[:h.suite.HashSize])
	return m
}

// Client is client_application_traffic_secret_0; the transcript ends with the
// server's Finished.
func (m *Master) Client(transcript []byte) *Traffic { return m.traffic("c ap traffic", transcript) }

// Server is server_application_traffic_secret_0.
func (m *Master) Server(transcript []byte) *Traffic { return m.traffic("s ap traffic", transcript) }

// Resumption is resumption_master_secret; the transcript ends with the client's
// Finished.
func (m *Master) Resumption(transcript []byte) *Resumption {
	r := &Resumption{secret{suite: m.suite}}
	m.derive(r.value(), "res master", transcript)
	return r
}

// Resumption is what the PSKs of tickets are made of.
type Resumption struct{ secret }

// PSK is that of the ticket with a nonce (section 4.6.1).
func (r *Resumption) PSK(nonce []byte) []byte {
	psk := make([]byte, r.suite.HashSize)
	r.expandLabel(psk, "resumption", nonce)
	return psk
}

// Next is the secret of the epoch behind a KeyUpdate (section 7.2); this one is
// cleared.
func (t *Traffic) Next() *Traffic {
	defer t.Clear()
	next := &Traffic{secret{suite: t.suite}}
	t.expandLabel(next.value(), "traffic upd", nil)
	return next
}

// Finished is the verify_data of a Finished message (section 4.4.4).
func (t *Traffic) Finished(transcript []byte) []byte {
	var room [maxHash]byte
	defer clear(room[:])
	key := room[:t.suite.HashSize]
	t.expandLabel(key, "finished", nil)
	var data [maxHash]byte
	t.suite.mac(&data, key, transcript)
	return append(make([]byte, 0, maxHash), data[:t.suite.HashSize]...)
}

// Suite is the CipherSuite of the secret.
func (t *Traffic) Suite() *Suite { return t.suite }

// NonceSize is that of every AEAD of TLS 1.3 in use, in bytes.
const NonceSize = 12

// Protection is the AEAD of the epoch and its IV (section 7.3).
func (t *Traffic) Protection() (cipher.AEAD, [NonceSize]byte) {
	var room [maxKey]byte
	defer clear(room[:])
	key := room[:t.suite.keyLen]
	t.expandLabel(key, "key", nil)
	var iv [NonceSize]byte
	t.expandLabel(iv[:], "iv", nil)
	aead, err := t.suite.aead(key)
	if err != nil {
		panic(fmt.Sprintf("keys: %v", err)) // the key has the right length
	}
	return aead, iv
}

// Equal compares verify_data or a binder in constant time.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// Clear forgets the secret.
func (s *secret) Clear() {
	if s != nil {
		clear(s.room[:])
	}
}

// next makes the secret of the stage behind this one, which is cleared.
func (s *secret) next(to *secret, ikm []byte) {
	defer s.Clear()
	var empty, room [maxHash]byte
	defer clear(room[:])
	salt := room[:s.suite.HashSize]
	s.suite.sum(&empty, nil)
	s.derive(salt, "derived", empty[:s.suite.HashSize])
	s.suite.extract(&to.room, ikm, salt)
}

func (s *secret) traffic(label string, transcript []byte) *Traffic {
	t := &Traffic{secret{suite: s.suite}}
	s.derive(t.value(), label, transcript)
	return t
}

// derive is Derive-Secret, of the hash of messages. out has HashSize bytes.
func (s *secret) derive(out []byte, label string, transcript []byte) {
	s.expandLabel(out, label, transcript)
}

// expandLabel is HKDF-Expand-Label of len(out) bytes, at most HashSize.
func (s *secret) expandLabel(out []byte, label string, context []byte) {
	const prefix = "tls13 "
	var room [usualMessage]byte
	info := append(room[:0], byte(len(out)>>8), byte(len(out)), byte(len(prefix)+len(label)))
	info = append(info, prefix...)
	info = append(info, label...)
	info = append(info, byte(len(context)))
	info = append(info, context...)
	s.suite.expand(out, s.value(), info)
}
