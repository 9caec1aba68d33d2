package handshake

import (
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/internal/ticket"
)

// TicketRule allows clients to resume a session (RFC 5077; RFC 8446, section
// 4.6.1), which skips steps 3, 5 and 6. So that this cannot outrun policy, a
// ticket is sealed under a name that has Binding in it, and with it what of
// the Params decides about clients: versions, suites and groups, authorities,
// demand for a certificate, and the SNI. A ticket that was made under
// anything else does not open, and a full handshake follows. What was verified
// then is verified again on resumption, and CheckPeer is asked again.
type TicketRule struct {
	// Binding names the rule, the policy and the state of revocation. It must
	// differ where a client that one of two rules lets through might be refused by
	// the other, and be the same in every process that is to open the ticket.
	Binding []byte
	// Lifetime of a session since its full handshake, which resuming does not
	// prolong. Zero means one hour; at most ticket.MaxLifetime.
	Lifetime time.Duration
	// Keys seal the tickets. Required.
	Keys TicketSealer
	// Hello is the largest ClientHello that is taken, in bytes with its header; 0 means
	// MaxHello. A hello has its client's ticket in it.
	Hello int
}

const defaultTicketLifetime = time.Hour

// The bounds of a ticket, in bytes. It is longer than its state by ticket.Overhead.
const (
	// MaxTicket is the largest state.
	MaxTicket = ticket.MaxState
	// MaxPlainTicket is the largest state for a client that knows no ML-DSA. The
	// message with it has no more than 16,384 bytes: OpenSSL of the time of 1.1.0
	// ends the connection at a larger NewSessionTicket.
	MaxPlainTicket = 16<<10 - ticket.Overhead - TicketFraming
	// TicketFraming is what a NewSessionTicket of TLS 1.3 has besides the
	// ticket, in bytes (RFC 8446, section 4.6.1): header, ticket_lifetime,
	// ticket_age_add, an empty ticket_nonce, the lengths of ticket and
	// extensions.
	TicketFraming = MessageHeader + 4 + 4 + 1 + 2 + 2
)

// TicketRoom is the largest state for the client of a hello, in bytes: one that
// lists ML-DSA takes larger tickets, as it takes larger certificates.
func TicketRoom(h *ClientHello) int {
	if h != nil {
		for _, s := range h.SignatureSchemes {
			if s := tls.SignatureScheme(s); s == tls.MLDSA44 || s == tls.MLDSA65 || s == tls.MLDSA87 {
				return MaxTicket
			}
		}
	}
	return MaxPlainTicket
}

// returned is what a ClientHello with a ticket may have more than one without, in bytes:
// pre_shared_key around the ticket has 63 (RFC 8446, section 4.2.11, with a binder of
// SHA-384), and clients change padding, GREASE and key shares from one hello to the next.
const returned = 512

// Room is the largest state for the client of a hello, in bytes, whose ticket the client
// can bring back within Hello; 0 where there is none.
func (r *TicketRule) Room(h *ClientHello) int {
	room := TicketRoom(h)
	if h == nil || r.Hello <= 0 {
		return room
	}
	rest := len(h.Raw) // without the ticket of this time
	for _, e := range h.Extensions {
		if e.Type == ExtSessionTicket || e.Type == ExtPreSharedKey {
			rest -= len(e.Data)
		}
	}
	return max(min(room, r.Hello-rest-returned-ticket.Overhead), 0)
}

// Life is Lifetime within its bounds.
func (r *TicketRule) Life() time.Duration {
	switch {
	case r.Lifetime <= 0:
		return defaultTicketLifetime
	case r.Lifetime > ticket.MaxLifetime:
		return ticket.MaxLifetime
	}
	return r.Lifetime
}

// TicketSealer seals and opens session tickets. ticket.Keys is one; keys that are
// shared by a fleet may be another. Safe for many goroutines.
type TicketSealer interface {
	// Seal makes a ticket of at most MaxTicket bytes of state, which opens under
	// the same binding alone.
	Seal(state, binding []byte, now time.Time) ([]byte, error)
	// Open returns nil for everything that Seal has not made under a key that
	// still counts and the same binding.
	Open(ticket, binding []byte, now time.Time) []byte
}

var _ TicketSealer = (*ticket.Keys)(nil)

// TicketBinding is the name that a ticket is sealed under. It is the same in every
// process for the same demands: the epoch, a process's own count, is not in it. What
// has changed with it is asked again on resumption.
func (p *ServerParams) TicketBinding(serverName string) []byte {
	h := sha256.New()
	lasting := p.Params
	lasting.Epoch = 0
	_, _ = fmt.Fprintf(h, "sslgate ticket %d\n%x\n%x\n%d %q\n", ticket.Version, p.Ticket.Binding, lasting.Demands(0), p.ClientAuth, serverName) // a hash takes everything
	return h.Sum(nil)
}
