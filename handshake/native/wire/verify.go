package wire

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// CertificateVerify is RFC 8446, section 4.4.3; that of a TLS 1.2 client has the same
// form (RFC 5246, section 7.4.8).
type CertificateVerify struct {
	Scheme    uint16
	Signature []byte
}

// The context strings of section 4.4.3.
const (
	contextServer = "TLS 1.3, server CertificateVerify"
	contextClient = "TLS 1.3, client CertificateVerify"
)

// SignedContent is what a CertificateVerify of TLS 1.3 signs: 64 spaces, a string for
// the side that signs, a zero byte, and the hash of the transcript up to the
// Certificate (RFC 8446, section 4.4.3).
func SignedContent(byServer bool, transcript []byte) []byte {
	context := contextClient
	if byServer {
		context = contextServer
	}
	b := make([]byte, 64, 64+len(context)+1+len(transcript))
	for i := range b {
		b[i] = ' '
	}
	b = append(b, context...)
	b = append(b, 0)
	return append(b, transcript...)
}

// Marshal writes the message.
func (m *CertificateVerify) Marshal() ([]byte, error) {
	return seal(handshake.TypeCertificateVerify, func(b *cryptobyte.Builder) {
		b.AddUint16(m.Scheme)
		vector16(b, m.Signature)
	})
}

// ParseCertificateVerify reads the message.
func ParseCertificateVerify(msg []byte) (*CertificateVerify, error) {
	s, err := open(msg, handshake.TypeCertificateVerify, handshake.MsgCertificateVerify)
	if err != nil {
		return nil, err
	}
	m := &CertificateVerify{}
	var signature cryptobyte.String
	if !s.ReadUint16(&m.Scheme) || !s.ReadUint16LengthPrefixed(&signature) || !s.Empty() {
		return nil, undecodable(handshake.MsgCertificateVerify, "the signature")
	}
	m.Signature = signature
	return m, nil
}

// Finished is RFC 8446, section 4.4.4: verify_data has the length of the hash.
type Finished struct {
	VerifyData []byte
}

// Marshal writes the message.
func (m *Finished) Marshal() ([]byte, error) {
	return seal(handshake.TypeFinished, func(b *cryptobyte.Builder) { b.AddBytes(m.VerifyData) })
}

// ParseFinished reads the message; its verify_data must have size bytes.
func ParseFinished(msg []byte, size int) (*Finished, error) {
	s, err := open(msg, handshake.TypeFinished, handshake.MsgFinished)
	if err != nil {
		return nil, err
	}
	if len(s) != size {
		// RFC 8446, section 4.4.4: one that is not correct, whatever is wrong with it.
		return nil, bad(handshake.MsgFinished, handshake.AlertDecryptError, "a verify_data of %d bytes", len(s))
	}
	return &Finished{VerifyData: s}, nil
}
