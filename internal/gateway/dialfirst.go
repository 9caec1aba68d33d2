package gateway

import (
	"context"
	"net"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// dialFirst is the order of a rule with `dial: first`: the destination is reached before
// the client is answered. So its ALPN answer can be passed to the client, a closed port
// looks closed, and a certificate made on demand has the destination's names. The client
// must still show everything that the rule asks of it.
func (fl *flow) dialFirst(ctx context.Context, conn net.Conn, plan *policy.Plan) *relay {
	params := fl.params(plan)
	// If the client cannot be answered anyway, do not dial.
	if e := fl.g.engine.Refuses(params, fl.facts.Hello); e != nil {
		fl.endTurn()
		fl.refuseHello(e, fl.facts.Hello.RecordVersion)
		return nil
	}
	var dest *destination
	var up *handshake.Session
	var err error
	lost := fl.withoutTurn(ctx, func() {
		dest, up, err = fl.reach(ctx, nil, plan, offered(params, fl.facts.Hello.ALPN))
	})
	if err == nil && lost != nil {
		dest.reset()
		err = lost
	}
	if err != nil {
		fl.endTurn()
		e := handshake.AsError(err)
		e.Step, e.Wanted, e.Received = handshake.StepApplicationData, handshake.AlertOf(e.Reason), handshake.AlertNone
		switch e.Reason {
		case reason.UpstreamALPN: // the destination refused the client's own offer
			e.Wanted = handshake.AlertNoApplicationProtocol
		case reason.DialRefused, // RST, as the destination itself answers
			reason.DestinationLimit, reason.HandshakeLimit: // a refusal under load should cost little
			e.Wanted = handshake.AlertNone
		}
		fl.refuseHello(e, fl.facts.Hello.RecordVersion)
		return nil
	}
	if up != nil {
		if !fl.carryALPN(plan, params, up.ALPN) {
			dest.reset()
			return nil
		}
		plan.MintLike(params, up.Peer)
	}
	session := fl.serve(ctx, conn, plan, params)
	if session == nil {
		dest.reset()
		return nil
	}
	return fl.relay(session.Conn, dest)
}

// carryALPN makes the destination's ALPN answer the answer to the client. It returns false
// if it refused the flow: the destination answers none, and the client offers nothing that
// can be spoken without an answer.
func (fl *flow) carryALPN(plan *policy.Plan, params *handshake.ServerParams, answer string) bool {
	if params.ALPN = nil; answer != "" {
		params.ALPN = []string{answer}
		return true
	}
	if !fl.facts.Hello.OnlyNegotiated() || params.AnswersNone { // with AnswersNone, this was checked before
		return true
	}
	e := handshake.NoAnswer(fl.facts.Hello, "the destination answers none")
	if plan.Observed {
		fl.observeDestination(policy.Would{Deny: true, Rule: plan.Rule, Reason: e.Reason, Detail: e.Detail, Alert: e.Wanted})
		return true
	}
	fl.endTurn()
	fl.refuseHello(e, fl.facts.Hello.RecordVersion)
	return false
}

// offered returns the client's protocols that the rule answers, in the client's order; all
// of them if the rule leaves the choice to the destination. A hello has at most
// handshake.MaxALPN of them. None is left out, as it might be the only one that the
// destination speaks.
func offered(rule *handshake.ServerParams, client []string) []string {
	if rule.AnswersNone {
		return nil
	}
	var out []string
	for _, p := range client {
		if len(rule.ALPN) == 0 || slices.Contains(rule.ALPN, p) {
			out = append(out, p)
		}
	}
	return out
}
