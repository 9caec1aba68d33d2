package gateway

import (
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/policy"
)

// Tickets let clients resume their sessions, see handshake.TicketRule.
type Tickets struct {
	// Lifetime of a session since its full handshake; zero means one hour.
	Lifetime time.Duration
	// Keys seal the tickets; nil means keys that live in the gateway alone and
	// change every hour.
	Keys handshake.TicketSealer
}

// ticketRule is what the engine is told; nil for none. Keys of its own the gateway
// keeps over a reload.
func (g *Gateway) ticketRule(t *Tickets) *handshake.TicketRule {
	if t == nil {
		return nil
	}
	rule := &handshake.TicketRule{Lifetime: t.Lifetime, Keys: t.Keys}
	if rule.Keys == nil {
		rule.Keys = g.ticketKeys
	}
	return rule
}

// epocher is a Revocation whose answers have a number that grows whenever one
// of them may have changed.
type epocher interface{ Epoch() uint64 }

// params are the rule's, with what may change from flow to flow: the epoch,
// and the ticket rule, bound to the rule and to the policy as a whole.
func (fl *flow) params(plan *policy.Plan) *handshake.ServerParams {
	p := *plan.Client
	if r, ok := fl.g.revocation.(epocher); ok {
		p.Epoch = r.Epoch()
	}
	if t := fl.g.current.Load().tickets; t != nil {
		rule := *t
		// Neither a rule's name nor a digest has a NUL in it. The epoch is this
		// process's own; the digest of the lists also tells the tickets of one
		// that ran before, or beside, and had others.
		rule.Binding = []byte(fl.out.said.rule + "\x00" + fl.set.ID() + "\x00" + fl.g.crls())
		p.Ticket = &rule
	}
	return &p
}
