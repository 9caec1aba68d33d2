// Package work counts what a peer makes us compute, in units that do not depend on the
// load of the machine: signatures of a kind, key exchanges in a group, bytes read.
// Clients are charged by count and not by time, because otherwise a busy machine would
// charge everybody more.
package work

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rsa"
	"crypto/tls"
	"math/bits"
)

// Units of work. One is a microsecond of the machine on which the weights were measured
// (see weights.go). On another machine the proportions are much the same, and only they
// matter.
type Units int64

// Ordinary is what an ordinary handshake costs: TLS 1.3 or 1.2, key exchange in
// X25519MLKEM768, our key on P-256, a client certificate on P-256 directly
// below its CA, and the messages of that. It is the unit of
// limits.handshakes_per_second.
const Ordinary = fixed + exchangeX25519 + exchangeMLKEM + signP256 + 2*verifyP256 + 4*perKiB

// Hello is the cost of a ClientHello of n bytes in so many records, or of what came in
// its place: reading it, finding its rule, and the record of the flow.
func Hello(n, records int) Units { return judgement + Bytes(n) + Records(records) }

// Leg is the cost of a client's leg: its hello, as for Hello, and the handshake, of which
// spent was counted separately. With spent 0 there was no handshake.
func Leg(n, records int, spent Units) Units {
	u := Hello(n, records)
	if spent > 0 {
		u += fixed + spent
	}
	return u
}

// Bytes is the cost of reading n bytes of handshake messages: decoding, hashing,
// decrypting, certificates with all their content.
func Bytes(n int) Units {
	return Units((int64(max(n, 0))*int64(perKiB) + 1023) / 1024)
}

// Records is the cost of reading n records, whatever their content: a peer may put one
// byte into each.
func Records(n int) Units { return Units(max(n, 0)) * perRecord }

// Data is the cost of reading n bytes of data in so many records, beyond what usual records
// cost, with the KeyUpdates (RFC 8446, section 4.6.3) of which so many were answered. It is
// negative for data in large records.
func Data(records, answers, n int) Units {
	return Units(records)*dataRecord + Units(answers)*keyUpdate - Units(n/usualRecord)*dataRecord
}

// Verify is the cost of checking one signature with a key.
func Verify(key crypto.PublicKey) Units {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return rsaVerify(k)
	case *ecdsa.PublicKey:
		return verifyEC(sizeEC(k))
	case ed25519.PublicKey:
		return verifyEd25519
	case *mldsa.PublicKey:
		return verifyMLDSA(k)
	}
	return 0 // signatures of other keys are not checked
}

// Sign is the cost of making one signature with a key; 0 without a key.
func Sign(key crypto.PublicKey) Units {
	switch k := key.(type) {
	case *rsa.PublicKey:
		// A private operation grows with the third power of the length.
		n := Units(k.N.BitLen())
		return max(signRSA2048*n/2048*n/2048*n/2048, 1)
	case *ecdsa.PublicKey:
		return signEC(sizeEC(k))
	case ed25519.PublicKey:
		return signEd25519
	case *mldsa.PublicKey:
		return signMLDSA(k)
	}
	return 0
}

// verifyMLDSA and signMLDSA are the weights by parameter set; of one that is not known,
// those of the largest.
func verifyMLDSA(k *mldsa.PublicKey) Units {
	switch k.Parameters() {
	case mldsa.MLDSA44():
		return verifyMLDSA44
	case mldsa.MLDSA65():
		return verifyMLDSA65
	}
	return verifyMLDSA87
}

func signMLDSA(k *mldsa.PublicKey) Units {
	switch k.Parameters() {
	case mldsa.MLDSA44():
		return signMLDSA44
	case mldsa.MLDSA65():
		return signMLDSA65
	}
	return signMLDSA87
}

// KeyExchange is our cost of one key exchange in a group, both halves: making a key and
// agreeing on a secret. Group 0 is RSA key transport.
func KeyExchange(group tls.CurveID, own crypto.PublicKey) Units {
	if group == 0 {
		return Sign(own) // decrypting is the same operation
	}
	return exchange(group)
}

// rsaVerify is the cost of a public RSA operation: one square for each bit of the
// exponent and a product for each bit that is set, each growing with the square of the
// length.
func rsaVerify(k *rsa.PublicKey) Units {
	const usual = 16 + 2 // for the exponent 65537
	n, e := Units(k.N.BitLen()), uint(max(k.E, 1))
	steps := Units(bits.Len(e) - 1 + bits.OnesCount(e))
	return max(verifyRSA2048*steps/usual*n/2048*n/2048, 1)
}

// sizeEC is the size class of a curve.
func sizeEC(k *ecdsa.PublicKey) int {
	switch size := k.Params().BitSize; {
	case size <= 256:
		return 0
	case size <= 384:
		return 1
	}
	return 2
}
