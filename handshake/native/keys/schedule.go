package keys

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/subtle"
	"fmt"
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
	value []byte
}

// NewEarly makes the Early Secret of a PSK; nil is no PSK.
func NewEarly(s *Suite, psk []byte) *Early {
	if psk == nil {
		psk = make([]byte, s.HashSize)
	}
	return &Early{secret{s, extract(s, psk, nil)}}
}

// Binder is what a binder of a resumption PSK must be (section 4.2.11.2): the
// transcript ends with the truncated ClientHello.
func (e *Early) Binder(transcript []byte) []byte {
	key := &Traffic{secret{e.suite, e.derive("res binder", e.suite.Hash(nil))}}
	defer key.Clear()
	return key.Finished(transcript)
}

// Handshake goes on with the shared secret of the key exchange, and clears both.
func (e *Early) Handshake(shared []byte) *Handshake {
	defer clear(shared)
	return &Handshake{e.next(shared)}
}

// Client is client_handshake_traffic_secret; the transcript ends with ServerHello.
func (h *Handshake) Client(transcript []byte) *Traffic { return h.traffic("c hs traffic", transcript) }

// Server is server_handshake_traffic_secret.
func (h *Handshake) Server(transcript []byte) *Traffic { return h.traffic("s hs traffic", transcript) }

// Master goes on to the Master Secret.
func (h *Handshake) Master() *Master { return &Master{h.next(make([]byte, h.suite.HashSize))} }

// Client is client_application_traffic_secret_0; the transcript ends with the
// server's Finished.
func (m *Master) Client(transcript []byte) *Traffic { return m.traffic("c ap traffic", transcript) }

// Server is server_application_traffic_secret_0.
func (m *Master) Server(transcript []byte) *Traffic { return m.traffic("s ap traffic", transcript) }

// Resumption is resumption_master_secret; the transcript ends with the client's
// Finished.
func (m *Master) Resumption(transcript []byte) *Resumption {
	return &Resumption{secret{m.suite, m.derive("res master", transcript)}}
}

// Resumption is what the PSKs of tickets are made of.
type Resumption struct{ secret }

// PSK is that of the ticket with a nonce (section 4.6.1).
func (r *Resumption) PSK(nonce []byte) []byte {
	return r.expandLabel("resumption", nonce, r.suite.HashSize)
}

// Next is the secret of the epoch behind a KeyUpdate (section 7.2); this one is
// cleared.
func (t *Traffic) Next() *Traffic {
	defer t.Clear()
	return &Traffic{secret{t.suite, t.expandLabel("traffic upd", nil, t.suite.HashSize)}}
}

// Finished is the verify_data of a Finished message (section 4.4.4).
func (t *Traffic) Finished(transcript []byte) []byte {
	key := t.expandLabel("finished", nil, t.suite.HashSize)
	defer clear(key)
	mac := hmac.New(t.suite.hash, key)
	mac.Write(transcript)
	return mac.Sum(nil)
}

// Suite is the CipherSuite of the secret.
func (t *Traffic) Suite() *Suite { return t.suite }

// NonceSize is that of every AEAD of TLS 1.3 in use, in bytes.
const NonceSize = 12

// Protection is the AEAD of the epoch and its IV (section 7.3).
func (t *Traffic) Protection() (cipher.AEAD, [NonceSize]byte) {
	key := t.expandLabel("key", nil, t.suite.keyLen)
	iv := t.expandLabel("iv", nil, NonceSize)
	defer clear(key)
	defer clear(iv)
	aead, err := t.suite.aead(key)
	if err != nil {
		panic(fmt.Sprintf("keys: %v", err)) // the key has the right length
	}
	return aead, [NonceSize]byte(iv)
}

// Equal compares verify_data or a binder in constant time.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// Clear forgets the secret.
func (s *secret) Clear() {
	if s != nil {
		clear(s.value)
	}
}

// next is the secret of the stage behind this one, which is cleared.
func (s *secret) next(ikm []byte) secret {
	defer s.Clear()
	salt := s.derive("derived", s.suite.Hash(nil))
	defer clear(salt)
	return secret{s.suite, extract(s.suite, ikm, salt)}
}

func (s *secret) traffic(label string, transcript []byte) *Traffic {
	return &Traffic{secret{s.suite, s.derive(label, transcript)}}
}

// derive is Derive-Secret, of the hash of messages.
func (s *secret) derive(label string, transcript []byte) []byte {
	return s.expandLabel(label, transcript, s.suite.HashSize)
}

// expandLabel is HKDF-Expand-Label.
func (s *secret) expandLabel(label string, context []byte, n int) []byte {
	const prefix = "tls13 "
	info := make([]byte, 0, 2+1+len(prefix)+len(label)+1+len(context))
	info = append(info, byte(n>>8), byte(n), byte(len(prefix)+len(label)))
	info = append(info, prefix...)
	info = append(info, label...)
	info = append(info, byte(len(context)))
	info = append(info, context...)
	out, err := hkdf.Expand(s.suite.hash, s.value, string(info), n)
	if err != nil {
		panic(fmt.Sprintf("keys: %v", err)) // all lengths are those of the hash
	}
	return out
}

// extract is HKDF-Extract (RFC 5869, section 2.2).
func extract(s *Suite, ikm, salt []byte) []byte {
	out, err := hkdf.Extract(s.hash, ikm, salt)
	if err != nil {
		panic(fmt.Sprintf("keys: %v", err))
	}
	return out
}
