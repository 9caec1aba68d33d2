package native

import (
	"context"
	"crypto/fips140"
	"net"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/internal/work"
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
	late := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(late)
		_ = conn.SetDeadline(time.Unix(1, 0)) // ends what waits
	})
	err := s.run()
	if !stop() {
		<-late
		if err == nil {
			err = ctx.Err()
		}
	}
	l.Spend(s.spent + work.Bytes(s.in.Bytes) + work.Records(s.in.Records))
	if err != nil {
		return nil, s.fail(err)
	}
	return s.session(), nil
}

func (e *Engine) newServer(ctx context.Context, conn net.Conn, hello *handshake.ClientHello, p *handshake.ServerParams, check handshake.CheckPeer, l *handshake.Ledger) *server {
	s := &server{
		engine: e, ctx: ctx, conn: conn, plan: p, check: check, ledger: l, hello: hello,
		in: record.NewReader(conn, &e.buffers), out: record.NewWriter(conn, &e.buffers),
		brief: p.Ledger == handshake.LedgerSteps, at: handshake.StepClientHello,
	}
	s.in.Midway = true // no change_cipher_spec may come before the hello
	s.inbox = inbox{in: s.in, ledger: l, step: handshake.StepServerHello}
	return s
}

// state is a state of the handshake: what is waited for, or what is to be done. Its
// step does that and says what comes next; nil is the end.
type state interface {
	step(s *server) (state, error)
}

// server is what the states of one handshake have in common.
type server struct {
	engine *Engine
	ctx    context.Context
	conn   net.Conn
	plan   *handshake.ServerParams
	check  handshake.CheckPeer
	ledger *handshake.Ledger
	brief  bool // LedgerSteps

	in    *record.Reader
	inbox inbox
	out   *record.Writer

	hello      *handshake.ClientHello // the last one
	choice     *choice
	transcript *keys.Transcript
	agreed     handshake.State

	sentCCS bool
	at      handshake.Step // of what is waited for

	peer     *handshake.Peer // claimed; nil if it showed none
	verified *handshake.Peer // the same with its chain; nil until, or if not, verified
	observed *handshake.Error
	spent    work.Units

	secrets []interface{ Clear() } // of the handshake: cleared at its end, whatever it is
	waiting *keys.Traffic          // client_application_traffic_secret_0
	ticket  []byte                 // NewSessionTicket that waits for the grant; nil: none
	resumed *resumption            // nil: a full handshake
}

// run goes through the states.
func (s *server) run() error {
	defer func() {
		for _, secret := range s.secrets {
			secret.Clear()
		}
	}()
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
	s.plan = p
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
	c := newConn(s)
	return &handshake.Session{State: s.agreed, Conn: c, Peer: s.peer, Granted: c.grant}
}

// note adds an entry for a message, unless the ledger holds the steps alone.
func (s *server) note(step handshake.Step, from handshake.Side, msg []byte, facts string) {
	if s.brief {
		return
	}
	s.ledger.Note(handshake.Entry{Step: step, From: from, Message: handshake.MessageName(msg[0]), Size: len(msg), Facts: facts})
}

// say adds an entry that is no message.
func (s *server) say(step handshake.Step, from handshake.Side, facts string) {
	if !s.brief {
		s.ledger.Note(handshake.Entry{Step: step, From: from, Facts: facts})
	}
}
