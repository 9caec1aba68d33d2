package policy

import (
	"strconv"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// OnPeer judges the client's certificate (f.Peer, nil where none was shown)
// by the rule that made p. Terminate means that the rule has no objection, or
// is only observed (Verdict.Would has the objection then); it grants nothing
// while the peer is not proven.
func (s *Set) OnPeer(p *Plan, f Facts) Verdict {
	r := s.ruleOf(p, Terminate)
	if r == nil {
		return s.refuse("", reason.Internal, "no plan of this policy set")
	}
	v := s.judge(r, f)
	if v.Action != Terminate && r.observe && observable(v) {
		v = s.observed(p, v, nil)
	}
	if v.Action != Terminate {
		return v
	}
	v.Plan = p
	if w := s.before(p, f); w.Deny {
		v.Would = w
		if r.observe && (p == &r.wide || s.direct(p, f) != nil) {
			v.Reason = reason.Observed
		}
	}
	return v
}

// judge is OnPeer for a rule that is enforced.
func (s *Set) judge(r *rule, f Facts) Verdict {
	if f.Peer == nil {
		return s.judgeAbsent(r, f)
	}
	if r.auth != handshake.ClientAuthRequired && r.auth != handshake.ClientAuthOptional {
		return s.refuse(r.name, reason.Internal, "a certificate that the rule does not ask for")
	}
	if e := f.Peer.Refusal; e != nil {
		return s.refuseAs(r, e)
	}
	permits, v, ok := s.permitsOf(r, r.authorities, f.Peer, reason.UnknownCA)
	if !ok {
		return v
	}
	c, err := readClaims(f)
	if err != nil {
		return s.refuse(r.name, reason.BadCertificate, err.Error())
	}
	if name := permits.refusal(&c.names); name != "" {
		return s.refuse(r.name, reason.AuthorityNotNamed, "authority "+f.Peer.Authority+" may not speak for "+name)
	}
	if !allowed(r.allow, c) {
		return s.refuse(r.name, reason.NotAllowed, refusals(r.allow, c))
	}
	return s.judgeWhen(r, f, c, reason.OK)
}

func (s *Set) judgeAbsent(r *rule, f Facts) Verdict {
	switch r.auth {
	case handshake.ClientAuthOptional:
		return s.judgeWhen(r, f, nil, reason.OKNoCertificate)
	case handshake.ClientAuthNone:
		return s.judgeWhen(r, f, nil, reason.OKNotAsked)
	default:
		return s.refuse(r.name, reason.NoCertificate, "")
	}
}

// judgeWhen asks the rule's condition last; c is nil without a certificate.
func (s *Set) judgeWhen(r *rule, f Facts, c *claims, code reason.Code) Verdict {
	if r.when == nil {
		return s.allow(&r.plan, Terminate, code)
	}
	ok, err := r.when.holds(f, c)
	switch {
	case err != nil:
		return s.refuse(r.name, reason.ConditionError, clip(err.Error()))
	case !ok:
		return s.refuse(r.name, reason.ConditionFailed, clip(r.when.text))
	}
	return s.allow(&r.plan, Terminate, code)
}

// OnDestination judges the destination's certificate: the authority it leads
// to must be one of the rule's, and permitted to speak for the name that the
// certificate was verified for. The action of the rule means that it has no
// objection, or is only observed.
func (s *Set) OnDestination(p *Plan, f Facts, destination *handshake.Peer) Verdict {
	r := s.ruleOf(p, Terminate, Originate)
	if r == nil {
		return s.refuse("", reason.Internal, "no plan of this policy set")
	}
	v := s.judgeDestination(p, f, destination)
	if v.Action == Deny && r.observe && observable(v) {
		v = s.observed(p, v, nil)
	}
	return v
}

func (s *Set) judgeDestination(p *Plan, f Facts, destination *handshake.Peer) Verdict {
	r := p.rule
	name, err := p.verifyName(f)
	if err != nil {
		return s.refuse(r.name, reason.Internal, err.Error())
	}
	if destination == nil {
		return s.refuse(r.name, reason.UpstreamBadCert, "the destination showed no certificate")
	}
	if e := destination.Refusal; e != nil {
		return s.refuseAs(r, e)
	}
	if p.Mode == TLSInsecure {
		return s.allow(p, r.action, reason.OK)
	}
	permits, v, ok := s.permitsOf(r, r.destination, destination, reason.UpstreamUnknownCA)
	if !ok {
		return v
	}
	if permits != nil && !permits.permitsName(name) {
		return s.refuse(r.name, reason.UpstreamUnknownCA, "authority "+destination.Authority+" may not speak for "+clip(name))
	}
	return s.allow(p, r.action, reason.OK)
}

// permitsOf finds the authority of a verified peer among those of a rule.
func (s *Set) permitsOf(r *rule, list []authority, peer *handshake.Peer, unknown reason.Code) (*permits, Verdict, bool) {
	if len(peer.Shown) == 0 || peer.Shown[0] == nil || len(peer.Chain) == 0 {
		return nil, s.refuse(r.name, reason.Internal, "a certificate whose chain was not verified"), false
	}
	for _, a := range list {
		if a.Name == peer.Authority {
			return a.permits, Verdict{}, true
		}
	}
	return nil, s.refuse(r.name, unknown, "authority "+strconv.Quote(peer.Authority)+" is none of the rule's"), false
}
