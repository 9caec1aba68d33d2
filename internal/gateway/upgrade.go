package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/internal/work"
	"github.com/sslgate/sslgate/policy"
)

// This file is what is said in the clear before TLS (upgrade, destination.upgrade). It is
// said by us alone, on both legs: no byte of it is relayed, and none that comes before TLS
// is taken for a part of it.

// readHello reads the client's hello, and before it what its rule waits for. It is nil if
// the flow was refused.
func (fl *flow) readHello(ctx context.Context) (*handshake.ClientHello, handshake.Conn) {
	var begun []byte
	if p := fl.set.Dialogue(fl.facts); p != upgrade.None && fl.denied == nil {
		left, step, e := converse(ctx, fl.client, p.WithClient(), fl.ledger)
		switch {
		case e != nil:
			fl.refuseUnread(ctx, nil, clientEnd(ctx, e, len(left)))
			return nil, nil
		case step.Then == upgrade.End:
			fl.refuseTalk(ctx, step, len(left))
			return nil, nil
		case step.Then == upgrade.TLS:
			fl.facts.Upgrade = p
		}
		begun = left
	}
	hello, conn, err := handshake.PeekFrom(ctx, fl.client, fl.limits.Hello, begun)
	if err != nil {
		fl.refuseUnread(ctx, conn, err)
		return nil, nil
	}
	return hello, conn
}

// converse is a dialogue until TLS begins or it ends. What the last step says is sent, but
// for the last word of an end. left is what the peer has said and was not taken. The error
// is that of the connection, as it came.
//
// The deadline is ctx's. The deadlines of conn are taken off at the end.
func converse(ctx context.Context, conn net.Conn, talk *upgrade.Talk, ledger *handshake.Ledger) (left []byte, step upgrade.Step, err error) {
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		_ = conn.SetDeadline(time.Unix(1, 0)) // long past: ends the Read or Write under way
	})
	defer func() {
		if !stop() {
			<-expired // else it could set its deadline after ours is off
		}
		_ = conn.SetDeadline(time.Time{}) // fails only where conn is closed, and then the next Read says so
	}()
	b, n := make([]byte, upgrade.MaxSaid), 0
	for step = talk.Begin(); ; step = talk.Next(b[:n]) {
		n = copy(b, b[step.Took:n])
		answers := step.Say != nil && step.Then != upgrade.End
		if q, ok := handshake.Ability[handshake.InboundQueue](conn); ok && answers && step.Heard != "" && q.Waiting() > 0 {
			// What has come since is as early as if it had come with the rest.
			step, answers = talk.Injected(step.Heard, q.Waiting()), false
		}
		note(ledger, step)
		if answers {
			if _, err := conn.Write(step.Say); err != nil {
				return b[:n], step, err
			}
		}
		switch {
		case step.Then != upgrade.More:
			return b[:n], step, nil
		case step.Took > 0 && n > 0:
			continue // there is more to be looked at already
		}
		m, err := readSome(conn, b[n:])
		if n += m; err != nil {
			return b[:n], step, err
		}
	}
}

// readSome is a Read that returns bytes or an error.
func readSome(conn net.Conn, b []byte) (int, error) {
	for range maxEmptyReads {
		if n, err := conn.Read(b); n > 0 {
			return n, nil // an error beside it comes again
		} else if err != nil {
			return 0, err
		}
	}
	return 0, io.ErrNoProgress
}

// maxEmptyReads is how often in a row a connection may return nothing, as in bufio.
const maxEmptyReads = 100

// note puts the messages of a step into the ledger. They come before the steps of TLS.
func note(ledger *handshake.Ledger, s upgrade.Step) {
	if s.Heard != "" {
		ledger.Note(handshake.Entry{From: handshake.SidePeer, Message: s.Heard, Size: s.Took, Facts: "in the clear"})
	}
	if s.Said != "" {
		ledger.Note(handshake.Entry{From: handshake.SideUs, Message: s.Said, Size: len(s.Say), Facts: "in the clear"})
	}
}

// clientEnd is the refusal of a client whose connection ends in the middle of a dialogue.
func clientEnd(ctx context.Context, err error, left int) *handshake.Error {
	code := reason.HelloReset
	var timeout net.Error
	switch {
	case errors.Is(err, io.EOF):
		code = reason.HelloEOF
	case errors.As(err, &timeout) && timeout.Timeout():
		code = reason.HelloTimeout
	}
	e := handshake.Refuse(handshake.StepClientHello, code, fmt.Sprintf("after %d bytes of a message before TLS", left))
	if e.Err = err; code == reason.HelloTimeout && context.Cause(ctx) != nil {
		e.Err = context.Cause(ctx)
	}
	return e
}

// refuseTalk ends a flow whose client does not come to TLS, after heard bytes that were not
// taken. As in refuseUnread an answer waits for a turn, and without one it is a RST.
func (fl *flow) refuseTalk(ctx context.Context, s upgrade.Step, heard int) {
	e := handshake.Refuse(handshake.StepClientHello, s.Reason, fmt.Sprintf("%s; rule %q waits for it to ask for TLS", s.Detail, fl.set.Awaiting(fl.facts)))
	cost := work.Hello(heard, 0)
	fl.refuse(e)
	if s.Say == nil {
		fl.g.turns.Charge(fl.facts.Src.Addr(), cost)
		fl.client.Reset()
		return
	}
	turn, err := fl.g.turns.Begin(ctx, fl.facts.Src.Addr())
	if err != nil {
		fl.client.Reset()
		return
	}
	turn.Cost(cost)
	turn.End()
	_ = fl.client.SetWriteDeadline(time.Now().Add(handshake.AlertTimeout)) // fails only on a closed connection, as the write does then
	if _, err := fl.client.Write(s.Say); err != nil {
		fl.out.said.detail = join(fl.out.said.detail, s.Said+" not sent: "+err.Error())
		fl.client.Reset()
		return
	}
	lingerClose(fl.client)
}

// upgradeDestination asks the destination for TLS, where the rule says so.
func (fl *flow) upgradeDestination(ctx context.Context, dest *destination, plan *policy.Plan, ledger *handshake.Ledger) error {
	if plan.DestUpgrade == upgrade.None {
		return nil
	}
	_, step, err := converse(ctx, dest.Conn, plan.DestUpgrade.WithDestination(), ledger)
	switch {
	case err != nil:
		code := reason.UpstreamFailed
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			code = reason.UpstreamTimeout
		}
		e := handshake.Refuse(handshake.StepNone, code, "after "+plan.DestUpgrade.Begins()+": "+err.Error())
		e.Err = err
		return e
	case step.Then != upgrade.TLS:
		return handshake.Refuse(handshake.StepNone, step.Reason, step.Detail)
	}
	if n := dest.sock.unread(); n > 0 { // before it has our hello
		s := plan.DestUpgrade.WithDestination().Injected(step.Heard, n)
		return handshake.Refuse(handshake.StepNone, s.Reason, s.Detail)
	}
	fl.out.dest.upgraded = plan.DestUpgrade
	return nil
}
