package gateway

import (
	"fmt"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/ticket"
	"github.com/sslgate/sslgate/policy"
)

// Tickets let clients resume their sessions, see handshake.TicketRule.
type Tickets struct {
	// Lifetime of a session, counted from its full handshake; zero means one hour.
	Lifetime time.Duration
	// Keys seal the tickets. nil means keys that exist only in this gateway and change
	// every hour.
	Keys handshake.TicketSealer
}

// ticketRule is the engine's rule for tickets; nil for none. hello is the largest ClientHello
// taken. The gateway's own keys survive a reload.
func (g *Gateway) ticketRule(t *Tickets, hello int) *handshake.TicketRule {
	if t == nil {
		return nil
	}
	rule := &handshake.TicketRule{Lifetime: t.Lifetime, Keys: t.Keys, Hello: hello}
	if rule.Keys == nil {
		rule.Keys = g.ticketKeys
	}
	return rule
}

// unrevoked opens no ticket of a certificate that an OCSP answer has called revoked since: a
// full handshake follows, in which the client may show another certificate.
type unrevoked struct {
	handshake.TicketSealer
	revocation  Revocation
	authorities []string // of the rule
}

// Open is that of TicketSealer.
func (u *unrevoked) Open(sealed, binding []byte, now time.Time) []byte {
	opened := u.TicketSealer.Open(sealed, binding, now)
	if opened == nil {
		return nil
	}
	if state, err := ticket.Parse(opened); err == nil {
		clear(state.Secret)
		if u.revocation.Withdrawn(u.authorities, state.Chain) {
			clear(opened)
			return nil
		}
	}
	return opened
}

// params are the rule's parameters plus what may change from flow to flow: the epoch, and
// the ticket rule, bound to the rule and to all that it demands.
func (fl *flow) params(plan *policy.Plan) *handshake.ServerParams {
	p := plan.ClientParams()
	if p.Identity != nil {
		p.Identity = signedFor{p.Identity, fl}
	}
	revocation := fl.g.revocation
	if revocation != nil {
		p.Epoch = revocation.Epoch()
	}
	if t := fl.g.current.Load().tickets; t != nil {
		rule, lists := *t, ""
		if revocation != nil {
			var authorities []string
			for _, a := range p.Authorities {
				authorities = append(authorities, a.Name)
			}
			lists = revocation.DigestOf(authorities)
			rule.Keys = &unrevoked{TicketSealer: rule.Keys, revocation: revocation, authorities: authorities}
		}
		// The digest of the rule, not of the policy: an edit of another rule ends no ticket,
		// for each hello is asked anew which rule it comes to. A NUL is in no rule name and
		// in no digest in hexadecimal. The epoch counts within this process only;
		// the digest of the lists also separates the tickets of another process (earlier, or
		// beside this one) that had other lists. It is of the rule's own authorities.
		rule.Binding = fmt.Appendf(nil, "%s\x00%x\x00%s", plan.Rule, plan.Digest(), lists)
		p.Ticket = &rule
	}
	return p
}

// TicketKeys are the gateway's own keys, for a process that takes over.
func (g *Gateway) TicketKeys() *ticket.Keys { return g.ticketKeys }
