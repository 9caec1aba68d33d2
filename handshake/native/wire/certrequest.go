package wire

import (
	"encoding/binary"
	"iter"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// Names are distinguished names of CAs as they stand in a CertificateRequest, each
// with its length of two bytes (RFC 8446, section 4.2.4; RFC 5246, section 7.4.4).
type Names []byte

// Add appends one name in DER, of 1 to 65,535 bytes.
func (n Names) Add(der []byte) Names {
	return append(binary.BigEndian.AppendUint16(n, uint16(len(der))), der...)
}

// All are the names in DER.
func (n Names) All() iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		s := cryptobyte.String(n)
		var der cryptobyte.String
		for s.ReadUint16LengthPrefixed(&der) {
			if !yield(der) {
				return
			}
		}
	}
}

// whole says whether the lengths fit and no name is empty.
func (n Names) whole() bool {
	s := cryptobyte.String(n)
	for !s.Empty() {
		var der cryptobyte.String
		if !s.ReadUint16LengthPrefixed(&der) || der.Empty() {
			return false
		}
	}
	return true
}

// CertificateRequest is RFC 8446, section 4.3.2. Its context is empty: certificates
// are asked for in the handshake and not after it.
type CertificateRequest struct {
	Extensions []handshake.Extension // as they came, unknown ones included

	Signatures     []uint16 // signature_algorithms, never empty
	SignaturesCert []uint16 // signature_algorithms_cert, nil where absent
	Authorities    Names    // certificate_authorities, empty where absent
	StatusRequest  bool     // an OCSP staple is asked for (section 4.4.2.1)
}

// Marshal writes the message.
func (m *CertificateRequest) Marshal() ([]byte, error) {
	return seal(handshake.TypeCertificateRequest, func(b *cryptobyte.Builder) {
		b.AddUint8(0) // certificate_request_context
		addExtensions(b, m.Extensions, m.build)
	})
}

func (m *CertificateRequest) build(b *cryptobyte.Builder) {
	if m.StatusRequest {
		addEmpty(b, handshake.ExtStatusRequest)
	}
	addExtension(b, handshake.ExtSignatureAlgorithms, func(b *cryptobyte.Builder) { codes16(b, m.Signatures) })
	if m.SignaturesCert != nil {
		addExtension(b, handshake.ExtSignatureAlgsCert, func(b *cryptobyte.Builder) { codes16(b, m.SignaturesCert) })
	}
	if len(m.Authorities) > 0 {
		addExtension(b, extCertAuthorities, func(b *cryptobyte.Builder) { vector16(b, m.Authorities) })
	}
}

// ParseCertificateRequest reads the message.
func ParseCertificateRequest(msg []byte) (*CertificateRequest, error) {
	const name = handshake.MsgCertificateRequest
	s, err := open(msg, handshake.TypeCertificateRequest, name)
	if err != nil {
		return nil, err
	}
	if err := emptyContext(&s, name); err != nil {
		return nil, err
	}
	m := &CertificateRequest{}
	if m.Extensions, err = inCertRequest.read(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, undecodable(name, "what stands behind the extensions")
	}
	for _, e := range m.Extensions {
		ok := true
		switch e.Type {
		case handshake.ExtStatusRequest:
			m.StatusRequest, ok = true, len(e.Data) == 0
		case handshake.ExtSCT:
			ok = len(e.Data) == 0
		case handshake.ExtSignatureAlgorithms:
			m.Signatures, err = readCodes16(e.Data, name, "signature_algorithms")
		case handshake.ExtSignatureAlgsCert:
			m.SignaturesCert, err = readCodes16(e.Data, name, "signature_algorithms_cert")
		case extCertAuthorities: // authorities<3..2^16-1>
			data := cryptobyte.String(e.Data)
			var list cryptobyte.String
			ok = data.ReadUint16LengthPrefixed(&list) && data.Empty() && len(list) >= 3 && Names(list).whole()
			m.Authorities = Names(list)
		}
		if err == nil && !ok {
			err = bad(name, handshake.AlertDecodeError, "cannot decode extension %d", e.Type)
		}
		if err != nil {
			return nil, err
		}
	}
	if m.Signatures == nil {
		return nil, bad(name, handshake.AlertMissingExtension, "no signature_algorithms")
	}
	return m, nil
}

// emptyContext reads certificate_request_context, which is empty in the handshake (RFC
// 8446, sections 4.3.2 and 4.4.2).
func emptyContext(s *cryptobyte.String, message string) error {
	var context cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&context) {
		return undecodable(message, "certificate_request_context")
	}
	if !context.Empty() {
		return bad(message, handshake.AlertIllegalParameter, "a certificate_request_context of %d bytes in the handshake", len(context))
	}
	return nil
}
