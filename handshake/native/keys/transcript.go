package keys

import "hash"

// Transcript is the hash of the messages of a handshake so far (RFC 8446, section
// 4.4.1).
type Transcript struct {
	suite *Suite
	hash  hash.Hash
}

// NewTranscript begins one.
func NewTranscript(s *Suite) *Transcript { return &Transcript{s, s.newHash()} }

// Add takes a whole message with its header.
func (t *Transcript) Add(msg []byte) { t.hash.Write(msg) }

// Sum is the hash of what was added.
func (t *Transcript) Sum() []byte { return t.hash.Sum(nil) }

// SumWith is what Sum would be with one message more, or a part of it.
func (t *Transcript) SumWith(msg []byte) ([]byte, error) {
	cloner, ok := t.hash.(hash.Cloner)
	if !ok {
		return nil, errNoClone
	}
	h, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	h.Write(msg)
	return h.Sum(nil), nil
}
