package wire

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// EncryptedExtensions is RFC 8446, section 4.3.1: what the server answers to the
// hello and does not need for the keys.
type EncryptedExtensions struct {
	Extensions []handshake.Extension // as they came

	ServerName bool     // the SNI was used (RFC 6066, section 3)
	Groups     []uint16 // what the server prefers, for later connections; nil where absent
	ALPN       string   // the one protocol that is chosen, "" where absent
	EarlyData  bool
}

// Marshal writes the message.
func (m *EncryptedExtensions) Marshal() ([]byte, error) {
	return seal(handshake.TypeEncryptedExtensions, func(b *cryptobyte.Builder) {
		addExtensions(b, m.Extensions, m.build)
	})
}

func (m *EncryptedExtensions) build(b *cryptobyte.Builder) {
	if m.ServerName {
		addEmpty(b, handshake.ExtServerName)
	}
	if m.Groups != nil {
		addExtension(b, handshake.ExtSupportedGroups, func(b *cryptobyte.Builder) { codes16(b, m.Groups) })
	}
	if m.ALPN != "" {
		addExtension(b, handshake.ExtALPN, func(b *cryptobyte.Builder) {
			b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { vector8(b, []byte(m.ALPN)) })
		})
	}
	if m.EarlyData {
		addEmpty(b, handshake.ExtEarlyData)
	}
}

// ParseEncryptedExtensions reads the message. Whether each extension was asked for is
// the caller's question: see Answers.
func ParseEncryptedExtensions(msg []byte) (*EncryptedExtensions, error) {
	s, err := open(msg, handshake.TypeEncryptedExtensions, msgEncryptedExtensions)
	if err != nil {
		return nil, err
	}
	m := &EncryptedExtensions{}
	if m.Extensions, err = inEncrypted.read(&s); err != nil {
		return nil, err
	}
	if !s.Empty() {
		return nil, undecodable(msgEncryptedExtensions, "what stands behind the extensions")
	}
	for _, e := range m.Extensions {
		ok := true
		switch e.Type {
		case handshake.ExtServerName:
			m.ServerName, ok = true, len(e.Data) == 0
		case handshake.ExtEarlyData:
			m.EarlyData, ok = true, len(e.Data) == 0
		case handshake.ExtSupportedGroups:
			if m.Groups, err = readCodes16(e.Data, msgEncryptedExtensions, "supported_groups"); err != nil {
				return nil, err
			}
		case handshake.ExtALPN:
			m.ALPN, ok = readProtocol(e.Data)
		}
		if !ok {
			return nil, bad(msgEncryptedExtensions, handshake.AlertDecodeError, "cannot decode extension %d", e.Type)
		}
	}
	return m, nil
}

// readProtocol reads a ProtocolNameList of one name, as a server answers with (RFC
// 7301, section 3.1).
func readProtocol(data []byte) (string, bool) {
	s := cryptobyte.String(data)
	var list, name cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&list) || !s.Empty() || !list.ReadUint8LengthPrefixed(&name) || !list.Empty() || name.Empty() {
		return "", false
	}
	return string(name), true
}
