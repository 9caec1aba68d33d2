package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
	"github.com/sslgate/sslgate/policy"
)

// validatorProtocol is the application protocol that a validator offers (RFC 8737, section 6.2).
const validatorProtocol = "acme-tls/1"

// Challenges have what answers the validators of a CA (tls-alpn-01, RFC 8737): an
// *acmeclient.Challenges.
type Challenges interface {
	// Pending says whether a validator is awaited. It does not block.
	Pending() bool
	// For is the certificate that answers for a name; nil where no validator is awaited for it.
	For(name string) *tls.Certificate
}

// A validator comes from anywhere, to any address that the name has: its CA does not say from
// where. While one is awaited, a SYN that a rule refuses is let through as far as the
// ClientHello, and refused after it like before, unless it is a validator's hello. That is
// answered here. No rule sees it, and nothing of it is dialled or relayed.

// mayValidate says whether a refusal of the SYN waits for the ClientHello.
func (g *Gateway) mayValidate(v policy.Verdict) bool {
	return v.Action == policy.Deny && g.challenges != nil && g.challenges.Pending()
}

// mayValidate is the same for the flow, which remembers the refusal until then.
func (fl *flow) mayValidate(v policy.Verdict) bool {
	if !fl.g.mayValidate(v) {
		return false
	}
	denied := v
	fl.denied = &denied
	return true
}

// deniedFor bounds what a refused client holds while a validator is awaited. A validator sends its
// ClientHello at once.
const deniedFor = 5 * time.Second

// handshakeTime is how long the flow's handshake may take, from its start.
func (fl *flow) handshakeTime() time.Duration {
	if fl.denied != nil {
		return min(fl.limits.Handshake, deniedFor)
	}
	return fl.limits.Handshake
}

// validated ends the flow, with its turn, if it is a validator's, or was let through in case it
// was one. A validator offers the protocol alone (RFC 8737, section 3).
func (fl *flow) validated(ctx context.Context, conn net.Conn) bool {
	var cert *tls.Certificate
	if h := fl.facts.Hello; fl.g.challenges != nil && slices.Equal(h.ALPN, []string{validatorProtocol}) && h.SNIPresent && !h.SNIInvalid {
		cert = fl.g.challenges.For(h.ServerName)
	}
	switch {
	case cert != nil:
		fl.validate(ctx, conn, cert)
	case fl.denied != nil:
		fl.unheard()
	default:
		return false
	}
	return true
}

// validate makes the handshake with a validator, and ends the flow. It has its turn.
func (fl *flow) validate(ctx context.Context, conn net.Conn, cert *tls.Certificate) {
	profile, _ := handshake.NamedProfile(policy.DefaultProfile) // for all that may be a validator
	params := &handshake.ServerParams{
		Params:     handshake.Params{Profile: profile, Certificates: []tls.Certificate{*cert}, ALPN: []string{validatorProtocol}, Now: fl.g.now},
		ClientAuth: handshake.ClientAuthNone,
	}
	watched := NewTurnConn(conn, fl.turn, func() error { return fl.resume(ctx) })
	nobody := func(*handshake.Peer, *handshake.State) error { return nil }
	session, err := fl.g.engine.Server(ctx, watched, fl.facts.Hello, params, nobody, fl.ledger)
	fl.endTurn()
	watched.Over()
	if fl.turnLost != nil {
		err = fl.turnLost
	}
	if err != nil {
		fl.refuse(handshake.AsError(err))
		lingerClose(fl.client)
		return
	}
	fl.session, fl.out.leg = session, &session.State // which is closed at the end, with close_notify
	fl.refuse(&handshake.Error{
		Step: handshake.StepServerFinished, Reason: reason.ACMEChallenge, Detail: fl.facts.Hello.ServerName,
		Wanted: handshake.AlertNone, Received: handshake.AlertNone,
	})
}

// unheard ends a flow whose SYN is refused, once it has turned out to be no validator's.
func (fl *flow) unheard() {
	if fl.turn == nil { // what came is no hello
		fl.g.turns.Charge(fl.facts.Src.Addr(), work.Hello(0, 0))
	}
	fl.note(*fl.denied)
	fl.client.Reset()
}
