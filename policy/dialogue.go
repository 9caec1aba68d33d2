package policy

import (
	"fmt"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/upgrade"
)

// This file is about what a client says before TLS (upgrade). Which dialogue it is waited
// for with must be known before there is a hello, so it follows from the first packet: the
// first rule that fits it as far as can be told, and could let through, says it. A deny rule
// says nothing about it, and is for all clients. With the hello only rules of that dialogue
// take part.

// Dialogue is what a client is waited for to say before TLS, where the first packet does not
// decide, and the rule that says so; None and "" for TLS from the first byte.
func (s *Set) Dialogue(f Facts) (p upgrade.Protocol, rule string) {
	f.Hello = nil
	if s == nil || !s.upgrades {
		return upgrade.None, ""
	}
	flow, _, ok := s.subject(f)
	if !ok {
		return upgrade.None, ""
	}
	if r, _ := s.dialogue(flow); r != nil && r.upgrade != upgrade.None {
		return r.upgrade, r.name
	}
	return upgrade.None, ""
}

// dialogue is Dialogue; nil where no rule says anything. early says that the first packet
// decides.
func (s *Set) dialogue(f subject) (r *rule, early bool) {
	f.hello = nil
	early = true
	w := s.walk(&f)
	for i := w.step(); i >= 0; i = w.step() {
		r = s.rules[i]
		sel := r.match(&f)
		if sel != selNone && sel != selHello || sel == selNone && r.observe && !r.action.Lets() {
			continue // does not fit, or is passed over
		}
		early = early && !r.waits(sel)
		if r.action != Deny || sel == selNone {
			return r, early
		}
	}
	return nil, early
}

// waits says whether a rule that fits the first packet, as far as sel says, waits for a hello.
func (r *rule) waits(sel selector) bool { return sel == selHello || r.action == Terminate }

// asWaitedFor says whether the client began as it was waited for to begin. One that speaks
// TLS from the first byte always may.
func (f *subject) asWaitedFor() bool {
	return f.began == upgrade.None || f.began == f.dialogue || f.early
}

// speaks says whether the rule is for clients that begin so. A deny rule is for all.
func (r *rule) speaks(f *subject) bool {
	return r.action == Deny || r.upgrade == f.dialogue && f.asWaitedFor()
}

// direct is the refusal of a client that speaks TLS from the first byte where a dialogue is
// waited for, and does not offer the protocol's ALPN; nil for none.
func (r *rule) direct(f *subject) *handshake.Error {
	if name := r.upgrade.ALPN(); f.began == upgrade.None && name != "" && !slices.Contains(f.hello.ALPN, name) {
		return handshake.Refuse(handshake.StepClientHello, reason.NoALPN,
			fmt.Sprintf("a client that speaks TLS from the first byte must offer %q (upgrade: %s)", name, r.upgrade))
	}
	return nil
}

// direct is that of the rule of a plan.
func (s *Set) direct(p *Plan, f Facts) *handshake.Error {
	if p.Upgrade == upgrade.None || f.Hello == nil {
		return nil
	}
	flow, _, ok := s.subject(f)
	if !ok {
		return nil
	}
	return p.rule.direct(&flow)
}

// sameBeginning says whether what o takes r can take too, as to how clients begin. A rule
// that goes by addresses alone takes them however they begin, or keeps them from o by what
// they are waited for to say, unless a rule before it has settled that: see settled.
func (r *rule) sameBeginning(o *rule) bool {
	switch {
	case r.action == Deny || !r.needsHello():
		return true
	case o.action == Deny:
		return !r.plan.set.upgrades
	}
	return r.upgrade == o.upgrade
}

// settled says whether a rule before i may have settled that clients of rule j are waited
// for to begin in another way than rule i has them begin, so that they may come past i to j.
func (c *compiler) settled(s *search, i, j int) bool {
	first, later := c.set.rules[i], c.set.rules[j]
	if !c.set.upgrades || first.action == Deny || first.needsHello() || later.action != Deny && first.upgrade == later.upgrade {
		return false
	}
	v := c.meeting(later)
	for k := range v.all() {
		r := c.set.rules[k]
		if k >= i || !s.compare(later.pairs(r)) {
			break
		}
		if r.action != Deny && r.upgrade != first.upgrade && r.meets(later) {
			return true
		}
	}
	return s.ended // nothing is claimed then
}

// sameAddresses says whether r takes every flow of o as far as the first packet tells.
func (r *rule) sameAddresses(o *rule) bool {
	return r.window.covers(o.window) && r.coversSources(o) && r.coversDestinations(o)
}

// upgrade compiles what the client says before TLS.
func (c *compiler) upgrade(at scope, r *rule, spec *RuleSpec) {
	p, ok := oneOf(at, "upgrade", spec.Upgrade, upgrade.None, upgrade.Postgres)
	if !ok || p == upgrade.None {
		return
	}
	switch r.action {
	case Terminate:
	case Originate:
		at.errorf("upgrade", "with action originate the client speaks without TLS, so it asks for none: upgrade is for action terminate")
		return
	default:
		at.errorf("upgrade", "with action %s nothing is said to the client; upgrade is for action terminate", r.action)
		return
	}
	r.upgrade, r.plan.Upgrade = p, p
	if spec.ALPN != nil {
		at.errorf("alpn", "with upgrade: %s clients are answered %q, and nothing else is spoken then: leave alpn out", p, p.ALPN())
	}
	if spec.Destination.Dial == "first" {
		at.errorf("destination.dial", "with upgrade: %s the client has its answer before its hello, and so before any destination: dial: first cannot be kept", p)
	}
}

// destinationUpgrade compiles what is said to a destination with TLS before it.
func (c *compiler) destinationUpgrade(at scope, r *rule, spec *DestinationSpec) {
	if r.plan.DestUpgrade = r.upgrade; spec.Upgrade != "" {
		r.plan.DestUpgrade, _ = oneOf(at, "upgrade", spec.Upgrade, upgrade.None, upgrade.Postgres)
	}
	if p := r.plan.DestUpgrade; p != upgrade.None {
		for _, name := range slices.Concat(r.alpn, r.plan.Offered) {
			if name != p.ALPN() {
				at.errorf("upgrade", "a destination that is asked for TLS by %s speaks nothing but %q, and alpn of the rule has %q: leave alpn out, or this", p.Begins(), p.ALPN(), name)
				break
			}
		}
	}
	switch {
	case r.action == Originate && r.plan.DestUpgrade != upgrade.None && spec.Identity == "":
		at.warnf("upgrade", "a server that offers SCRAM-SHA-256-PLUS binds the password to its certificate, and a client without TLS sees none: libpq ends the connection then. Passwords by SCRAM do not pass here; a certificate (identity) does")
	case r.upgrade != upgrade.None && spec.Upgrade == "":
		at.warnf("tls", "a server that offers SCRAM-SHA-256-PLUS binds the password to its certificate, and the client to the one of the rule's identity: give the identity the server's own certificate, or set channel_binding=disable in clients that have passwords, or write tls: plain where the way to the server is safe; upgrade: %s beside tls says that this is known", r.upgrade)
	}
}

// otherDialogue reports rules that an earlier one keeps from their clients, because it waits
// for them to begin in another way. Of a rule that is left nothing neverMatch has spoken.
func (c *compiler) otherDialogue() {
	if !c.set.upgrades {
		return
	}
	s := c.search("rules that wait for clients to begin in different ways")
	defer s.done()
	for j, later := range c.set.rules {
		if s.over() {
			return
		}
		if later.action == Deny || later.action == Originate || c.dead[j] || !c.whole[j].selectors { // waitsForHello has those that originate
			continue
		}
		var before []other
		v := c.meeting(later)
		for i := range v.all() {
			first := c.set.rules[i]
			if i >= j || len(before) >= maxAround || !s.compare(later.pairs(first)) {
				break
			}
			if first.action == Deny || c.dead[i] || !c.whole[i].selectors {
				continue
			}
			if first.upgrade == later.upgrade {
				if first.sameAddresses(later) {
					break // how its clients begin is settled by this one
				}
				continue
			}
			if first.keepsFrom(later) {
				before = append(before, other{i, first.name, ""})
			}
		}
		c.reportDialogue(j, before)
	}
}

// keepsFrom says whether r keeps clients from a later rule because it waits for them to begin
// in another way. One that goes by addresses alone takes all of its clients in any case, and
// stands before a wider one in good order; but not where that one names a destination of
// which it is left nothing.
func (r *rule) keepsFrom(o *rule) bool {
	if r.needsHello() {
		return r.meets(o) && r.window.meets(o.window) && (!r.local || o.local || r.coversSources(o))
	}
	if !r.window.covers(o.window) || !r.coversSources(o) || r.to.len()*o.to.len() > maxCompared {
		return false
	}
	for e := range o.to.all() {
		if coveredBy(e.prefix, r.prefixesFor(e.port)) {
			return true
		}
	}
	return false
}

func (c *compiler) reportDialogue(j int, before []other) {
	if len(before) == 0 {
		return
	}
	first, later := c.set.rules[before[0].index], c.set.rules[j]
	hint := "give them addresses of their own"
	if later.action == Terminate && first.action == Terminate {
		hint = "write the same upgrade in both, or " + hint
	}
	c.list.WarnAlso(fmt.Sprintf("rules[%d]", j), placesOf(before),
		"rule %q is for clients that begin with %s, and where %s before it fits by addresses it %s: such clients never come to rule %q; %s",
		later.name, later.upgrade.Begins(), rulesOf(namesOf(before)), first.insteadOf(), later.name, hint)
}

// insteadOf says what a rule does that keeps clients from another one, for a person.
func (r *rule) insteadOf() string {
	if r.waits(selNone) || r.needsHello() {
		return "waits for " + r.upgrade.Begins()
	}
	return "takes them by the first packet (action " + r.action.String() + ")"
}
