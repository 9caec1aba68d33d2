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

// fail words what ended a handshake, and sends the alert.
func (s *server) fail(err error) *handshake.Error {
	s.server12.Clear()
	return s.end(s.word(err))
}

// end ends a handshake that failed: what is known of the peer goes into e, and the alert
// that is wanted to the peer.
func (g *leg) end(e *handshake.Error) *handshake.Error {
	defer g.in.Release()
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
// alert of the client, a breach of the protocol, the clock, the connection.
func (s *server) word(err error) *handshake.Error {
	var ours *handshake.Error
	var received *alertReceived
	var bad *wire.Error
	var fault *record.Fault
	var large *tooLarge
	switch {
	case errors.As(err, &ours):
		return ours
	case errors.As(err, &received):
		e := s.peers(reason.ClientRefused, err)
		e.Step, e.Detail = handshake.StepServerVerified, received.Error()
		if s.at == handshake.StepKeyExchange || s.at == handshake.StepClientFinished || s.at == handshake.StepClientVerified || s.at == handshake.StepClientCertificate {
			e.Step, e.Reason = handshake.StepClientCertificate, reason.HandshakeFailed
		}
		return e
	case errors.As(err, &bad):
		return s.broken(bad.Alert, err)
	case errors.As(err, &fault):
		return s.broken(fault.Alert, err)
	case errors.As(err, &large):
		return s.broken(handshake.AlertIllegalParameter, err)
	case errors.Is(s.ctx.Err(), context.Canceled):
		e := s.peers(reason.Draining, err)
		e.Side = handshake.SideUs
		return e
	case handshake.IsTimeout(err), s.ctx.Err() != nil:
		return s.peers(reason.HandshakeTimeout, err)
	case handshake.IsReset(err):
		e := s.peers(reason.HandshakeReset, err)
		e.Detail = "reset by the peer"
		return e
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		e := s.peers(reason.HandshakeEOF, err)
		e.Detail = "closed by the peer"
		return e
	}
	return s.peers(reason.HandshakeFailed, err)
}

// peers is a failure for which no alert is sent.
func (g *leg) peers(code reason.Code, err error) *handshake.Error {
	return &handshake.Error{
		Step: g.at, Side: handshake.SidePeer, Reason: code, Wanted: handshake.AlertNone, Received: handshake.AlertNone, Err: err,
	}
}

// broken is a breach of the protocol by the client, with the alert that the RFC names.
func (s *server) broken(a handshake.Alert, err error) *handshake.Error {
	e := s.peers(reason.HandshakeFailed, err)
	e.Wanted = a
	if s.at == handshake.StepClientHello && a == handshake.AlertDecodeError {
		e.Reason = reason.HelloMalformed
	}
	return e
}
