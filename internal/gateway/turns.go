package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/turns"
)

// The limits of handshakes where Limits has none: those of internal/config.
const (
	defaultHandshakes          = 1024
	defaultHandshakesPerSecond = 250
	// waitingTimes bounds those that wait, as a multiple of those in flight:
	// with 10 s for the whole handshake, who stands further back has no chance.
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

func (l Limits) turns() turns.Limits {
	return turns.Limits{
		InFlight: l.Handshakes, InFlightPerClient: l.HandshakesPerClient,
		PerSecond: l.HandshakesPerSecond, Waiting: waitingTimes * l.Handshakes,
	}
}

// Handshakes tells how many are in flight and wait.
func (g *Gateway) Handshakes() turns.Stats { return g.turns.Stats() }

// takeTurn waits until this flow may begin the costly part of its handshake:
// its hello is there, and a rule terminates it. ctx ends with the deadline of
// the handshake, which counts from the accept. False means that the flow is
// over: refused with a RST, for what is refused here should cost little.
func (fl *flow) takeTurn(ctx context.Context) bool {
	began := time.Now()
	turn, err := fl.g.turns.Begin(ctx, fl.rec.Client.Addr())
	if err == nil {
		fl.turn = turn
		if waited := time.Since(began); waited > time.Millisecond {
			fl.ledger.Note(handshake.Entry{From: handshake.SideUs, Facts: fmt.Sprintf("waited %s for its turn", waited.Round(time.Millisecond))})
		}
		return true
	}
	fl.refuseHello(noTurn(err, time.Since(began)), fl.facts.Hello.RecordVersion)
	return false
}

// noTurn is the refusal of a handshake whose turn did not come within waited.
func noTurn(err error, waited time.Duration) *handshake.Error {
	e := handshake.Refuse(handshake.StepClientHello, reason.HandshakeLimit, "")
	if errors.Is(err, turns.ErrFull) {
		e.Detail = err.Error()
	} else {
		e.Detail = fmt.Sprintf("its turn did not come within %s", waited.Round(time.Millisecond))
	}
	e.Err = err
	return e
}
