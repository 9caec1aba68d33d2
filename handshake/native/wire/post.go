package wire

import (
	"golang.org/x/crypto/cryptobyte"

	"github.com/sslgate/sslgate/handshake"
)

// MaxTicketLifetime is the longest lifetime of a ticket, in seconds: seven days (RFC
// 8446, section 4.6.1). Who reads a longer one takes it for this.
const MaxTicketLifetime = 604800

// NewSessionTicket is RFC 8446, section 4.6.1.
type NewSessionTicket struct {
	Lifetime   uint32 // seconds
	AgeAdd     uint32
	Nonce      []byte                // at most 255 bytes, unique on the connection
	Ticket     []byte                // never empty
	Extensions []handshake.Extension // as they came; none is written by hand
}

// Marshal writes the message.
func (m *NewSessionTicket) Marshal() ([]byte, error) {
	return seal(handshake.TypeNewSessionTicket, func(b *cryptobyte.Builder) {
		b.AddUint32(m.Lifetime)
		b.AddUint32(m.AgeAdd)
		vector8(b, m.Nonce)
		vector16(b, m.Ticket)
		addExtensions(b, m.Extensions, func(*cryptobyte.Builder) {})
	})
}

// ParseNewSessionTicket reads the message.
func ParseNewSessionTicket(msg []byte) (*NewSessionTicket, error) {
	s, err := open(msg, handshake.TypeNewSessionTicket, msgNewSessionTicket)
	if err != nil {
		return nil, err
	}
	m := &NewSessionTicket{}
	var nonce, ticket cryptobyte.String
	if !s.ReadUint32(&m.Lifetime) || !s.ReadUint32(&m.AgeAdd) || !s.ReadUint8LengthPrefixed(&nonce) ||
		!s.ReadUint16LengthPrefixed(&ticket) || ticket.Empty() {
		return nil, undecodable(msgNewSessionTicket, "the ticket")
	}
	m.Nonce, m.Ticket = nonce, ticket
	if m.Extensions, err = inNewTicket.read(&s); err != nil {
		return nil, err
	}
	if data, ok := find(m.Extensions, handshake.ExtEarlyData); ok && len(data) != 4 { // max_early_data_size
		return nil, undecodable(msgNewSessionTicket, "early_data")
	}
	if !s.Empty() {
		return nil, undecodable(msgNewSessionTicket, "what stands behind the extensions")
	}
	return m, nil
}

// KeyUpdate is RFC 8446, section 4.6.3.
type KeyUpdate struct {
	Requested bool // the other side has to update its keys too
}

// Marshal writes the message.
func (m *KeyUpdate) Marshal() ([]byte, error) {
	return seal(handshake.TypeKeyUpdate, func(b *cryptobyte.Builder) {
		if m.Requested {
			b.AddUint8(1)
			return
		}
		b.AddUint8(0)
	})
}

// ParseKeyUpdate reads the message.
func ParseKeyUpdate(msg []byte) (*KeyUpdate, error) {
	s, err := open(msg, handshake.TypeKeyUpdate, msgKeyUpdate)
	if err != nil {
		return nil, err
	}
	if len(s) != 1 {
		return nil, undecodable(msgKeyUpdate, "request_update")
	}
	if s[0] > 1 {
		return nil, bad(msgKeyUpdate, handshake.AlertIllegalParameter, "request_update of %d", s[0])
	}
	return &KeyUpdate{Requested: s[0] == 1}, nil
}
