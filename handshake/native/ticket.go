package native

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/ticket"
)

// This file is resumption with a PSK and a key exchange (RFC 8446, sections 2.2, 4.2.11
// and 4.6.1). docs/tickets.md says what a ticket is and what it is bound to.

// maxIdentities bounds the tickets of one hello that are looked at.
const maxIdentities = 5

// maxMade is how old a ticket may be (section 4.6.1).
const maxMade = wire.MaxTicketLifetime * time.Second

// resumption is a session that is gone on with.
type resumption struct {
	ticket.State
	index uint16 // of its identity in the hello
}

// psk is the pre-shared key, nil for a full handshake.
func (r *resumption) psk() []byte {
	if r == nil {
		return nil
	}
	return r.Secret
}

// resumable says whether this client may resume sessions at all.
func (s *server) resumable() bool {
	if !s.takesTickets() {
		return false
	}
	modes, err := wire.PSKModes(s.hello)
	return err == nil && slices.Contains(modes, wire.ModePSKDHE)
}

// resume finds the first ticket of the hello that opens and may be used. One that may
// not leads to a full handshake; one whose binder is wrong to decrypt_error. The
// transcript has what came before this hello.
func (s *server) resume() error {
	if !s.hello.PreSharedKey || !s.resumable() {
		return nil
	}
	offered, err := wire.ReadPSKs(s.hello)
	if err != nil {
		return err
	}
	binding := s.plan.TicketBinding(s.hello.ServerName)
	for i, identity := range offered.Identities[:min(len(offered.Identities), maxIdentities)] {
		r, peer := s.open(identity.Identity, binding, s.fitsTicket)
		if r == nil {
			continue
		}
		sum, err := s.transcript.SumWith(offered.Truncated)
		if err != nil {
			clear(r.Secret)
			return err
		}
		early := keys.NewEarly(s.choice.suite, r.Secret)
		defer early.Clear()
		if !keys.Equal(early.Binder(sum), offered.Binders[i]) { // section 4.2.11.2
			clear(r.Secret)
			return &wire.Error{Message: handshake.MsgClientHello, Alert: handshake.AlertDecryptError, Detail: "the binder of a ticket is wrong"}
		}
		r.index = uint16(i)
		s.resumed, s.peer, s.agreed.Resumed = r, peer, true
		return nil
	}
	return nil
}

// fitsTicket says whether a session is one that this hello may go on with.
func (s *server) fitsTicket(r *ticket.State) bool {
	suite := keys.SuiteOf(r.Suite)
	return r.Version == tls.VersionTLS13 && suite != nil && suite.SameHash(s.choice.suite) && len(r.Secret) == s.choice.suite.HashSize
}

// open opens a ticket and holds it against the plan; nil leads to a full handshake.
// fits says whether the session is of this version. peer is nil where the client has
// shown nothing.
func (s *server) open(sealed, binding []byte, fits func(*ticket.State) bool) (r *resumption, peer *handshake.Peer) {
	rule, now := s.plan.Ticket, s.plan.Time()
	data := rule.Keys.Open(sealed, binding, now)
	if data == nil {
		return nil, nil
	}
	defer clear(data)
	state, err := ticket.Parse(data)
	if err != nil {
		return nil, nil
	}
	defer func() {
		if r == nil {
			clear(state.Secret)
		}
	}()
	opened := &resumption{State: *state}
	switch auth := s.plan.ClientAuth; {
	case !fits(state),
		now.After(state.Born.Add(rule.Life())), now.Before(state.Born.Add(-time.Second)), !now.Before(state.Until), now.After(state.Made.Add(maxMade)),
		len(state.Chain) == 0 && auth == handshake.ClientAuthRequired, len(state.Chain) > 0 && auth == handshake.ClientAuthNone,
		len(state.Chain) > 0 && !slices.Contains(s.accepted(), state.Scheme):
		return nil, nil
	}
	if _, ok := s.plan.Profile.Allows(state.Version, state.Suite, state.Group); !ok {
		return nil, nil
	}
	if len(state.Chain) == 0 {
		return opened, nil
	}
	peer = &handshake.Peer{OCSPStaple: state.Staple, SignatureScheme: state.Scheme}
	for _, der := range state.Chain {
		c, err := s.engine.known.parse(der)
		if err != nil {
			return nil, nil
		}
		peer.Shown = append(peer.Shown, c)
	}
	if len(peer.OCSPStaple) == 0 {
		peer.OCSPStaple = nil
	}
	return opened, peer
}

// inherited says in the ledger where skipped steps come from.
func (s *server) inherited(steps ...handshake.Step) {
	facts := fmt.Sprintf("inherited from session %s, %s ago", s.resumed, s.plan.Time().Sub(s.resumed.Born).Truncate(time.Second))
	for _, step := range steps {
		s.ledger.Decide(step, facts)
	}
}

// makeTicket makes the ticket that leaves with the grant. There is none where it would
// be too large, or the session's time is over.
func (s *server) makeTicket(secret *keys.Resumption) error {
	defer secret.Clear()
	if !s.resumable() {
		return nil
	}
	psk := secret.PSK(nil)
	defer clear(psk)
	sealed, life, err := s.seal(psk)
	if err != nil || sealed == nil {
		return err
	}
	var add [4]byte
	if _, err := rand.Read(add[:]); err != nil {
		return fmt.Errorf("ticket_age_add: %w", err)
	}
	m := &wire.NewSessionTicket{Lifetime: uint32(life / time.Second), AgeAdd: binary.BigEndian.Uint32(add[:]), Ticket: sealed}
	s.ticket, err = m.Marshal()
	return err
}

// seal makes a ticket of the session with that secret, for so long; nil where there is
// none.
func (s *server) seal(secret []byte) (sealed []byte, life time.Duration, err error) {
	rule, now := s.plan.Ticket, s.plan.Time()
	next, err := s.ticketState(now)
	if err != nil {
		return nil, 0, err
	}
	life = min(next.Born.Add(rule.Life()).Sub(now), next.Until.Sub(now), maxMade)
	if life < time.Second {
		return nil, 0, nil
	}
	next.Secret = secret
	data, err := next.Marshal()
	defer clear(data)
	if err != nil || len(data) > rule.Room(s.hello) {
		return nil, 0, nil // a chain that is too large: the client makes full handshakes
	}
	sealed, err = rule.Keys.Seal(data, s.plan.TicketBinding(s.hello.ServerName), now)
	if err != nil {
		fault := handshake.OurFault("a ticket cannot be sealed")
		fault.Step, fault.Err = handshake.StepApplicationData, err
		return nil, 0, fault
	}
	return sealed, life, nil
}

// ticketState is the state of the next ticket, without its secret. A session that is
// gone on with keeps its name, its birth and what was proven then.
func (s *server) ticketState(now time.Time) (*ticket.State, error) {
	if s.resumed != nil {
		next := s.resumed.State
		next.Made, next.Suite = now, s.choice.suite.ID
		return &next, nil
	}
	next := &ticket.State{
		Born: now, Made: now, Until: now.Add(ticket.MaxLifetime),
		Version: s.agreed.Version, Suite: s.choice.suite.ID, Group: s.choice.group,
		ExtendedMasterSecret: s.agreed.Version == tls.VersionTLS12, // the others get no ticket
	}
	if _, err := rand.Read(next.Session[:]); err != nil {
		return nil, fmt.Errorf("name of a session: %w", err)
	}
	if s.peer != nil {
		next.Scheme, next.Staple = s.peer.SignatureScheme, s.peer.OCSPStaple
		for _, c := range s.peer.Shown {
			next.Chain = append(next.Chain, c.Raw)
		}
		next.Until = earliest(s.peer.Chain, next.Until)
	}
	return next, nil
}

// earliest is the first end of some certificates, at most until.
func earliest(chain []*x509.Certificate, until time.Time) time.Time {
	for _, c := range chain {
		if c.NotAfter.Before(until) {
			until = c.NotAfter
		}
	}
	return until
}
