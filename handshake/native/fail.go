package native

import (
	"context"
	"errors"
	"io"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/handshake/native/wire"
	"github.com/sslgate/sslgate/internal/reason"
)

// alertFirst answers a hello with a plaintext alert, before anything else.
func (s *server) alertFirst(e *handshake.Error) *handshake.Error {
	if e.Wanted == handshake.AlertNone {
		return e
	}
	var version uint16
	if s.hello != nil {
		version = s.hello.RecordVersion
	}
	if err := handshake.SendAlert(s.conn, e.Wanted, version); err != nil {
		if e.Err == nil {
			e.Err = err
		}
		return e
	}
	s.ledger.Note(alertEntry(handshake.StepClientHello, e.Wanted))
	return e
}

func alertEntry(step handshake.Step, a handshake.Alert) handshake.Entry {
	return handshake.Entry{Step: step, From: handshake.SideUs, Message: handshake.MsgAlert, Alert: a, Facts: a.String(), Size: 2}
}

// fail words what ended a handshake, and sends the alert that is wanted.
func (s *server) fail(err error) *handshake.Error {
	s.server12.Clear()
	return s.leg.fail(err)
}

// fail words what ended a handshake, and sends the alert that is wanted.
func (g *leg) fail(err error) *handshake.Error {
	defer g.in.Release()
	e := g.word(err)
	e.Received = g.ledger.AlertReceived()
	if e.Peer == nil {
		e.Peer = g.peer
	}
	if e.Peer != nil {
		e.Peer.Proven = false
	}
	g.sendAlert(e)
	g.out.End(e)
	if g.waiting != nil {
		g.waiting.Clear()
	}
	return e
}

// sendAlert sends the alert that is wanted, under the keys at hand.
func (g *leg) sendAlert(e *handshake.Error) {
	if e.Wanted == handshake.AlertNone {
		return
	}
	if sendAlert(g.conn, g.out, e.Wanted) == nil {
		g.ledger.Note(alertEntry(e.Step, e.Wanted))
	}
}

// word finds the words for what ended a handshake. In this order: a refusal of ours, an
// alert of the peer, a breach of the protocol, the clock, the connection.
func (g *leg) word(err error) *handshake.Error {
	var ours *handshake.Error
	var received *alertReceived
	var bad *wire.Error
	var fault *record.Fault
	var large *tooLarge
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &received):
		return g.side.alerted(received, err)
	case errors.As(err, &bad):
		return g.side.broken(bad.Alert, err)
	case errors.As(err, &fault):
		return g.side.broken(fault.Alert, err)
	case errors.As(err, &large):
		return g.side.broken(handshake.AlertIllegalParameter, err)
	case errors.Is(g.ctx.Err(), context.Canceled):
		e := g.peers(g.pick(reason.Draining, reason.UpstreamFailed), err)
		e.Side = handshake.SideUs
		return e
	case handshake.IsTimeout(err), g.ctx.Err() != nil:
		return g.peers(g.pick(reason.HandshakeTimeout, reason.UpstreamTimeout), err)
	case handshake.IsReset(err):
		e := g.peers(g.pick(reason.HandshakeReset, reason.UpstreamFailed), err)
		e.Detail = "reset by the peer"
		return e
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e := g.peers(g.pick(reason.HandshakeEOF, reason.UpstreamFailed), err)
		e.Detail = "closed by the peer"
		return e
	}
	return g.peers(g.pick(reason.HandshakeFailed, reason.UpstreamFailed), err)
}

// pick is the reason for the side.
func (g *leg) pick(client, destination reason.Code) reason.Code {
	if g.judged == handshake.StepClientVerified {
		return client
	}
	return destination
}

// peers is a failure for which no alert is sent.
func (g *leg) peers(code reason.Code, err error) *handshake.Error {
	return &handshake.Error{
		Step: g.at, Side: handshake.SidePeer, Reason: code, Wanted: handshake.AlertNone, Received: handshake.AlertNone, Err: err,
	}
}

// alerted: the client ended the handshake.
func (s *server) alerted(received *alertReceived, err error) *handshake.Error {
	e := s.peers(reason.ClientRefused, err)
	e.Step, e.Detail = handshake.StepServerVerified, received.Error()
	if s.at == handshake.StepKeyExchange || s.at == handshake.StepClientFinished || s.at == handshake.StepClientVerified || s.at == handshake.StepClientCertificate {
		e.Step, e.Reason = handshake.StepClientCertificate, reason.HandshakeFailed
	}
	return e
}

// broken is a breach of the protocol by the client.
func (s *server) broken(a handshake.Alert, err error) *handshake.Error {
	e := s.peers(reason.HandshakeFailed, err)
	e.Wanted = a
	if s.at == handshake.StepClientHello && a == handshake.AlertDecodeError {
		e.Reason = reason.HelloMalformed
	}
	return e
}

// refusal refuses what a client shows.
func (s *server) refusal(code reason.Code, detail string) *handshake.Error {
	return handshake.Refuse(handshake.StepClientVerified, code, detail)
}
