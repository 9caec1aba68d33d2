package policy

import (
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// Upstream is what is known of the connection with the destination.
type Upstream struct {
	Peer    *handshake.Peer  // nil without TLS
	State   *handshake.State // nil without TLS
	ProxyV2 bool             // it began with a PROXY header
	Source  Source           // whose address the destination sees
	Port    uint16           // that was dialled, 0 for the flow's own
}

// The moments of a decision, as Explanation has them.
const (
	momentSYN         = "syn"
	momentHello       = "hello"
	momentPeer        = "peer"
	momentDestination = "destination"
)

// Decision is what a set says of a flow whose facts are known already.
type Decision struct {
	Verdict Verdict
	// Hello is the verdict by the client hello alone; the zero value where the
	// facts have no hello.
	Hello Verdict
	// Moment that the decision came to: "syn", "hello", "peer" or "destination".
	Moment string
	// Decided is false where the answer needs a client hello that the facts do
	// not have. Verdict is a refusal then.
	Decided bool
	// Facts are those given, with the certificates as this set verified them.
	Facts Facts
}

// Redecide decides a flow by facts that were found under another set, or none,
// as far as the facts go: it is what a reload, a flow that meets one, a shadow
// policy, a reader of admin.metrics and `explain` ask. Nothing of an earlier
// judgement counts. The chains that were shown are verified anew, by the
// authorities, profile, bounds and name of the rule that the flow comes to now,
// at Facts.Now; version, CipherSuite, group, protocol, extended_master_secret
// and the scheme of the proof of possession are held against its profile; and
// where Facts.Upstream is set, so is the destination. Whether a chain is revoked
// is not known here: the caller asks, about Decision.Facts.
//
// It grants nothing where Facts.Peer is not Proven, and a flow goes on only if
// the Action is the one that it has: Decision.Keeps says so.
func (s *Set) Redecide(f Facts) Decision {
	d := Decision{Moment: momentSYN, Decided: true, Facts: f}
	if f.Hello == nil {
		if d.Verdict, d.Decided = s.OnSYN(f); d.Verdict.Action != Deny {
			s.redecideUpstream(&d)
		}
		return d
	}
	d.Moment = momentHello
	d.Hello = s.onHello(f) // of a flow that begins now, or goes on as it was: none is changed to another action
	d.Verdict = d.Hello
	switch d.Verdict.Action {
	case Terminate:
		d.Moment = momentPeer
		s.redecidePeer(&d)
	case Bypass:
	default:
		return d
	}
	if d.Verdict.Action != Deny {
		s.redecideUpstream(&d)
	}
	return d
}

// Keeps says whether a flow that goes on as was may go on: neither may one that
// was terminated become a bypass, nor the other way round.
func (d *Decision) Keeps(was Action) bool {
	return d.Decided && was != Deny && d.Verdict.Action == was
}

// redecidePeer is the client's leg.
func (s *Set) redecidePeer(d *Decision) {
	p, f := d.Hello.Plan, &d.Facts
	params := p.ClientParams()
	params.Now = stopped(params.Now, f.Now)
	switch {
	case f.Peer == nil:
	case p.Client.ClientAuth == handshake.ClientAuthNone:
		f.Peer = nil // this rule would not have asked
	default:
		f.Peer = params.Again(f.Peer, f.State)
	}
	d.Verdict = s.OnPeer(p, *f)
	if d.Verdict.Action != Terminate || f.State == nil {
		return
	}
	if e := params.Holds(f.State, f.Hello); e != nil {
		s.object(d, s.refuseAs(p.rule, e))
	}
}

// redecideUpstream is the destination's leg, where there is one.
func (s *Set) redecideUpstream(d *Decision) {
	p, f := d.Verdict.Plan, d.Facts
	up := f.Upstream
	if up == nil {
		return
	}
	d.Moment = momentDestination
	if what := differs(p, up); what != "" {
		d.Verdict = s.refuse(p.Rule, reason.PolicyChanged, what) // how it is connected is nothing that can be observed
		return
	}
	if p.Mode == TLSPlain {
		return // what is stronger than asked for may stay
	}
	params, err := p.Destination(f)
	if err != nil || params == nil {
		d.Verdict = s.refuse(p.Rule, reason.Internal, "no handshake with the destination")
		return
	}
	params.Now = stopped(params.Now, f.Now)
	seen := *up
	seen.Peer = params.Again(up.Peer, up.State)
	d.Facts.Upstream = &seen
	if v := s.OnDestination(p, f, seen.Peer); v.Action == Deny {
		d.Verdict = v
		return
	} else if v.Would.Deny && !d.Verdict.Would.Deny {
		d.Verdict.Would, d.Verdict.Reason = v.Would, reason.Observed
	}
	if e := params.Holds(up.State); e != nil {
		s.object(d, s.refuseAs(p.rule, e))
	}
}

// differs says what of a connection with the destination the rule would have made
// otherwise; "" if nothing. TLS where the rule asks for none may stay.
func differs(p *Plan, up *Upstream) string {
	switch {
	case up.Port != p.Port:
		return "the rule dials another port"
	case up.Source != p.Source:
		return "the rule has source: " + p.Source.String()
	case p.ProxyV2 && !up.ProxyV2:
		return "the rule has proxy_protocol: v2, and the destination was told nothing"
	case up.ProxyV2 && !p.ProxyV2:
		return "the rule has no proxy_protocol, and the destination was told who the client is"
	case p.Mode != TLSPlain && (up.Peer == nil || up.State == nil):
		return "the rule has TLS with the destination, and this connection is without"
	}
	return ""
}

// object is a refusal of a rule that may be observed.
func (s *Set) object(d *Decision, refused Verdict) {
	p, would := d.Verdict.Plan, d.Verdict.Would
	if !p.rule.observe {
		d.Verdict = refused
		return
	}
	if !would.Deny {
		d.Verdict.Would, d.Verdict.Reason = wouldOf(refused), reason.Observed
	}
}

// stopped is a clock that stands still at now; the zero time leaves it as it is.
func stopped(real func() time.Time, now time.Time) func() time.Time {
	if now.IsZero() {
		return real
	}
	return func() time.Time { return now }
}
