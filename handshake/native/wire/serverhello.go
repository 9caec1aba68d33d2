package wire

import (
	"encoding/binary"

	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// Versions on the wire.
const (
	version12 uint16 = 0x0303
	version13 uint16 = 0x0304
)

// retryRandom is the random of a ServerHello that is a HelloRetryRequest: the SHA-256
// of "HelloRetryRequest" (RFC 8446, section 4.1.3).
var retryRandom = [32]byte{
	0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c, 0x02, 0x1e, 0x65, 0xb8, 0x91,
	0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb, 0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
}

// KeyShare is a KeyShareEntry (RFC 8446, section 4.2.8). Key is nil in a
// HelloRetryRequest, which names the group alone.
type KeyShare struct {
	Group uint16
	Key   []byte
}

// ServerHello is that of TLS 1.3, or a HelloRetryRequest, which has its form (RFC
// 8446, sections 4.1.3 and 4.1.4). legacy_version and legacy_compression_method have
// one value each and are not kept.
type ServerHello struct {
	Retry      bool     // a HelloRetryRequest; Random is not used then
	Random     [32]byte // of a ServerHello
	SessionID  []byte   // legacy_session_id_echo
	Suite      uint16
	Extensions []handshake.Extension // as they came

	KeyShare         KeyShare // Group 0 where there is none
	PSK              bool     // pre_shared_key: SelectedIdentity counts
	SelectedIdentity uint16
	Cookie           []byte // of a HelloRetryRequest, nil where there is none
}

// Marshal writes the message.
func (h *ServerHello) Marshal() ([]byte, error) {
	random := h.Random
	if h.Retry {
		random = retryRandom
	}
	return seal(handshake.TypeServerHello, func(b *cryptobyte.Builder) {
		b.AddUint16(version12)
		b.AddBytes(random[:])
		vector8(b, h.SessionID)
		b.AddUint16(h.Suite)
		b.AddUint8(0)
		addExtensions(b, h.Extensions, h.build)
	})
}

func (h *ServerHello) build(b *cryptobyte.Builder) {
	addExtension(b, handshake.ExtSupportedVersions, func(b *cryptobyte.Builder) { b.AddUint16(version13) })
	if h.KeyShare.Group != 0 {
		addExtension(b, handshake.ExtKeyShare, func(b *cryptobyte.Builder) {
			b.AddUint16(h.KeyShare.Group)
			if !h.Retry {
				vector16(b, h.KeyShare.Key)
			}
		})
	}
	if h.PSK {
		addExtension(b, handshake.ExtPreSharedKey, func(b *cryptobyte.Builder) { b.AddUint16(h.SelectedIdentity) })
	}
	if h.Cookie != nil {
		addExtension(b, handshake.ExtCookie, func(b *cryptobyte.Builder) { vector16(b, h.Cookie) })
	}
}

// ParseServerHello reads a ServerHello of TLS 1.3 or a HelloRetryRequest. A server
// that has chosen an older version gets protocol_version, for TLS 1.3 alone is
// offered.
func ParseServerHello(msg []byte) (*ServerHello, error) {
	s, err := open(msg, handshake.TypeServerHello, msgServerHello)
	if err != nil {
		return nil, err
	}
	h := &ServerHello{}
	var legacy uint16
	var compression uint8
	var sid cryptobyte.String
	if !s.ReadUint16(&legacy) || !s.CopyBytes(h.Random[:]) || !s.ReadUint8LengthPrefixed(&sid) || len(sid) > 32 ||
		!s.ReadUint16(&h.Suite) || !s.ReadUint8(&compression) {
		return nil, undecodable(msgServerHello, "what stands before the extensions")
	}
	h.SessionID = sid
	in := &inServerHello
	if h.Retry = h.Random == retryRandom; h.Retry {
		in = &inHelloRetry
	}
	if s.Empty() {
		return nil, bad(in.message, handshake.AlertProtocolVersion, "%s is chosen, TLS 1.3 alone is offered", handshake.VersionName(legacy))
	}
	if h.Extensions, err = readExtensions(&s, in.message); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, undecodable(in.message, "what stands behind the extensions")
	}
	if err := h.readVersion(legacy, in.message); err != nil {
		return nil, err
	}
	if compression != 0 {
		return nil, bad(in.message, handshake.AlertIllegalParameter, "compression method %d", compression)
	}
	if err := in.judge(h.Extensions); err != nil {
		return nil, err
	}
	if err := h.decode(in.message); err != nil {
		return nil, err
	}
	return h, nil
}

// readVersion judges selected_version (RFC 8446, section 4.2.1).
func (h *ServerHello) readVersion(legacy uint16, message string) error {
	data, ok := find(h.Extensions, handshake.ExtSupportedVersions)
	if !ok {
		return bad(message, handshake.AlertProtocolVersion, "%s is chosen, TLS 1.3 alone is offered", handshake.VersionName(legacy))
	}
	if len(data) != 2 {
		return undecodable(message, "supported_versions")
	}
	if binary.BigEndian.Uint16(data) != version13 || legacy != version12 {
		return bad(message, handshake.AlertIllegalParameter, "a version that is not offered")
	}
	return nil
}

func (h *ServerHello) decode(message string) error {
	for _, e := range h.Extensions {
		s, ok := cryptobyte.String(e.Data), true
		switch e.Type {
		case handshake.ExtKeyShare:
			ok = s.ReadUint16(&h.KeyShare.Group)
			if !h.Retry {
				var key cryptobyte.String
				ok = ok && s.ReadUint16LengthPrefixed(&key) && !key.Empty()
				h.KeyShare.Key = key
			}
			if ok && h.KeyShare.Group == 0 {
				return bad(message, handshake.AlertIllegalParameter, "key_share of group 0")
			}
		case handshake.ExtPreSharedKey:
			h.PSK, ok = true, s.ReadUint16(&h.SelectedIdentity)
		case handshake.ExtCookie:
			var cookie cryptobyte.String
			ok = s.ReadUint16LengthPrefixed(&cookie) && !cookie.Empty()
			h.Cookie = cookie
		case handshake.ExtSupportedVersions:
			continue // readVersion
		}
		if !ok || !s.Empty() {
			return bad(message, handshake.AlertDecodeError, "cannot decode extension %d", e.Type)
		}
	}
	switch {
	case !h.Retry && h.KeyShare.Group == 0 && !h.PSK: // RFC 8446, section 9.2
		return bad(message, handshake.AlertMissingExtension, "neither key_share nor pre_shared_key")
	case h.Retry && h.KeyShare.Group == 0 && h.Cookie == nil: // section 4.1.4
		return bad(message, handshake.AlertIllegalParameter, "it asks for no change of the hello")
	}
	return nil
}
