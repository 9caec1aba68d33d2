package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// The limits of handshakes if Limits sets none: the defaults of internal/config.
const (
	defaultHandshakes          = 1024
	defaultHandshakesPerSecond = 250
	// waitingTimes bounds the handshakes that wait, as a multiple of those in flight. With
	// 10 s for the whole handshake, one further back in the queue has no chance.
	waitingTimes = 4
)

func (l *Limits) handshakeDefaults() {
	if l.Handshakes <= 0 {
		l.Handshakes = defaultHandshakes
	}
	if l.HandshakesPerClient <= 0 {
		l.HandshakesPerClient = max(l.Handshakes/8, 1)
	}
	if l.HandshakesPerSecond <= 0 {
		l.HandshakesPerSecond = defaultHandshakesPerSecond
	}
}

func (l Limits) turns() fairqueue.Limits {
	return fairqueue.Limits{
		InFlight: l.Handshakes, InFlightPerClient: l.HandshakesPerClient,
		PerSecond: l.HandshakesPerSecond, Waiting: waitingTimes * l.Handshakes,
	}
}

// Turns is the queue of handshake turns, for other code that handshakes with strangers.
func (g *Gateway) Turns() *fairqueue.Queue { return g.turns }

// Handshakes returns how many are in flight and how many wait.
func (g *Gateway) Handshakes() fairqueue.Stats { return g.turns.Stats() }

// takeTurn waits until this flow may begin work that costs more than its own bytes. The
// hello is complete and readable by then; the policy's decision about it and the handshake
// come after the turn. ctx ends with the deadline of the handshake, which counts from the
// accept. False means that the flow was refused with a RST, as a refusal under load should
// cost little.
func (fl *flow) takeTurn(ctx context.Context) bool {
	if e := fl.beginTurn(ctx); e != nil {
		fl.refuseHello(e, fl.facts.Hello.RecordVersion)
		return false
	}
	return true
}

// beginTurn waits for the flow's turn, which is in fl.turn then. The error is the refusal.
func (fl *flow) beginTurn(ctx context.Context) *handshake.Error {
	began := time.Now()
	turn, err := fl.g.turns.Begin(ctx, fl.facts.Src.Addr())
	if err != nil {
		return noTurn(err, time.Since(began))
	}
	fl.turn = turn
	if waited := time.Since(began); waited > time.Millisecond {
		fl.ledger.Note(handshake.Entry{From: handshake.SideUs, Facts: fmt.Sprintf("waited %s for its turn", waited.Round(time.Millisecond))})
	}
	return nil
}

// cost is what the client's leg has cost so far: the hello, the decision about it, and the
// handshake if there was one.
func (fl *flow) cost() work.Units {
	if fl.facts.Hello == nil { // action originate: the destination's leg is charged by itself
		return 0
	}
	return work.Leg(len(fl.facts.Hello.Raw), fl.facts.Hello.Records, fl.ledger.Spent())
}

// refuseUnread ends a flow whose first bytes are no readable hello. The received bytes are
// charged. If an answer is to be sent, the answer and its record wait for a turn: a client
// that sends plain HTTP, or hellos that are refused, as fast as possible is answered no
// faster than others. Without a turn it gets a RST instead; the reason stays.
func (fl *flow) refuseUnread(ctx context.Context, conn net.Conn, err error) {
	if fl.denied != nil {
		fl.unheard(conn)
		return
	}
	e := handshake.AsError(err)
	switch e.Reason {
	case reason.HelloTimeout, reason.HelloEOF, reason.HelloReset: // what began this late, or not at all, may be no TLS
		e.Detail = fmt.Sprintf("%s in %s; rule %q waits for a ClientHello", e.Detail, time.Since(fl.start).Round(time.Second), fl.awaited())
	}
	cost := work.Hello(0, 0)
	if c, ok := conn.(handshake.Peeked); ok {
		cost = work.Hello(c.Pending(), c.Records())
	}
	if e.Wanted == handshake.AlertNone { // the client is gone, or it is too late
		fl.g.turns.Charge(fl.facts.Src.Addr(), cost)
	} else if turn, terr := fl.g.turns.Begin(ctx, fl.facts.Src.Addr()); terr == nil {
		turn.Cost(cost)
		turn.End()
	} else {
		e.Wanted = handshake.AlertNone
	}
	fl.refuseHello(e, 0)
}

// noTurn is the refusal of a handshake whose turn did not come within waited.
func noTurn(err error, waited time.Duration) *handshake.Error {
	e := handshake.Refuse(handshake.StepClientHello, reason.HandshakeLimit, "")
	if errors.Is(err, fairqueue.ErrFull) {
		e.Detail = err.Error()
	} else {
		e.Detail = fmt.Sprintf("its turn did not come within %s", waited.Round(time.Millisecond))
	}
	e.Err = err
	return e
}
