package gateway

import (
	"context"
	"net"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// dialFirst is the other order of a rule with `dial: first`: the destination is
// reached before the client is answered, so that its ALPN answer can be carried
// back, a closed port looks closed, and a certificate made on demand has its
// names. Everything the client must show it must show still.
func (fl *flow) dialFirst(ctx context.Context, conn net.Conn, plan *policy.Plan) *relay {
	params := fl.params(plan)
	var dest *destination
	var up *handshake.Session
	var err error
	lost := fl.withoutTurn(ctx, func() {
		dest, up, err = fl.reach(ctx, nil, plan, offered(params.ALPN, fl.facts.Hello.ALPN))
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
		case reason.DialRefused, // RST, as the destination itself answers
			reason.DestinationLimit, reason.HandshakeLimit: // what is refused here should cost little
			e.Wanted = handshake.AlertNone
		}
		fl.refuseHello(e, fl.facts.Hello.RecordVersion)
		return nil
	}
	if up != nil {
		if params.ALPN = nil; up.ALPN != "" {
			params.ALPN = []string{up.ALPN}
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

// maxOffered bounds the protocols passed on to a destination.
const maxOffered = 16

// offered are the protocols of the client that the rule allows, in the
// client's order; all of them where the rule has no list.
func offered(rule, client []string) []string {
	var out []string
	for _, p := range client {
		if (rule == nil || slices.Contains(rule, p)) && len(out) < maxOffered {
			out = append(out, p)
		}
	}
	return out
}
