package gateway

import (
	"net/netip"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
	"github.com/sslgate/sslgate/policy"
)

// outcome is what is known of a flow beyond its facts. The audit record is made of both at
// the end; nothing on the walk reads a record.
type outcome struct {
	said   said
	step   handshake.Step // the highest that was reached
	policy string         // ID of the policy that was asked last
	digest string         // of the rule that let the flow go on last; "" for none
	crls   string         // digest of the revocation lists in force; "" without a check

	sent, received handshake.Alert // of the client's leg; AlertNone: take what the ledger has

	leg   *handshake.State // of the client's leg, once its handshake is over
	shown *handshake.Peer  // the client's certificate, proven or claimed
	dest  reached

	setup time.Duration // from the accepted connection until the first byte could be relayed
	relay *relay        // once it is over; nil if it never began
}

// said is the current result: a verdict of the policy, or the error of a handshake.
type said struct {
	rule   string
	action policy.Action
	reason reason.Code // internal_error until set, so that no path can leave it empty
	detail string
	alert  handshake.Alert
	would  *audit.Would // a refusal that is only observed
}

// reached is how far the flow came with its destination.
type reached struct {
	dialed, from netip.AddrPort // from: set where it is the client's address
	leg          *handshake.State
	peer         *handshake.Peer
	engine       handshake.EngineKind
	upgraded     upgrade.Protocol // what it was asked for TLS by
	ledger       []handshake.Entry
	lost         int // entries over handshake.MaxEntries
}

func newOutcome(crls string) outcome {
	return outcome{
		crls: crls, sent: handshake.AlertNone, received: handshake.AlertNone,
		said: said{action: policy.Deny, reason: reason.Internal, alert: handshake.AlertNone},
	}
}

// waited says whether a reason is one of a wait for the destination that has come to an end.
// What the destination has answered, and a fault of our own, stays in the record.
func waited(r reason.Code) bool {
	switch r {
	case reason.DialTimeout, reason.DialUnreachable, reason.UpstreamFailed, reason.UpstreamTimeout:
		return true
	default:
		return false
	}
}

// interrupted says whether a reason is what a flow comes to whose connection is reset, or whose
// wait is ended, before it is let through.
func interrupted(r reason.Code) bool {
	switch r {
	case reason.Draining, reason.AuditUnavailable, reason.HelloTimeout, reason.HelloEOF, reason.HelloReset, reason.HandshakeLimit,
		reason.HandshakeTimeout, reason.HandshakeEOF, reason.HandshakeReset, reason.HandshakeFailed,
		reason.SignerFailed, reason.RevocationUnknown:
		return true
	default:
		return waited(r)
	}
}

// cutOff says whether a flow was ended, by End or with the gateway, before it was let through:
// then what it waited for is not to blame.
func (fl *flow) cutOff() bool {
	if _, _, granted := fl.live.Granted(); granted {
		return false
	}
	select {
	case <-fl.stopped:
		fl.live.ends(reason.EndDrain)
		return true
	default:
		return fl.live.endedBy() != ""
	}
}

// refuse stores the error of a handshake as the current result of the flow.
func (fl *flow) refuse(e *handshake.Error) {
	w := &fl.out.said
	if interrupted(e.Reason) && fl.cutOff() {
		w.reason, w.detail, w.alert = reason.EndedUndecided, "", handshake.AlertNone
		e.Wanted = handshake.AlertNone // its connection is reset already
		return
	}
	w.reason, w.detail, w.alert = e.Reason, e.Detail, e.Wanted
	if e.Detail == "" && e.Err != nil {
		w.detail = e.Err.Error()
	}
	fl.out.step = e.Step
	if e.Received != handshake.AlertNone {
		fl.out.received = e.Received
	}
}

// record builds the audit record of the flow. It is called once, at the end.
func (fl *flow) record() *audit.Record {
	o := &fl.out
	ended := fl.live.endedBy()
	if _, _, granted := fl.live.Granted(); granted && ended != "" && o.relay == nil && waited(o.said.reason) {
		// It was let through, and waited for its destination. That wait has failed because
		// the flow was ended: the destination is not to blame.
		fl.note(fl.verdict)
	}
	rec := &audit.Record{
		ID: fl.id, Start: fl.start, Client: fl.facts.Src, Destination: fl.facts.Dst, Direction: fl.direction,
		Policy: o.policy, CRLs: o.crls, Rule: o.said.rule, RuleDigest: o.digest, Action: o.said.action.String(),
		Reason: o.said.reason, Detail: o.said.detail, Step: o.step,
		AlertWanted: o.said.alert, AlertSent: o.sent, AlertReceived: o.received,
		ClientLeg: o.leg, Peer: o.shown, Revocation: fl.revocation.recorded,
		Dialed: o.dest.dialed, DialedFrom: o.dest.from, DestinationLeg: o.dest.leg, DestPeer: o.dest.peer,
		Shadow: judge(fl.shadow, fl.verdict, fl.facts), Would: o.said.would,
		Plaintext: o.said.action == policy.Originate, Upgrade: fl.facts.Upgrade.Word(), DestUpgrade: o.dest.upgraded.Word(),
		Engine: fl.ledger.Engine(), DestEngine: o.dest.engine,
		Ledger: fl.ledger.Final(), DestLedger: o.dest.ledger, LedgerLost: fl.ledger.Lost() + o.dest.lost,
		Setup: o.setup, Duration: time.Since(fl.start),
	}
	if h := fl.facts.Hello; h != nil {
		rec.SNI, rec.ALPN, rec.Hello = h.ServerName, h.ALPN, h
	}
	if fl.passing != nil {
		fl.sawPassing(rec)
	}
	if r := o.relay; r != nil {
		rec.BytesUp, rec.BytesDown = r.up.delivered(), r.down.delivered()
		rec.End, rec.EndDetail = r.end, r.detail
		if r.alert != handshake.AlertNone {
			rec.AlertReceived = r.alert
		}
		if r.end == reason.ClientSpeaksTLS { // nothing of it was relayed but its first bytes, if they came alone
			rec.Reason, rec.Step, rec.End = r.end, handshake.StepClientHello, ""
			rec.AlertWanted, rec.AlertSent = handshake.AlertOf(r.end), r.opening.sent
		}
	}
	if rec.End == "" {
		rec.End = ended
	}
	if rec.AlertSent == handshake.AlertNone {
		rec.AlertSent = fl.ledger.AlertSent()
	}
	if rec.AlertReceived == handshake.AlertNone {
		rec.AlertReceived = fl.ledger.AlertReceived()
	}
	return rec
}

// sawPassing adds what was read of a bypassed flow. Nothing was decided by it.
func (fl *flow) sawPassing(rec *audit.Record) {
	seen := fl.passing.Seen()
	if seen.Hello != nil && rec.Hello == nil {
		rec.SNI, rec.ALPN, rec.Hello = seen.Hello.ServerName, seen.Hello.ALPN, seen.Hello
	}
	if seen.State != nil {
		seen.State.ServerName = rec.SNI
	}
	if seen.State == nil && seen.Client == nil && seen.Alert == handshake.AlertNone {
		return
	}
	rec.Seen = &audit.Seen{
		State: seen.State, Asked: seen.Asked, Client: seen.Client, Destination: seen.Destination,
		Alert: seen.Alert, ByClient: seen.ByClient,
	}
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + ": " + b
}

// judge asks the shadow policy about a flow for which the enforced policy has its final
// verdict. It returns nil if both agree or there is no shadow policy.
func judge(s *policy.Shadow, enforced policy.Verdict, f policy.Facts) *audit.Shadow {
	if s == nil || enforced.Reason == "" {
		return nil
	}
	d, v, differ := s.Judge(enforced, f)
	if !differ {
		return nil
	}
	return &audit.Shadow{Policy: s.SetID(), Kind: d.Kind.String(), Action: v.Action.String(), Rule: v.Rule, Reason: v.Reason, Detail: v.Detail}
}
