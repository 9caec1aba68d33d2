package keys

import (
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"fmt"
)

// Offer is the client's part of a key exchange: its private half, until the server's key
// share is there. It is used once.
type Offer struct {
	Group uint16
	Share []byte // our key share

	exchange exchange
	own      *ecdh.PrivateKey
	kem      crypto.Decapsulator
}

// NewOffer makes a key share of a group.
func NewOffer(group uint16) (*Offer, error) {
	x, ok := exchangeOf(group)
	if !ok {
		return nil, fmt.Errorf("keys: group %d is not implemented", group)
	}
	o := &Offer{Group: group, exchange: x}
	var point, ek []byte
	if x.curve != nil {
		own, err := x.curve.GenerateKey(rand.Reader)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		o.own, point = own, own.PublicKey().Bytes()
	}
	if x.kem != nil {
		var err error
		if o.kem, err = x.generate(); err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		ek = o.kem.Encapsulator().Bytes()
	}
	if o.Share = join(point, ek); x.first {
		o.Share = join(ek, point)
	}
	return o, nil
}

// generate makes a key of ML-KEM.
func (x *exchange) generate() (crypto.Decapsulator, error) {
	if x.ek == mlkem.EncapsulationKeySize1024 {
		return mlkem.GenerateKey1024()
	}
	return mlkem.GenerateKey768()
}

// ciphertext is how many bytes the server's part of ML-KEM has.
func (x *exchange) ciphertext() int {
	switch x.ek {
	case 0:
		return 0
	case mlkem.EncapsulationKeySize1024:
		return mlkem.CiphertextSize1024
	}
	return mlkem.CiphertextSize768
}

// Finish is the shared secret, which the caller clears, of the server's key share. An
// error says that the share is bad: its length, or a point that is not on the curve or of
// small order (RFC 8446, section 4.2.8.2). A ciphertext of ML-KEM that is wrong has
// another secret, so that no Finished fits (FIPS 203, section 6.3).
func (o *Offer) Finish(share []byte) ([]byte, error) {
	x := &o.exchange
	ct := x.ciphertext()
	if len(share) != x.point+ct {
		return nil, errShare
	}
	point, encapsulated := share[:x.point], share[x.point:]
	if x.first {
		encapsulated, point = share[:ct], share[ct:]
	}
	var secretEC, secretKEM []byte
	defer func() {
		clear(secretEC)
		clear(secretKEM)
	}()
	if o.own != nil {
		theirs, err := x.curve.NewPublicKey(point)
		if err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
		if secretEC, err = o.own.ECDH(theirs); err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
	}
	if o.kem != nil {
		var err error
		if secretKEM, err = o.kem.Decapsulate(encapsulated); err != nil {
			return nil, fmt.Errorf("keys: %w", err)
		}
	}
	if x.first {
		return join(secretKEM, secretEC), nil
	}
	return join(secretEC, secretKEM), nil
}
