package wire

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// statusOCSP is CertificateStatusType ocsp (RFC 6066, section 8).
const statusOCSP = 1

// CertificateEntry is one certificate of a Certificate message.
type CertificateEntry struct {
	DER        []byte
	Extensions []handshake.Extension // as they came
	Staple     []byte                // OCSP response in DER (RFC 8446, section 4.4.2.1), nil where absent
}

// Certificate is RFC 8446, section 4.4.2; its context is empty, see
// CertificateRequest. A client without a certificate sends no entry.
type Certificate struct {
	Entries []CertificateEntry // the sender's own first
}

// Marshal writes the message.
func (m *Certificate) Marshal() ([]byte, error) {
	return seal(handshake.TypeCertificate, func(b *cryptobyte.Builder) {
		b.AddUint8(0) // certificate_request_context
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			for i := range m.Entries {
				e := &m.Entries[i]
				vector24(b, e.DER)
				addExtensions(b, e.Extensions, e.build)
			}
		})
	})
}

func (e *CertificateEntry) build(b *cryptobyte.Builder) {
	if e.Staple != nil {
		addExtension(b, handshake.ExtStatusRequest, func(b *cryptobyte.Builder) {
			b.AddUint8(statusOCSP)
			vector24(b, e.Staple)
		})
	}
}

// ParseCertificate reads the message, at most 256 certificates; how many the
// configuration allows is the caller's question. Of the extensions status_request alone
// is ever asked for. The certificates are not parsed.
func ParseCertificate(msg []byte) (*Certificate, error) {
	const name = handshake.MsgCertificate
	s, err := open(msg, handshake.TypeCertificate, name)
	if err != nil {
		return nil, err
	}
	if err := emptyContext(&s, name); err != nil {
		return nil, err
	}
	var list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, undecodable(name, "certificate_list")
	}
	m := &Certificate{}
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) || der.Empty() {
			return nil, undecodable(name, "a certificate")
		}
		if len(m.Entries) == maxCertificates {
			return nil, bad(name, handshake.AlertBadCertificate, "more than %d certificates", maxCertificates)
		}
		e := CertificateEntry{DER: der}
		if e.Extensions, err = inCertificate.read(&list); err != nil {
			return nil, err
		}
		if err := e.decode(); err != nil {
			return nil, err
		}
		m.Entries = append(m.Entries, e)
	}
	return m, nil
}

func (e *CertificateEntry) decode() error {
	if _, ok := find(e.Extensions, handshake.ExtSCT); ok {
		return bad(handshake.MsgCertificate, handshake.AlertUnsupportedExtension, "signed_certificate_timestamp, which nobody asks for here")
	}
	data, ok := find(e.Extensions, handshake.ExtStatusRequest)
	if !ok {
		return nil
	}
	staple, ok := readStatus(data)
	if !ok {
		return undecodable(handshake.MsgCertificate, "status_request")
	}
	e.Staple = staple
	return nil
}

// readStatus reads a CertificateStatus of OCSP (RFC 6066, section 8).
func readStatus(data []byte) (response []byte, ok bool) {
	s := cryptobyte.String(data)
	var typ uint8
	var r cryptobyte.String
	ok = s.ReadUint8(&typ) && typ == statusOCSP && s.ReadUint24LengthPrefixed(&r) && s.Empty() && !r.Empty()
	return r, ok
}
