package native

import (
	"context"
	"net"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/internal/work"
)

// leg is what a handshake has on either side.
type leg struct {
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

// newLeg begins a handshake. The inbox notes alerts of the peer at step.
func (e *Engine) newLeg(ctx context.Context, conn net.Conn, p *handshake.Params, check handshake.CheckPeer, l *handshake.Ledger, step handshake.Step) leg {
	in := record.NewReader(conn, &e.buffers)
	return leg{
		engine: e, ctx: ctx, conn: conn, params: p, check: check, ledger: l, brief: p.Ledger == handshake.LedgerSteps,
		in: in, inbox: inbox{in: in, ledger: l, step: step}, out: record.NewWriter(conn, &e.buffers),
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
	g.ledger.Note(handshake.Entry{Step: step, From: from, Message: handshake.MessageName(msg[0]), Size: len(msg), Facts: facts})
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
