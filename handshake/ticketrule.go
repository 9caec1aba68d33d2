package handshake

import (
	"crypto/sha256"
	"fmt"
	"time"
)

// TicketRule allows clients to resume a session (RFC 5077; RFC 8446, section
// 4.6.1), which skips steps 3, 5 and 6. So that this cannot outrun policy, a
// ticket is sealed under a name that has Binding in it, and with it what of
// the Params decides about clients: versions, suites and groups, authorities,
// demand for a certificate, epoch, and the SNI. A ticket that was made under
// anything else does not open, and a full handshake follows. What was verified
// then is verified again on resumption, and CheckPeer is asked again.
type TicketRule struct {
	// Binding names the rule and the policy. It must differ where a client
	// that one of two rules lets through might be refused by the other.
	Binding []byte
	// Lifetime of a session since its full handshake, which resuming does not
	// prolong. Zero means one hour; at most MaxTicketLifetime.
	Lifetime time.Duration
	// Keys seal the tickets. Required.
	Keys TicketSealer
}

// MaxTicketLifetime bounds every session: a day is enough to spare a client
// its handshakes, and a stolen ticket key opens no older one.
const MaxTicketLifetime = 24 * time.Hour

const defaultTicketLifetime = time.Hour

// MaxTicket is the largest ticket in bytes that is made. It holds the client's
// chain; sessions of clients with a larger one are not resumed.
const MaxTicket = 16 << 10

// Life is Lifetime within its bounds.
func (r *TicketRule) Life() time.Duration {
	switch {
	case r.Lifetime <= 0:
		return defaultTicketLifetime
	case r.Lifetime > MaxTicketLifetime:
		return MaxTicketLifetime
	}
	return r.Lifetime
}

// TicketSealer seals and opens session tickets. TicketKeys is one; keys that are
// shared by a fleet may be another. Safe for many goroutines.
type TicketSealer interface {
	// Seal makes a ticket of at most MaxTicket bytes of state, which opens under
	// the same binding alone.
	Seal(state, binding []byte, now time.Time) ([]byte, error)
	// Open returns nil for everything that Seal has not made under a key that
	// still counts and the same binding.
	Open(ticket, binding []byte, now time.Time) []byte
}

// TicketBinding is the name that a ticket is sealed under.
func (p *ServerParams) TicketBinding(serverName string) []byte {
	h := sha256.New()
	demands := p.Demands(0)
	_, _ = fmt.Fprintf(h, "sslgate ticket 1\n%x\n%x\n%d %q\n", p.Ticket.Binding, demands, p.ClientAuth, serverName) // a hash takes everything
	return h.Sum(nil)
}
