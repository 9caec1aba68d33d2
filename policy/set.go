package policy

import (
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
)

// Set is a compiled policy. It is immutable and safe for concurrent use. A nil
// Set, and the zero value, deny everything. A flow keeps the Set it began
// with: a Plan is only good for the Set that made it.
//
// The walk of one flow:
//
//  1. OnSYN goes down the rules by address and time and stops at the first
//     that fits. If that rule needs more, the answer stays open. A rule that
//     originates decides here, for its clients send no hello.
//  2. OnHello goes down them again, now with every selector, and the first
//     that fits is the flow's rule: whatever comes after cannot change that.
//  3. OnPeer and OnDestination judge certificates by that rule.
//
// An index spares most of the rules; the answer is that of asking each of them
// in turn.
type Set struct {
	id     string
	engine handshake.Planner
	rules  []*rule
	index  *ruleIndex // nil for few rules
	// alerts is reason's list by code: the packet path refuses many SYNs.
	alerts map[reason.Code]handshake.Alert
	// open lets a flow that no rule fits go on, in an observed policy; nil in
	// an enforced one.
	open *rule
	// passes says that there is an observed deny rule, timed that there is one
	// with a time window.
	passes, timed bool
	upgrades      bool   // there is a rule with upgrade
	trust         *trust // of all rules; nil: no authorities
}

// ID is the digest of everything compiled: 16 hex digits, "" for a nil Set.
// Equal policies have equal ids, whichever certificates of the same kinds their
// identities show.
func (s *Set) ID() string {
	if s == nil {
		return ""
	}
	return s.id
}

// OnSYN decides on addresses and time alone. It is decided if the first rule
// whose addresses fit needs nothing else to bypass, originate or deny, or if none fits.
// Where decided is false the answer depends on the client hello, and the
// Verdict is a refusal for want of one. It does not block and does not allocate.
func (s *Set) OnSYN(f Facts) (v Verdict, decided bool) {
	f.Hello = nil
	flow, v, ok := s.subject(f)
	if !ok {
		return v, true
	}
	r, sel, passed := s.first(&flow)
	switch {
	case r == nil:
		return s.noRule(&flow, passed), true
	case r.waits(sel):
		return s.refuse("", reason.Internal, "not decided without the client hello"), false
	}
	return s.letOrDeny(r, passed), true
}

// Awaiting is the rule for which a client hello is waited for, where the first packet does
// not decide; "" where it does. It is the first that fits by addresses and time: with a hello
// another may.
func (s *Set) Awaiting(f Facts) string {
	f.Hello = nil
	flow, _, ok := s.subject(f)
	if !ok {
		return ""
	}
	if r, sel, _ := s.first(&flow); r != nil && r.waits(sel) {
		return r.name
	}
	return ""
}

// OnHello picks the rule: the first whose selectors fit. Terminate and Bypass
// come with a Plan; Deny comes with the alert that can still be sent in
// plaintext, and with the rule if it was the rule's profile that the hello
// could not meet. The Reason of Terminate is empty, for nobody is verified
// yet. It does not allocate unless it denies, or the rule is observed.
//
// A client that asked for TLS and has its answer is terminated or denied, whatever the rules
// are by now: its destination was asked nothing, and takes no hello.
func (s *Set) OnHello(f Facts) Verdict {
	v := s.onHello(f)
	if f.Upgrade != upgrade.None && v.Action != Terminate && v.Action != Deny {
		return s.refuse(v.Rule, reason.PolicyChanged, "a client that was answered to "+f.Upgrade.Begins()+" would be let through with action "+v.Action.String())
	}
	return v
}

// onHello is OnHello by the rules alone.
func (s *Set) onHello(f Facts) Verdict {
	flow, v, ok := s.subject(f)
	if !ok {
		return v
	}
	if f.Hello == nil {
		return s.refuse("", reason.Internal, "no client hello")
	}
	r, _, passed := s.first(&flow)
	switch {
	case r == nil:
		return s.noRule(&flow, passed)
	case r.action == Terminate:
		return s.terminate(r, &flow, passed)
	case r.action == Originate:
		v := s.refuse(r.name, reason.ClientSpeaksTLS, "")
		if r.observe && s.open != nil {
			v = s.observed(&s.open.plan, v, passed) // as where no rule fits
			v.Rule = r.name
		}
		return v
	}
	return s.letOrDeny(r, passed)
}

// first finds the first rule that fits, with selNone, or that fits as far as
// can be told without a hello, with selHello; nil if there is none. A deny
// rule that is only observed is passed over; the first such one is passed.
func (s *Set) first(f *subject) (r *rule, sel selector, passed *rule) {
	w := s.walk(f)
	for i := w.step(); i >= 0; i = w.step() {
		r = s.rules[i]
		switch sel = r.match(f); {
		case sel == selNone && r.observe && !r.action.Lets():
			if passed == nil {
				passed = r
			}
		case sel == selNone, sel == selHello:
			return r, sel, passed
		}
	}
	return nil, selNone, passed
}

// CanSay says whether the selectors and the names of allow can be written as they are in
// the rule, which may name no set; nil if they can.
func (s *Set) CanSay(r *RuleSpec) error {
	c := newCompiler(Spec{}, Environment{Engine: s.engine})
	c.ruleName(newScope(&c.list, ""), r.Name)
	c.selectors(c.scope(""), &rule{}, r)
	compileAllow(c.scope(""), r.Client.Allow)
	if !c.list.Failed() {
		return nil
	}
	return c.list.Err()
}

// Meets says whether a certificate with one alternative name, of kind "dns", "uri" or "email",
// has what an alternative demands of names of that kind: yes where it demands nothing of them.
func (s *Set) Meets(a AllowSpec, kind, name string) bool {
	var only AllowSpec
	var c claims
	switch kind {
	case "dns":
		only.SANDNS, c.names.DNS = a.SANDNS, []string{name}
	case "uri":
		only.SANURI, c.names.URI = a.SANURI, []string{name}
	case "email":
		only.SANEmail, c.names.Email = a.SANEmail, []string{name}
	}
	compiler := newCompiler(Spec{}, Environment{Engine: s.engine})
	alternative := compileAlternative(compiler.scope(""), &only)
	return !compiler.list.Failed() && alternative.unmet(&c) == nil
}

// walk begins a walk over the rules that the flow may fit.
func (s *Set) walk(f *subject) walker {
	if s.index == nil {
		return walkAll(len(s.rules))
	}
	w := s.index.byAddress(f.src, f.dst)
	if f.hello != nil {
		w.add(s.index.byName(f.hello))
	}
	return w
}

// noRule answers where no rule fits. The reason is the one that a client can do
// something about: what a rule that would have let it through failed at alone.
func (s *Set) noRule(f *subject, passed *rule) Verdict {
	v := s.refuse("", reason.NoRule, "")
	h := f.hello
	switch {
	case !f.asWaitedFor():
		return s.refuse("", reason.NotTLS, "the client begins with "+f.began.Begins()) // there is no TLS to be observed
	case s.failsAt(f, selALPN):
		v = s.refuse("", reason.NoALPN, "offered"+quoted(h.ALPN))
	case !s.failsAt(f, selSNI):
		if s.failsAt(f, selTime) {
			v = s.refuse("", reason.OutsideTime, "")
		}
	case !h.SNIPresent:
		v = s.refuse("", reason.SNIMissing, "")
	case h.SNIInvalid:
		v = s.refuse("", reason.SNIInvalid, "")
	default:
		v = s.refuse("", reason.SNIUnknown, clip(h.ServerName))
	}
	if s.open == nil || f.began != upgrade.None { // what was answered already cannot be bypassed
		return v
	}
	return s.observed(&s.open.plan, v, passed)
}

// failsAt says whether a rule that lets through fails at one selector, having
// fitted those before it.
func (s *Set) failsAt(f *subject, sel selector) bool {
	w := walkAll(len(s.rules))
	if x := s.index; x != nil {
		w = x.byAddress(f.src, f.dst)
		switch sel {
		case selALPN:
			if f.hello != nil {
				w.add(x.byName(f.hello))
			}
			w.add(x.letsALPN)
		case selSNI:
			w.add(x.letsSNI)
		case selTime:
			w.add(x.letsTime)
		}
	}
	for i := w.step(); i >= 0; i = w.step() {
		if r := s.rules[i]; r.action != Deny && r.match(f) == sel {
			return true
		}
	}
	return false
}

// subject is the flow as selectors see it; where it is not ok, v says why.
func (s *Set) subject(f Facts) (out subject, v Verdict, ok bool) {
	if s == nil {
		return out, s.refuse("", reason.Internal, "no policy"), false
	}
	src, ok1 := unmap(f.Src)
	dst, ok2 := unmap(f.Dst)
	if !ok1 || !ok2 {
		return out, s.refuse("", reason.BadPacket, "an address is missing or has a zone"), false
	}
	if s.timed && f.Now.IsZero() {
		// A rule with a time would not fit, and one behind it might let through.
		return out, s.refuse("", reason.Internal, "no time"), false
	}
	out = subject{src: src, dst: dst, local: f.Local, now: f.Now, hello: f.Hello, ja4: f.JA4, began: f.Upgrade}
	if f.Hello != nil && (s.upgrades || f.Upgrade != upgrade.None) {
		var r *rule
		if r, out.early = s.dialogue(out); r != nil {
			out.dialogue = r.upgrade
		}
	}
	return out, v, true
}

// terminate checks that the hello can meet the rule's profile at all, while
// every alert can still be sent.
func (s *Set) terminate(r *rule, f *subject, passed *rule) Verdict {
	hello := f.hello
	e := r.direct(f)
	switch {
	case r.observe:
		v := s.observeHello(r, hello, passed)
		if e != nil && v.Action != Deny && passed == nil {
			v.Would = wouldOf(s.refuseAs(r, e))
		}
		return v
	case e != nil:
		return s.refuseAs(r, e)
	}
	if e := hello.Acceptable(r.plan.Client.Profile); e != nil {
		return s.refuseAs(r, e)
	}
	if e := r.plan.Client.RefusesProtocols(hello); e != nil {
		return s.refuseAs(r, e)
	}
	return s.note(s.allow(&r.plan, Terminate, ""), passed)
}

// letOrDeny answers for a rule that does not terminate. An action that is not
// known denies.
func (s *Set) letOrDeny(r, passed *rule) Verdict {
	switch r.action {
	case Bypass:
		return s.note(s.allow(&r.plan, Bypass, reason.Bypassed), passed)
	case Originate:
		return s.note(s.allow(&r.plan, Originate, reason.Originated), passed)
	}
	return s.refuse(r.name, reason.RuleDeny, "")
}

func (s *Set) allow(p *Plan, a Action, code reason.Code) Verdict {
	return Verdict{Action: a, Rule: p.Rule, Reason: code, Alert: handshake.AlertNone, Plan: p, SetID: s.id}
}

func (s *Set) refuse(rule string, code reason.Code, detail string) Verdict {
	return Verdict{Action: Deny, Rule: rule, Reason: code, Detail: detail, Alert: s.alert(code), SetID: s.ID()}
}

// refuseAs is a refusal with the words of the handshake.
func (s *Set) refuseAs(r *rule, e *handshake.Error) Verdict {
	return Verdict{Action: Deny, Rule: r.name, Reason: e.Reason, Detail: e.Detail, Alert: e.Wanted, SetID: s.id}
}

func (s *Set) alert(code reason.Code) handshake.Alert {
	if s != nil {
		if a, ok := s.alerts[code]; ok {
			return a
		}
	}
	return handshake.AlertOf(code)
}

// ruleOf is the rule of a plan that this set made, with one of the actions; nil for any
// other.
func (s *Set) ruleOf(p *Plan, actions ...Action) *rule {
	if s == nil || p == nil || p.rule == nil || p.set != s || !slices.Contains(actions, p.rule.action) {
		return nil
	}
	return p.rule
}
