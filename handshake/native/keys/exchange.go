package keys

import (
	"crypto"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
)

var (
	errShare   = errors.New("keys: a key share of the wrong length")
	errNoClone = errors.New("keys: the hash cannot be cloned")
)

// exchange is how a group is done: a curve, ML-KEM, or both at once
// (RFC 10024, section 4).
type exchange struct {
	curve ecdh.Curve
	point int // bytes of a public key of the curve
	kem   func(encapsulationKey []byte) (crypto.Encapsulator, error)
	ek    int  // bytes of an encapsulation key
	first bool // ML-KEM's part stands first
}

func exchangeOf(group uint16) (exchange, bool) {
	kem768 := func(b []byte) (crypto.Encapsulator, error) { return mlkem.NewEncapsulationKey768(b) }
	kem1024 := func(b []byte) (crypto.Encapsulator, error) { return mlkem.NewEncapsulationKey1024(b) }
	switch tls.CurveID(group) {
	case tls.X25519:
		return exchange{curve: ecdh.X25519(), point: 32}, true
	case tls.CurveP256:
		return exchange{curve: ecdh.P256(), point: 65}, true
	case tls.CurveP384:
		return exchange{curve: ecdh.P384(), point: 97}, true
	case tls.CurveP521:
		return exchange{curve: ecdh.P521(), point: 133}, true
	case tls.X25519MLKEM768:
		return exchange{curve: ecdh.X25519(), point: 32, kem: kem768, ek: mlkem.EncapsulationKeySize768, first: true}, true
	case tls.SecP256r1MLKEM768:
		return exchange{curve: ecdh.P256(), point: 65, kem: kem768, ek: mlkem.EncapsulationKeySize768}, true
	case tls.SecP384r1MLKEM1024:
		return exchange{curve: ecdh.P384(), point: 97, kem: kem1024, ek: mlkem.EncapsulationKeySize1024}, true
	case tls.MLKEM1024:
		return exchange{kem: kem1024, ek: mlkem.EncapsulationKeySize1024}, true
	}
	return exchange{}, false
}

// Groups are those that Answer knows, the strongest against a quantum computer first.
func Groups() []uint16 {
	return []uint16{
		uint16(tls.X25519MLKEM768), uint16(tls.SecP256r1MLKEM768), uint16(tls.SecP384r1MLKEM1024), uint16(tls.MLKEM1024),
		uint16(tls.X25519), uint16(tls.CurveP256), uint16(tls.CurveP384), uint16(tls.CurveP521),
	}
}

// Answer is the server's part of the key exchange: of the client's key share the
// shared secret, which the caller clears, and our key share. An error says that the
// share is bad: its length, a point that is not on the curve or of small order, an
// encapsulation key out of range (RFC 8446, section 4.2.8.1; FIPS 203, section 7.2).
func Answer(group uint16, share []byte) (shared, ours []byte, err error) {
	x, ok := exchangeOf(group)
	if !ok {
		return nil, nil, fmt.Errorf("keys: group %d is not implemented", group)
	}
	if len(share) != x.point+x.ek {
		return nil, nil, errShare
	}
	point, ek := share[:x.point], share[x.point:]
	if x.first {
		ek, point = share[:x.ek], share[x.ek:]
	}
	var secretEC, oursEC, secretKEM, oursKEM []byte
	if x.curve != nil {
		if secretEC, oursEC, err = agree(x.curve, point); err != nil {
			return nil, nil, err
		}
	}
	defer clear(secretEC)
	if x.kem != nil {
		key, err := x.kem(ek)
		if err != nil {
			return nil, nil, fmt.Errorf("keys: %w", err)
		}
		secretKEM, oursKEM = key.Encapsulate()
	}
	defer clear(secretKEM)
	if x.first {
		return join(secretKEM, secretEC), join(oursKEM, oursEC), nil
	}
	return join(secretEC, secretKEM), join(oursEC, oursKEM), nil
}

// agree is ECDHE with a key of ours that is used once.
func agree(curve ecdh.Curve, point []byte) (shared, ours []byte, err error) {
	theirs, err := curve.NewPublicKey(point)
	if err != nil {
		return nil, nil, fmt.Errorf("keys: %w", err)
	}
	own, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("keys: %w", err)
	}
	if shared, err = own.ECDH(theirs); err != nil {
		return nil, nil, fmt.Errorf("keys: %w", err)
	}
	return shared, own.PublicKey().Bytes(), nil
}

// join never shares memory with its parts, which are cleared.
func join(a, b []byte) []byte { return append(append(make([]byte, 0, len(a)+len(b)), a...), b...) }
