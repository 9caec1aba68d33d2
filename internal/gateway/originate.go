package gateway

import (
	"context"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// originate is the walk of a rule with `action: originate`: the client speaks without TLS,
// and the gateway makes the TLS connection with the destination for it. It does so at once,
// for the client may be one that waits for the server to speak first. What the client sends
// meanwhile stays unread in the stack until the destination is verified.
func (fl *flow) originate(ctx context.Context, v policy.Verdict) *relay {
	fl.ledger.Note(handshake.Entry{From: handshake.SidePeer, Facts: "speaks without TLS: nothing is known of it but its address"})
	if !fl.originates(ctx) {
		return nil
	}
	// The estimate of the turn stays charged while the destination is waited for, and so
	// bounds how many handshakes one client has under way. What they cost is charged then.
	defer fl.endTurn()
	if !fl.grant(ctx, v) {
		return nil
	}
	fl.turn.Pause(fairqueue.ForOthers)
	dest, _, err := fl.reach(ctx, nil, v.Plan, v.Plan.Offered)
	if err != nil {
		e := handshake.AsError(err)
		// The step of the record is that of the relay, which never began. The destination's
		// leg has its own ledger. Nothing can be told a client without TLS but a RST.
		e.Step, e.Wanted, e.Received = handshake.StepApplicationData, handshake.AlertNone, handshake.AlertNone
		fl.refuse(e)
		fl.client.Reset()
		return nil
	}
	if !fl.connected(ctx) {
		dest.reset()
		return nil
	}
	fl.out.step = handshake.StepApplicationData
	r := fl.relay(fl.client, dest)
	r.opening = &opening{client: fl.client, sent: handshake.AlertNone}
	return r
}

// originates waits for the flow's turn: a client that has used up its share of work makes
// no handshakes with destinations either. False means that the flow was refused.
func (fl *flow) originates(ctx context.Context) bool {
	ctx, cancel := context.WithDeadline(ctx, fl.start.Add(fl.limits.Handshake))
	defer cancel()
	e := fl.beginTurn(ctx)
	if e == nil {
		return true
	}
	e.Step, e.Wanted = handshake.StepNone, handshake.AlertNone
	fl.refuse(e)
	fl.client.Reset()
	return false
}

// opening watches how a client begins that must not speak TLS: TLS within TLS is hardly
// meant, and says what is wrong to nobody. One goroutine uses it.
type opening struct {
	client clientConn
	seen   []byte // of the client's bytes, up to clientHelloStart
	sent   handshake.Alert
}

// clientHelloStart is as much of a ClientHello as tells it from other protocols: the
// record's type, version and length, and the message's type (RFC 8446, sections 4 and 5.1).
const clientHelloStart = 6

// isTLS looks at the client's next bytes. It is false for a nil opening.
func (o *opening) isTLS(b []byte) bool {
	if o == nil || len(o.seen) == clientHelloStart {
		return false
	}
	o.seen = append(o.seen, b[:min(len(b), clientHelloStart-len(o.seen))]...)
	s := o.seen
	return len(s) == clientHelloStart && s[0] == handshake.RecordHandshake && s[1] == 3 && s[5] == handshake.TypeClientHello
}

// refuseTLS ends a flow whose client speaks TLS where it must not. It understands an alert.
func (r *relay) refuseTLS() {
	r.mu.Lock()
	r.causeLocked(reason.ClientSpeaksTLS, nil)
	r.mu.Unlock()
	alert := handshake.AlertOf(reason.ClientSpeaksTLS)
	if err := handshake.SendAlert(r.opening.client, alert, uint16(r.opening.seen[1])<<8|uint16(r.opening.seen[2])); err == nil {
		r.opening.sent = alert
		lingerClose(r.opening.client)
	}
	r.fail(reason.ClientSpeaksTLS)
}
