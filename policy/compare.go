package policy

import (
	"cmp"
	"slices"
	"sync"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// DifferenceKind says which way a shadow policy differs from the enforced one.
type DifferenceKind uint8

// The kinds, from the one to look at first.
const (
	ShadowDenies  DifferenceKind = iota + 1 // the shadow would refuse a flow that goes through
	ShadowAllows                            // the shadow would let through a flow that is refused
	OtherAction                             // both let it through, by another action
	OtherReason                             // both refuse, for other reasons
	OtherRule                               // the same answer from another rule
	OtherObserved                           // one notes a refusal that is only observed, the other does not
)

// String is the word of records and metrics.
func (k DifferenceKind) String() string {
	switch k {
	case ShadowDenies:
		return "shadow_denies"
	case ShadowAllows:
		return "shadow_allows"
	case OtherAction:
		return "other_action"
	case OtherReason:
		return "other_reason"
	case OtherRule:
		return "other_rule"
	case OtherObserved:
		return "other_observed"
	}
	return "none"
}

// Difference is one disagreement of two policies about a flow.
type Difference struct {
	Kind                         DifferenceKind
	EnforcedRule, ShadowRule     string // "" for the default
	EnforcedReason, ShadowReason reason.Code
}

// Compare says whether and how the verdicts of two policies about one flow
// differ; false if they do not.
func Compare(enforced, shadow Verdict) (Difference, bool) {
	d := Difference{
		EnforcedRule: enforced.Rule, ShadowRule: shadow.Rule,
		EnforcedReason: enforced.Reason, ShadowReason: shadow.Reason,
	}
	letsE, letsS := enforced.Action.Lets(), shadow.Action.Lets()
	switch {
	case letsE && !letsS:
		d.Kind = ShadowDenies
	case !letsE && letsS:
		d.Kind = ShadowAllows
	case letsE && enforced.Action != shadow.Action:
		d.Kind = OtherAction
	case !letsE && enforced.Reason != shadow.Reason:
		d.Kind = OtherReason
	case enforced.Rule != shadow.Rule:
		d.Kind = OtherRule
	case enforced.Would.Deny != shadow.Would.Deny:
		d.Kind = OtherObserved
	default:
		return Difference{}, false
	}
	return d, true
}

// maxDifferences bounds the differences that a Shadow counts apart: about
// 200 bytes each. Those over it are counted together.
const maxDifferences = 1024

// Shadow decides flows by a second policy beside the enforced one and counts
// where they differ. It is safe for concurrent use. The zero value, and nil,
// have no second policy and find no difference.
type Shadow struct {
	set    *Set
	mu     sync.Mutex
	flows  uint64
	counts map[Difference]uint64
	rest   uint64
}

// NewShadow starts counting for a second policy.
func NewShadow(set *Set) *Shadow {
	return &Shadow{set: set, counts: map[Difference]uint64{}}
}

// SetID is the digest of the shadow policy.
func (s *Shadow) SetID() string {
	if s == nil {
		return ""
	}
	return s.set.ID()
}

// Judge decides a flow by the shadow policy, at the moment at which the
// enforced one has said its last word: facts hold what is known then. It
// counts and returns the difference, and what the shadow says; false if they
// agree. Facts.Peer was verified against the authorities of the enforced rule:
// it is verified anew.
func (s *Shadow) Judge(enforced Verdict, f Facts) (Difference, Verdict, bool) {
	if s == nil || s.set == nil {
		return Difference{}, Verdict{}, false
	}
	v := s.decide(enforced, f)
	d, differ := Compare(enforced, v)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flows++
	if !differ {
		return d, v, false
	}
	switch _, known := s.counts[d]; {
	case known || len(s.counts) < maxDifferences:
		s.counts[d]++
	default:
		s.rest++
	}
	return d, v, true
}

// decide asks the shadow for the moments that the flow has gone through.
func (s *Shadow) decide(enforced Verdict, f Facts) Verdict {
	f.Upstream = nil // it was made by the enforced rule; the shadow's might make another
	d := s.set.Redecide(f)
	if p := d.Hello.Plan; d.Hello.Action == Terminate && f.State != nil && p.agreesAnew(f) {
		if p.AsksAgreed() {
			return d.Hello // what would be agreed on is not known
		}
		f.State = nil
		d = s.set.Redecide(f)
	}
	switch asked := f.Peer != nil || enforced.Action == Terminate || answersAbsence(enforced.Reason); {
	case !d.Decided && enforced.Action == Originate:
		// The shadow would wait for a hello, and this client sends none.
		d.Verdict = s.set.refuse("", reason.NotTLS, "")
	case !d.Decided && enforced.Action != Deny:
		// The enforced policy bypassed without looking; what the shadow would
		// have said of the hello is not known, only that it would have asked.
		d.Verdict.Action, d.Verdict.Reason = Terminate, ""
	case d.Hello.Action == Terminate && !asked && !d.Hello.Plan.byHello():
		// Nobody was asked for a certificate: the shadow's answer ends here.
		return d.Hello
	}
	return d.Verdict
}

// byHello says whether the hello is all that a rule which terminates judges a client by: no
// certificate, and nothing that the handshake agrees on.
func (p *Plan) byHello() bool {
	return p != nil && p.Client != nil && p.Client.ClientAuth == handshake.ClientAuthNone && !p.AsksAgreed()
}

// agreesAnew says whether a handshake by the plan would agree on something else than
// Facts.State has: its profile or its protocols exclude that, and the hello offers what they
// do not exclude.
func (p *Plan) agreesAnew(f Facts) bool {
	e := p.ClientParams().Holds(f.State, f.Hello)
	return e != nil && e.Reason != reason.NoExtendedMasterSecret
}

// answersAbsence says whether a refusal is one that follows only after a
// certificate was asked for and none was shown.
func answersAbsence(code reason.Code) bool {
	return code == reason.NoCertificate || code == reason.ConditionFailed || code == reason.ConditionError
}

// Count is how often a difference was found.
type Count struct {
	Difference
	Flows uint64
}

// Report lists the differences, those to look at first in front, then by how
// often they were found; with how many flows were judged, and how many
// differed in ways that are counted together because there are too many.
func (s *Shadow) Report() (counts []Count, flows, rest uint64) {
	if s == nil {
		return nil, 0, 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for d, n := range s.counts {
		counts = append(counts, Count{d, n})
	}
	slices.SortFunc(counts, func(a, b Count) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(b.Flows, a.Flows),
			cmp.Compare(a.EnforcedRule, b.EnforcedRule), cmp.Compare(a.ShadowRule, b.ShadowRule), cmp.Compare(a.ShadowReason, b.ShadowReason))
	})
	return counts, s.flows, s.rest
}
