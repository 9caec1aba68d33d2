package wire

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// The names of messages that TLS 1.2 alone has.
const (
	msgCertificateStatus = "CertificateStatus"
	msgServerKeyExchange = "ServerKeyExchange"
	msgServerHelloDone   = "ServerHelloDone"
	msgClientKeyExchange = "ClientKeyExchange"
)

// FinishedSize12 is the length of verify_data in TLS 1.2, in bytes, for ParseFinished
// (RFC 5246, section 7.4.9).
const FinishedSize12 = 12

// Certificate12 is RFC 5246, sections 7.4.2 and 7.4.6: the sender's own certificate
// first; none of a client that has none.
type Certificate12 struct {
	Certificates [][]byte // DER
}

// Marshal writes the message.
func (m *Certificate12) Marshal() ([]byte, error) {
	return seal(handshake.TypeCertificate, func(b *cryptobyte.Builder) {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) {
			for _, der := range m.Certificates {
				vector24(b, der)
			}
		})
	})
}

// ParseCertificate12 reads the message, at most 256 certificates.
func ParseCertificate12(msg []byte) (*Certificate12, error) {
	s, err := open(msg, handshake.TypeCertificate, handshake.MsgCertificate)
	if err != nil {
		return nil, err
	}
	var list cryptobyte.String
	if !s.ReadUint24LengthPrefixed(&list) || !s.Empty() {
		return nil, undecodable(handshake.MsgCertificate, "certificate_list")
	}
	m := &Certificate12{}
	for !list.Empty() {
		var der cryptobyte.String
		if !list.ReadUint24LengthPrefixed(&der) || der.Empty() {
			return nil, undecodable(handshake.MsgCertificate, "a certificate")
		}
		if len(m.Certificates) == maxCertificates {
			return nil, bad(handshake.MsgCertificate, handshake.AlertBadCertificate, "more than %d certificates", maxCertificates)
		}
		m.Certificates = append(m.Certificates, der)
	}
	return m, nil
}

// CertificateStatus is RFC 6066, section 8: the OCSP staple of a server.
type CertificateStatus struct {
	Response []byte // DER
}

// Marshal writes the message.
func (m *CertificateStatus) Marshal() ([]byte, error) {
	return seal(handshake.TypeCertificateStatus, func(b *cryptobyte.Builder) {
		b.AddUint8(statusOCSP)
		vector24(b, m.Response)
	})
}

// ParseCertificateStatus reads the message.
func ParseCertificateStatus(msg []byte) (*CertificateStatus, error) {
	s, err := open(msg, handshake.TypeCertificateStatus, msgCertificateStatus)
	if err != nil {
		return nil, err
	}
	response, ok := readStatus(s)
	if !ok {
		return nil, undecodable(msgCertificateStatus, "the response")
	}
	return &CertificateStatus{Response: response}, nil
}

// namedCurve is ECCurveType named_curve (RFC 8422, section 5.4).
const namedCurve = 3

// ServerKeyExchange is that of ECDHE (RFC 8422, section 5.4).
type ServerKeyExchange struct {
	Group     uint16
	Public    []byte // the point, at most 255 bytes
	Scheme    uint16
	Signature []byte // over SignedContent
}

// params writes ServerECDHParams.
func (m *ServerKeyExchange) params(b *cryptobyte.Builder) {
	b.AddUint8(namedCurve)
	b.AddUint16(m.Group)
	vector8(b, m.Public)
}

// SignedContent is what the signature is over: both randoms and the parameters.
func (m *ServerKeyExchange) SignedContent(client, server *[32]byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(slices.Concat(client[:], server[:]))
	m.params(b)
	return b.Bytes()
}

// Marshal writes the message.
func (m *ServerKeyExchange) Marshal() ([]byte, error) {
	return seal(handshake.TypeServerKeyExchange, func(b *cryptobyte.Builder) {
		m.params(b)
		b.AddUint16(m.Scheme)
		vector16(b, m.Signature)
	})
}

// ParseServerKeyExchange reads the message.
func ParseServerKeyExchange(msg []byte) (*ServerKeyExchange, error) {
	s, err := open(msg, handshake.TypeServerKeyExchange, msgServerKeyExchange)
	if err != nil {
		return nil, err
	}
	m := &ServerKeyExchange{}
	var curve uint8
	var public, signature cryptobyte.String
	if !s.ReadUint8(&curve) {
		return nil, undecodable(msgServerKeyExchange, "an empty message")
	}
	if curve != namedCurve {
		return nil, bad(msgServerKeyExchange, handshake.AlertIllegalParameter, "curve type %d", curve)
	}
	if !s.ReadUint16(&m.Group) || !s.ReadUint8LengthPrefixed(&public) || public.Empty() ||
		!s.ReadUint16(&m.Scheme) || !s.ReadUint16LengthPrefixed(&signature) || !s.Empty() {
		return nil, undecodable(msgServerKeyExchange, "the parameters")
	}
	m.Public, m.Signature = public, signature
	return m, nil
}

// The ClientCertificateTypes of ECDHE with authentication (RFC 5246, section 7.4.4; RFC
// 8422, section 5.5).
const (
	CertTypeRSASign   = 1
	CertTypeECDSASign = 64 // EdDSA keys too
)

// CertificateRequest12 is RFC 5246, section 7.4.4.
type CertificateRequest12 struct {
	Types       []byte   // certificate_types, never empty
	Signatures  []uint16 // supported_signature_algorithms, never empty
	Authorities Names
}

// Marshal writes the message.
func (m *CertificateRequest12) Marshal() ([]byte, error) {
	return seal(handshake.TypeCertificateRequest, func(b *cryptobyte.Builder) {
		vector8(b, m.Types)
		codes16(b, m.Signatures)
		vector16(b, m.Authorities)
	})
}

// ParseCertificateRequest12 reads the message.
func ParseCertificateRequest12(msg []byte) (*CertificateRequest12, error) {
	const name = handshake.MsgCertificateRequest
	s, err := open(msg, handshake.TypeCertificateRequest, name)
	if err != nil {
		return nil, err
	}
	m := &CertificateRequest12{}
	var types, names cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&types) || types.Empty() {
		return nil, undecodable(name, "certificate_types")
	}
	// readCodes16 wants the list with its length and nothing behind it.
	rest := s
	var schemes cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&schemes) {
		return nil, undecodable(name, "supported_signature_algorithms")
	}
	if m.Signatures, err = readCodes16(rest[:2+len(schemes)], name, "supported_signature_algorithms"); err != nil {
		return nil, err
	}
	if !s.ReadUint16LengthPrefixed(&names) || !s.Empty() || !Names(names).whole() {
		return nil, undecodable(name, "certificate_authorities")
	}
	m.Types, m.Authorities = types, Names(names)
	return m, nil
}

// ServerHelloDone is RFC 5246, section 7.4.5.
type ServerHelloDone struct{}

// Marshal writes the message.
func (*ServerHelloDone) Marshal() ([]byte, error) {
	return seal(handshake.TypeServerHelloDone, func(*cryptobyte.Builder) {})
}

// ParseServerHelloDone reads the message.
func ParseServerHelloDone(msg []byte) (*ServerHelloDone, error) {
	s, err := open(msg, handshake.TypeServerHelloDone, msgServerHelloDone)
	if err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, undecodable(msgServerHelloDone, "a message that has to be empty")
	}
	return &ServerHelloDone{}, nil
}

// ClientKeyExchange is that of ECDHE (RFC 8422, section 5.7).
type ClientKeyExchange struct {
	Public []byte // the point, at most 255 bytes
}

// Marshal writes the message.
func (m *ClientKeyExchange) Marshal() ([]byte, error) {
	return seal(handshake.TypeClientKeyExchange, func(b *cryptobyte.Builder) { vector8(b, m.Public) })
}

// ParseClientKeyExchange reads the message.
func ParseClientKeyExchange(msg []byte) (*ClientKeyExchange, error) {
	s, err := open(msg, handshake.TypeClientKeyExchange, msgClientKeyExchange)
	if err != nil {
		return nil, err
	}
	var public cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&public) || !s.Empty() || public.Empty() {
		return nil, undecodable(msgClientKeyExchange, "the point")
	}
	return &ClientKeyExchange{Public: public}, nil
}

// NewSessionTicket12 is RFC 5077, section 3.3. An empty ticket says that the server has
// none after all.
type NewSessionTicket12 struct {
	Lifetime uint32 // seconds; 0 says nothing
	Ticket   []byte
}

// Marshal writes the message.
func (m *NewSessionTicket12) Marshal() ([]byte, error) {
	return seal(handshake.TypeNewSessionTicket, func(b *cryptobyte.Builder) {
		b.AddUint32(m.Lifetime)
		vector16(b, m.Ticket)
	})
}

// ParseNewSessionTicket12 reads the message.
func ParseNewSessionTicket12(msg []byte) (*NewSessionTicket12, error) {
	s, err := open(msg, handshake.TypeNewSessionTicket, msgNewSessionTicket)
	if err != nil {
		return nil, err
	}
	m := &NewSessionTicket12{}
	var ticket cryptobyte.String
	if !s.ReadUint32(&m.Lifetime) || !s.ReadUint16LengthPrefixed(&ticket) || !s.Empty() {
		return nil, undecodable(msgNewSessionTicket, "the ticket")
	}
	m.Ticket = ticket
	return m, nil
}
