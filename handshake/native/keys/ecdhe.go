package keys

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
)

// ECDHE is a key of ours for one key exchange of TLS 1.2, where the server shows its part
// first (RFC 8422, section 2).
type ECDHE struct{ own *ecdh.PrivateKey }

// Groups12 are the groups that TLS 1.2 can do: those of one curve.
func Groups12() []uint16 {
	var out []uint16
	for _, id := range Groups() {
		if x, _ := exchangeOf(id); x.kem == nil {
			out = append(out, id)
		}
	}
	return out
}

// NewECDHE makes a key of a group of Groups12.
func NewECDHE(group uint16) (*ECDHE, error) {
	x, ok := exchangeOf(group)
	if !ok || x.kem != nil {
		return nil, fmt.Errorf("keys: group %d is not one of TLS 1.2", group)
	}
	own, err := x.curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return &ECDHE{own}, nil
}

// Public is our point.
func (e *ECDHE) Public() []byte { return e.own.PublicKey().Bytes() }

// Agree is the shared secret, which the caller clears. An error says that the point is
// bad: its length, one that is not on the curve or of small order (RFC 8422, section
// 5.11).
func (e *ECDHE) Agree(point []byte) ([]byte, error) {
	theirs, err := e.own.Curve().NewPublicKey(point)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	shared, err := e.own.ECDH(theirs)
	if err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	return shared, nil
}
