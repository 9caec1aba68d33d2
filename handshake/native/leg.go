package native

import (
	"context"
	"crypto/x509"
	"net"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// side is what a leg asks the server or the client that it is part of.
type side interface {
	// alerted words an alert of the peer, broken a breach of the protocol by it, with
	// the alert that the RFC names.
	alerted(received *alertReceived, err error) *handshake.Error
	broken(a handshake.Alert, err error) *handshake.Error
	// refusal refuses what the peer shows; code says what is wrong with it.
	refusal(code reason.Code, detail string) *handshake.Error
	// verify judges a chain by the plan.
	verify(shown []*x509.Certificate) (*handshake.Peer, *handshake.Error)
}

// leg is what a handshake has on either side.
type leg struct {
	side   side
	judged handshake.Step // at which the peer's chain is judged

	engine *Engine
	ctx    context.Context
	conn   net.Conn
	params *handshake.Params // of the side's plan
	check  handshake.CheckPeer
	ledger *handshake.Ledger
	brief  bool // LedgerSteps

	in    *record.Reader
	inbox inbox
	out   *record.Writer

	transcript *keys.Transcript
	agreed     handshake.State

	sentCCS bool
	at      handshake.Step // of what is waited for

	peer     *handshake.Peer // claimed; nil if it showed none
	verified *handshake.Peer // the same with its chain; nil until, or if not, verified
	observed *handshake.Error
	spent    work.Units

	secrets []interface{ Clear() } // of the handshake: cleared at its end, whatever it is
	waiting *keys.Traffic          // application_traffic_secret_0 of the peer
}

// newLeg begins a handshake in which the peer's chain is judged at that step.
func (e *Engine) newLeg(ctx context.Context, conn net.Conn, p *handshake.Params, check handshake.CheckPeer, l *handshake.Ledger, judged handshake.Step) leg {
	l.SetEngine(handshake.EngineNative)
	in := record.NewReader(conn, &e.buffers)
	return leg{
		judged: judged, engine: e, ctx: ctx, conn: conn, params: p, check: check, ledger: l, brief: p.Ledger == handshake.LedgerSteps,
		in: in, inbox: inbox{in: in, ledger: l}, out: record.NewWriter(conn, &e.buffers),
	}
}

// within runs the states of a handshake until they end or ctx does, and charges what
// they have cost.
func (g *leg) within(run func() error) error {
	late := make(chan struct{})
	stop := context.AfterFunc(g.ctx, func() {
		defer close(late)
		_ = g.conn.SetDeadline(time.Unix(1, 0)) // ends what waits
	})
	err := run()
	if !stop() {
		<-late
		if err == nil {
			err = g.ctx.Err()
		}
	}
	g.ledger.Spend(g.spent + work.Bytes(g.in.Bytes) + work.Records(g.in.Records))
	return err
}

// forget clears the secrets of the handshake: none is used behind it.
func (g *leg) forget() {
	for _, secret := range g.secrets {
		secret.Clear()
	}
}

// note adds an entry for a message, unless the ledger holds the steps alone.
func (g *leg) note(step handshake.Step, from handshake.Side, msg []byte, facts string) {
	if g.brief {
		return
	}
	g.ledger.Note(entryOf(step, from, msg, facts))
}

// entryOf is the entry for a message.
func entryOf(step handshake.Step, from handshake.Side, msg []byte, facts string) handshake.Entry {
	return handshake.Entry{Step: step, From: from, Message: handshake.MessageName(msg[0]), Size: len(msg), Facts: facts}
}

// say adds an entry that is no message.
func (g *leg) say(step handshake.Step, from handshake.Side, facts string) {
	if !g.brief {
		g.ledger.Note(handshake.Entry{Step: step, From: from, Facts: facts})
	}
}

// observe notes what would have refused the peer.
func (g *leg) observe(e *handshake.Error) {
	g.observed = e
	g.ledger.Note(handshake.Entry{Step: e.Step, From: handshake.SideUs, Facts: "observed, not enforced: " + string(e.Reason) + " " + e.Detail})
}
