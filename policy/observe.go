package policy

import (
	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// This file is `mode: observe`. A flow is decided as ever, and where the answer
// is no it goes on all the same, with the refusal in Verdict.Would:
//
//   - a rule that terminates keeps its parameters, with Params.Observe; where
//     its profile would refuse the hello it gets the widest ones;
//   - a deny rule is passed over, so that observing one lets through nothing
//     that would not go through without it;
//   - where no rule of an observed policy fits, there is no identity to
//     terminate with: the flow is bypassed.
//
// The first refusal on the flow's way is the one that is noted: with it
// enforced, the flow would not have come to the others.

// Mode says whether a rule's refusals count.
type Mode uint8

// The modes. The zero value enforces.
const (
	Enforce Mode = iota
	Observe
)

// String is the word of the configuration.
func (m Mode) String() string {
	if m == Observe {
		return "observe"
	}
	return "enforce"
}

// wouldOf is a refusal as it is noted.
func wouldOf(v Verdict) Would {
	return Would{Deny: true, Rule: v.Rule, Reason: v.Reason, Detail: v.Detail, Alert: v.Alert}
}

// observable says whether a flow can go on in spite of a refusal. It cannot
// where it rests on nothing: a defect, or facts that are missing.
func observable(v Verdict) bool { return v.Reason != reason.Internal && v.Reason != reason.BadPacket }

// note puts the deny rule that was passed over into a verdict that lets through.
func (s *Set) note(v Verdict, passed *rule) Verdict {
	if passed != nil && v.Action != Deny {
		v.Would = wouldOf(s.refuse(passed.name, reason.RuleDeny, ""))
	}
	return v
}

// observed lets a refused flow go on by p.
func (s *Set) observed(p *Plan, refused Verdict, passed *rule) Verdict {
	if !observable(refused) {
		return refused
	}
	v := s.allow(p, p.rule.action, reason.Observed)
	v.Would = wouldOf(refused)
	return s.note(v, passed)
}

// observeHello is terminate for an observed rule. No version, CipherSuite,
// group, signature algorithm or protocol in common with the widest parameters
// either: then there is no handshake to be observed.
func (s *Set) observeHello(r *rule, hello *handshake.ClientHello, passed *rule) Verdict {
	e := s.engine.Refuses(r.plan.Client, hello)
	if e == nil {
		return s.note(s.allow(&r.plan, Terminate, ""), passed)
	}
	if s.engine.Refuses(r.wide.Client, hello) != nil {
		return s.refuseAs(r, e)
	}
	v := s.observed(&r.wide, s.refuseAs(r, e), passed)
	v.Reason = "" // nobody is verified yet
	return v
}

// before is the refusal that was observed before the client's certificate.
func (s *Set) before(p *Plan, f Facts) Would {
	if s.passes {
		if flow, _, ok := s.subject(f); ok {
			if _, _, passed := s.first(&flow); passed != nil {
				return wouldOf(s.refuse(passed.name, reason.RuleDeny, ""))
			}
		}
	}
	if e := s.direct(p, f); e != nil {
		return wouldOf(s.refuseAs(p.rule, e))
	}
	if p == &p.rule.wide && f.Hello != nil {
		if e := s.engine.Refuses(p.rule.plan.Client, f.Hello); e != nil {
			return wouldOf(s.refuseAs(p.rule, e))
		}
	}
	return Would{}
}

// widen makes the plans of an observed rule out of the enforced one.
func (r *rule) widen(able *handshake.Capabilities) {
	r.plan.Observed = true
	if r.plan.dest != nil {
		// What is offered to the destination stays: it is in the first message,
		// before anybody knows whether it will do.
		r.plan.dest.Observe = true
	}
	if r.plan.Client == nil {
		return
	}
	r.plan.Client.Observe = true
	r.wide = r.plan
	params := *r.plan.Client
	params.Profile = able.Widest()
	params.Profile.MinRSABits, params.Profile.MinECBits = r.plan.Client.Profile.MinRSABits, r.plan.Client.Profile.MinECBits
	params.AnyProtocol = true
	r.wide.Client = &params
}
