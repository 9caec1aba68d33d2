package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
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
// where. While one is awaited, a SYN to validatorPort that a rule refuses is let through as far as
// the ClientHello, and refused after it like before, unless it is a validator's hello. That is
// answered here. No rule sees it, and nothing of it is dialled or relayed. How many such clients
// there are at a time is bounded by suspects.

// validatorPort is where a validator connects to (RFC 8737, section 3).
const validatorPort = 443

// mayValidate says whether a refusal of the SYN waits for the ClientHello.
func (g *Gateway) mayValidate(v policy.Verdict, src, dst netip.AddrPort) bool {
	return g.suspect(v, dst) && g.suspects.room(src.Addr())
}

func (g *Gateway) suspect(v policy.Verdict, dst netip.AddrPort) bool {
	return v.Action == policy.Deny && dst.Port() == validatorPort && g.challenges != nil && g.challenges.Pending()
}

// mayValidate is the same for the flow, which remembers the refusal until then. It counts among the
// suspects from here to its end.
func (fl *flow) mayValidate(v policy.Verdict) bool {
	if !fl.g.suspect(v, fl.facts.Dst) || !fl.g.suspects.enter(fl.facts.Src.Addr()) {
		return false
	}
	denied := v
	fl.denied = &denied
	return true
}

// noSuspect ends mayValidate.
func (fl *flow) noSuspect() {
	if fl.denied != nil {
		fl.g.suspects.leave(fl.facts.Src.Addr())
	}
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

// asksForProof says whether a hello is a validator's, which offers the protocol alone (RFC 8737,
// section 3).
func asksForProof(h *handshake.ClientHello) bool {
	return slices.Equal(h.ALPN, []string{validatorProtocol})
}

// proof is the certificate that answers the flow's hello; nil where it is not that of a validator
// that is awaited.
func (fl *flow) proof() *tls.Certificate {
	h := fl.facts.Hello
	if fl.g.challenges == nil || !asksForProof(h) || !h.SNIPresent || h.SNIInvalid {
		return nil
	}
	return fl.g.challenges.For(h.ServerName)
}

// unawaited refuses a validator of another name while one is awaited: nothing behind us may be
// taken for the holder of that name. Whose TLS a rule leaves to the destination may prove there
// what is his.
func (fl *flow) unawaited(v policy.Verdict) *handshake.Error {
	if v.Action == policy.Bypass || fl.g.challenges == nil || !fl.g.challenges.Pending() || !asksForProof(fl.facts.Hello) {
		return nil
	}
	e := handshake.Refuse(handshake.StepClientHello, reason.ACMEUnawaited, "a proof is awaited for another name")
	e.Wanted = handshake.AlertNone
	return e
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

// unheard ends a flow whose SYN is refused, once it has turned out to be no validator's. Its client
// pays for what it has sent; it has had no turn.
func (fl *flow) unheard(conn net.Conn) {
	cost := work.Hello(0, 0)
	if h := fl.facts.Hello; h != nil {
		cost = work.Hello(len(h.Raw), h.Records)
	} else if c, ok := conn.(handshake.Peeked); ok {
		cost = work.Hello(c.Pending(), c.Records())
	}
	fl.g.turns.Charge(fl.facts.Src.Addr(), cost)
	fl.note(*fl.denied)
	if h := fl.facts.Hello; h != nil && asksForProof(h) {
		fl.out.said.reason, fl.out.said.detail = reason.ACMEUnawaited, "a proof is awaited for another name; a rule refuses this client: "+string(fl.denied.Reason)
	}
	fl.client.Reset()
}
