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
	if p, _ := fl.set.Dialogue(fl.facts); p != upgrade.None && fl.denied == nil {
		t, e := converse(ctx, fl.client, p.WithClient(), fl.ledger)
		if t.asked {
			fl.facts.Upgrade = p
		}
		switch {
		case e != nil:
			fl.refuseUnread(ctx, nil, clientEnd(ctx, e, len(t.left)))
			return nil, nil
		case t.step.Then == upgrade.End:
			fl.refuseTalk(ctx, t)
			return nil, nil
		}
		begun = t.left
	}
	hello, conn, err := handshake.PeekFrom(ctx, fl.client, fl.limits.Hello, begun)
	if err != nil {
		fl.refuseUnread(ctx, conn, err)
		return nil, nil
	}
	return hello, conn
}

// talked is what has come of a dialogue.
type talked struct {
	step  upgrade.Step // the last one
	left  []byte       // what the peer has said and was not taken
	took  int          // bytes of the peer that were
	asked bool         // the peer has asked for TLS
}

// heard is how many bytes the peer has said.
func (t *talked) heard() int { return t.took + len(t.left) }

// converse is a dialogue until TLS begins or it ends. What the last step says is sent, but
// for the last word of an end. The error is that of the connection, as it came.
//
// The deadline is ctx's. The deadlines of conn are taken off at the end.
func converse(ctx context.Context, conn net.Conn, talk *upgrade.Talk, ledger *handshake.Ledger) (t talked, err error) {
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
	for t.step = talk.Begin(); ; t.step = talk.Next(b[:n]) {
		t.took += t.step.Took
		n = copy(b, b[t.step.Took:n])
		t.left = b[:n]
		answers := t.step.Say != nil && t.step.Then != upgrade.End
		if q, ok := handshake.Ability[handshake.InboundQueue](conn); ok && answers && t.step.Heard != "" && q.Waiting() > 0 {
			// What has come since is as early as if it had come with the rest.
			t.step, answers = talk.Injected(t.step, q.Waiting()), false
		}
		t.asked = t.asked || t.step.Asks
		noteHeard(ledger, t.step)
		if answers {
			if _, err := conn.Write(t.step.Say); err != nil {
				return t, err
			}
			noteSaid(ledger, t.step)
		}
		switch {
		case t.step.Then != upgrade.More:
			return t, nil
		case t.step.Took > 0 && n > 0:
			continue // there is more to be looked at already
		}
		m, err := readSome(conn, b[n:])
		n += m
		if t.left = b[:n]; err != nil {
			return t, err
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

// noteHeard puts what the peer has said in a step into the ledger. It comes before the steps
// of TLS.
func noteHeard(ledger *handshake.Ledger, s upgrade.Step) {
	if s.Heard != "" {
		ledger.Note(handshake.Entry{From: handshake.SidePeer, Message: s.Heard, Size: s.Took, Facts: "in the clear"})
	}
}

// noteSaid is noteHeard of what we have said, once it is sent.
func noteSaid(ledger *handshake.Ledger, s upgrade.Step) {
	if s.Said != "" {
		ledger.Note(handshake.Entry{From: handshake.SideUs, Message: s.Said, Size: len(s.Say), Facts: "in the clear"})
	}
}

// awaited is the rule for which the flow waits for its client to say something.
func (fl *flow) awaited() string {
	if _, rule := fl.set.Dialogue(fl.facts); rule != "" {
		return rule
	}
	return fl.set.Awaiting(fl.facts)
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

// refuseTalk ends a flow whose client does not come to TLS. As in refuseUnread an answer waits for a turn, and without one it is a RST.
func (fl *flow) refuseTalk(ctx context.Context, t talked) {
	s := t.step
	e := handshake.Refuse(handshake.StepClientHello, s.Reason, fmt.Sprintf("%s; rule %q waits for it to ask for TLS", s.Detail, fl.awaited()))
	cost := work.Hello(t.heard(), 0)
	fl.refuse(e)
	if s.Say == nil {
		fl.g.turns.Charge(fl.facts.Src.Addr(), cost)
		fl.client.Reset()
		return
	}
	turn, err := fl.g.turns.Begin(ctx, fl.facts.Src.Addr())
	if err != nil {
		fl.out.said.detail = join(fl.out.said.detail, s.Said+" not sent: "+err.Error())
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
	noteSaid(fl.ledger, s)
	lingerClose(fl.client)
}

// upgradeDestination asks the destination for TLS, where the rule says so.
func (fl *flow) upgradeDestination(ctx context.Context, dest *destination, plan *policy.Plan, ledger *handshake.Ledger) error {
	if plan.DestUpgrade == upgrade.None {
		return nil
	}
	t, err := converse(ctx, dest.Conn, plan.DestUpgrade.WithDestination(), ledger)
	ledger.Spend(work.Hello(t.heard(), 0)) // also for a destination that says no, or nothing
	step := t.step
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
		s := plan.DestUpgrade.WithDestination().Injected(step, n)
		return handshake.Refuse(handshake.StepNone, s.Reason, s.Detail)
	}
	fl.out.dest.upgraded = plan.DestUpgrade
	return nil
}
