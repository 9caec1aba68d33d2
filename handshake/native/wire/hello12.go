package wire

import (
	"bytes"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// inServerHello12 are the extensions that a ServerHello of TLS 1.2 may have, of those
// that are offered here (RFC 5246, section 7.4.1.4, and the RFC of each).
var inServerHello12 = place{message: msgServerHello, allowed: []uint16{
	handshake.ExtServerName, handshake.ExtStatusRequest, handshake.ExtPointFormats, handshake.ExtALPN, handshake.ExtSCT,
	handshake.ExtExtendedMasterSecret, handshake.ExtSessionTicket, handshake.ExtRenegotiationInfo,
}}

// ServerHello12 is a ServerHello of TLS 1.2 (RFC 5246, section 7.4.1.3), without
// compression.
type ServerHello12 struct {
	Random     [32]byte // with a downgrade sentinel where TLS 1.3 is known (RFC 8446, section 4.1.3)
	SessionID  []byte
	Suite      uint16
	Extensions []handshake.Extension // as they came
	// HasExtensions says that there is a block of them, of which one may be empty.
	HasExtensions bool

	ServerName           bool   // the SNI was used (RFC 6066, section 3)
	StatusRequest        bool   // a CertificateStatus follows (section 8)
	PointFormats         bool   // uncompressed is among the formats (RFC 8422, section 5.2)
	ALPN                 string // the one protocol that is chosen
	ExtendedMasterSecret bool   // RFC 7627
	SessionTicket        bool   // a NewSessionTicket follows (RFC 5077)
	SecureRenegotiation  bool   // an empty renegotiation_info (RFC 5746, section 3.6)
}

// Marshal writes the message.
func (h *ServerHello12) Marshal() ([]byte, error) {
	return seal(handshake.TypeServerHello, func(b *cryptobyte.Builder) {
		b.AddUint16(version12)
		b.AddBytes(h.Random[:])
		vector8(b, h.SessionID)
		b.AddUint16(h.Suite)
		b.AddUint8(0)
		if h.HasExtensions {
			addExtensions(b, h.Extensions, h.build)
		}
	})
}

func (h *ServerHello12) build(b *cryptobyte.Builder) {
	for _, e := range []offered{
		{handshake.ExtServerName, h.ServerName, func(*cryptobyte.Builder) {}},
		{handshake.ExtStatusRequest, h.StatusRequest, func(*cryptobyte.Builder) {}},
		{handshake.ExtPointFormats, h.PointFormats, func(b *cryptobyte.Builder) { vector8(b, []byte{0}) }},
		{handshake.ExtALPN, h.ALPN != "", func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { vector8(b, []byte(h.ALPN)) })
		}},
		{handshake.ExtExtendedMasterSecret, h.ExtendedMasterSecret, func(*cryptobyte.Builder) {}},
		{handshake.ExtSessionTicket, h.SessionTicket, func(*cryptobyte.Builder) {}},
		{handshake.ExtRenegotiationInfo, h.SecureRenegotiation, func(b *cryptobyte.Builder) { b.AddUint8(0) }},
	} {
		if e.wanted {
			addExtension(b, e.typ, e.data)
		}
	}
}

// ParseServerHello12 reads a ServerHello of TLS 1.2; an older version gets
// protocol_version.
func ParseServerHello12(msg []byte) (*ServerHello12, error) {
	s, err := open(msg, handshake.TypeServerHello, msgServerHello)
	if err != nil {
		return nil, err
	}
	h := &ServerHello12{}
	var version uint16
	var compression uint8
	var sid cryptobyte.String
	if !s.ReadUint16(&version) || !s.CopyBytes(h.Random[:]) || !s.ReadUint8LengthPrefixed(&sid) || len(sid) > 32 ||
		!s.ReadUint16(&h.Suite) || !s.ReadUint8(&compression) {
		return nil, undecodable(msgServerHello, "what stands before the extensions")
	}
	h.SessionID = sid
	switch {
	case version != version12:
		return nil, bad(msgServerHello, handshake.AlertProtocolVersion, "%s is chosen", handshake.VersionName(version))
	case compression != 0:
		return nil, bad(msgServerHello, handshake.AlertIllegalParameter, "compression method %d", compression)
	case s.Empty():
		return h, nil
	}
	h.HasExtensions = true
	if h.Extensions, err = inServerHello12.read(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, undecodable(msgServerHello, "what stands behind the extensions")
	}
	if err := h.decode(); err != nil {
		return nil, err
	}
	return h, nil
}

func (h *ServerHello12) decode() error {
	for _, e := range h.Extensions {
		ok := len(e.Data) == 0
		switch e.Type {
		case handshake.ExtServerName:
			h.ServerName = true
		case handshake.ExtStatusRequest:
			h.StatusRequest = true
		case handshake.ExtExtendedMasterSecret:
			h.ExtendedMasterSecret = true
		case handshake.ExtSessionTicket:
			h.SessionTicket = true
		case handshake.ExtSCT:
			ok = true // read by nobody here
		case handshake.ExtALPN:
			h.ALPN, ok = readProtocol(e.Data)
		case handshake.ExtPointFormats:
			s := cryptobyte.String(e.Data)
			var formats cryptobyte.String
			ok = s.ReadUint8LengthPrefixed(&formats) && s.Empty() && !formats.Empty()
			if ok && !bytes.Contains(formats, []byte{0}) { // RFC 8422, section 5.2
				return bad(msgServerHello, handshake.AlertIllegalParameter, "ec_point_formats without uncompressed")
			}
			h.PointFormats = true
		case handshake.ExtRenegotiationInfo:
			if h.SecureRenegotiation = bytes.Equal(e.Data, []byte{0}); !h.SecureRenegotiation { // RFC 5746, section 3.4
				return bad(msgServerHello, handshake.AlertHandshakeFailure, "renegotiation_info of a renegotiation")
			}
			ok = true
		}
		if !ok {
			return bad(msgServerHello, handshake.AlertDecodeError, "cannot decode extension %d", e.Type)
		}
	}
	return nil
}

// SessionTicket is the ticket that a hello of TLS 1.2 brings (RFC 5077, section 3.2);
// empty where it asks for one or says nothing of tickets.
func SessionTicket(h *handshake.ClientHello) []byte {
	data, _ := find(h.Extensions, handshake.ExtSessionTicket)
	return data
}
