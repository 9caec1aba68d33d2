package revocation

import (
	"crypto/sha1" // for names only, see ocspanswer.go
	"crypto/x509"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// nonceSize is the length of our nonces in bytes (RFC 8954, section 2.1).
const nonceSize = 32

// request encodes an OCSPRequest for one certificate (RFC 6960, section 4.1.1). It
// identifies the issuer by SHA-1, which every responder knows (RFC 5019, section 2.1.1).
func request(number serial, issuer *x509.Certificate, nonce []byte) ([]byte, error) {
	key, ok := publicKeyBits(issuer.RawSubjectPublicKeyInfo)
	if !ok {
		return nil, errors.New("the issuer's key cannot be decoded")
	}
	nameHash, keyHash := sha1.Sum(issuer.RawSubject), sha1.Sum(key)
	digits := number[:]
	for len(digits) > 1 && digits[0] == 0 && digits[1]&0x80 == 0 {
		digits = digits[1:]
	}
	if digits[0]&0x80 != 0 { // 20 octets with the highest bit set
		digits = append([]byte{0}, digits...)
	}
	sequence := func(b *cryptobyte.Builder, f func(*cryptobyte.Builder)) { b.AddASN1(cbasn1.SEQUENCE, f) }
	var b cryptobyte.Builder
	sequence(&b, func(b *cryptobyte.Builder) { // OCSPRequest
		sequence(b, func(b *cryptobyte.Builder) { // tbsRequest
			sequence(b, func(b *cryptobyte.Builder) { // requestList
				sequence(b, func(b *cryptobyte.Builder) { // Request
					sequence(b, func(b *cryptobyte.Builder) { // reqCert
						sequence(b, func(b *cryptobyte.Builder) { // hashAlgorithm
							b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes([]byte{0x2b, 0x0e, 3, 2, 0x1a}) })
							b.AddASN1NULL()
						})
						b.AddASN1OctetString(nameHash[:])
						b.AddASN1OctetString(keyHash[:])
						b.AddASN1(cbasn1.INTEGER, func(b *cryptobyte.Builder) { b.AddBytes(digits) })
					})
				})
			})
			if nonce == nil {
				return
			}
			b.AddASN1(explicit(2), func(b *cryptobyte.Builder) { // requestExtensions
				sequence(b, func(b *cryptobyte.Builder) {
					sequence(b, func(b *cryptobyte.Builder) {
						b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oidNonce) })
						b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
					})
				})
			})
		})
	})
	return b.Bytes()
}
