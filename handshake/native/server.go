package native

import (
	"context"
	"crypto/fips140"
	"net"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
)

// Server is the handshake with an intercepted client:
//
//  1. a hello that cannot lead to a handshake within the profile is answered
//     with the exact alert, before anything else is sent (step 1);
//  2. our flight goes out (step 2), and nothing behind it: no data at 0.5-RTT, no ticket;
//  3. the chain, CertificateVerify and Finished are verified (steps 5 to 7);
//  4. only then check is asked, once, of a proven peer (step 6). A refusal is an alert
//     under the keys of application data: the client meets it on its first read, for its
//     own handshake has ended before;
//  5. a ticket leaves with Session.Grant.
func (e *Engine) Server(ctx context.Context, conn net.Conn, hello *handshake.ClientHello, p *handshake.ServerParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	s := e.newServer(ctx, conn, hello, p, check, l)
	if hello != nil && !l.HasHello() {
		l.NoteHello(hello)
	}
	if refused := s.prepare(); refused != nil {
		return nil, s.alertFirst(refused)
	}
	err := s.within(s.run)
	if err != nil {
		return nil, s.fail(err)
	}
	return s.session(), nil
}

func (e *Engine) newServer(ctx context.Context, conn net.Conn, hello *handshake.ClientHello, p *handshake.ServerParams, check handshake.CheckPeer, l *handshake.Ledger) *server {
	s := &server{leg: e.newLeg(ctx, conn, &p.Params, check, l, handshake.StepClientVerified), plan: p, hello: hello}
	s.side, s.at, s.inbox.step = s, handshake.StepClientHello, handshake.StepServerHello
	s.in.Midway = true // no change_cipher_spec may come before the hello
	return s
}

// state is a state of the handshake: what is waited for, or what is to be done. Its
// step does that and says what comes next; nil is the end.
type state interface {
	step(s *server) (state, error)
}

// server is what the states of one handshake have in common.
type server struct {
	leg
	plan   *handshake.ServerParams
	hello  *handshake.ClientHello // the last one
	choice *choice

	ticket  []byte      // NewSessionTicket that waits for the grant; nil: none
	resumed *resumption // nil: a full handshake

	server12 *keys.Traffic12 // our keys of TLS 1.2, until they are the writer's
	last     *ending12       // what of TLS 1.2 waits for the grant; nil: nothing
}

// forget clears the secrets of the handshake, and that of the session that it goes on with.
func (s *server) forget() {
	clear(s.resumed.psk())
	s.leg.forget()
}

// run goes through the states.
func (s *server) run() error {
	defer s.forget()
	for st := state(expectHello{}); st != nil; {
		next, err := st.step(s)
		if err != nil {
			return err
		}
		st = next
	}
	return nil
}

// prepare finds out what can be known before anything is read: our certificates, and
// whether the hello is acceptable.
func (s *server) prepare() *handshake.Error {
	if fips140.Enabled() {
		return handshake.OurFault("GODEBUG=fips140 cannot be kept: see Cannot")
	}
	p, refused := s.plan.Identified(s.ctx, s.hello, s.engine)
	if refused != nil {
		return refused
	}
	s.plan, s.params = p, &p.Params
	if len(p.Certificates) == 0 {
		return handshake.OurFault("no certificate to show")
	}
	if s.hello == nil {
		return nil
	}
	s.choice, refused = choose(p, s.hello)
	return refused
}

// session ends a handshake that went well.
func (s *server) session() *handshake.Session {
	s.agreed.Observed = s.observed
	c := newConn(&s.leg)
	c.ticket, c.last = s.ticket, s.last
	return &handshake.Session{State: s.agreed, Conn: c, Peer: s.peer, Granted: c.grant}
}
