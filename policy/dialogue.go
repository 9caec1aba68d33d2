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
// decide; None for TLS from the first byte.
func (s *Set) Dialogue(f Facts) upgrade.Protocol {
	f.Hello = nil
	if s == nil || !s.upgrades {
		return upgrade.None
	}
	flow, _, ok := s.subject(f)
	if !ok {
		return upgrade.None
	}
	p, _ := s.dialogue(flow)
	return p
}

// dialogue is Dialogue. early says that the first packet decides.
func (s *Set) dialogue(f subject) (p upgrade.Protocol, early bool) {
	f.hello = nil
	early = true
	w := s.walk(&f)
	for i := w.step(); i >= 0; i = w.step() {
		r := s.rules[i]
		sel := r.match(&f)
		if sel != selNone && sel != selHello || sel == selNone && r.observe && !r.action.Lets() {
			continue // does not fit, or is passed over
		}
		early = early && !r.waits(sel)
		if r.action != Deny || sel == selNone {
			return r.upgrade, early
		}
	}
	return upgrade.None, early
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

// sameBeginning says whether what o takes r can take too, as to how clients begin.
func (r *rule) sameBeginning(o *rule) bool {
	switch {
	case r.action == Deny:
		return true
	case o.action == Deny:
		return !r.plan.set.upgrades
	}
	return r.upgrade == o.upgrade
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
	switch {
	case r.action == Originate && r.plan.DestUpgrade != upgrade.None && spec.Identity == "":
		at.warnf("upgrade", "a server that offers SCRAM-SHA-256-PLUS binds the password to its certificate, and a client without TLS sees none: libpq ends the connection then. Passwords by SCRAM do not pass here; a certificate (identity) does")
	case r.upgrade != upgrade.None && spec.Upgrade == "":
		at.warnf("tls", "a server that offers SCRAM-SHA-256-PLUS binds the password to its certificate, and the client to the one of the rule's identity: give the identity the server's own certificate, or set channel_binding=disable in clients that have passwords, or write tls: plain where the way to the server is safe; upgrade: %s beside tls says that this is known", r.upgrade)
	}
}

// otherDialogue reports rules that an earlier one keeps from their clients, because it waits
// for them to begin in another way.
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
		if later.action == Deny || later.action == Originate || !c.whole[j].selectors { // waitsForHello has the latter
			continue
		}
		var before []other
		v := c.meeting(later)
		for i := range v.all() {
			first := c.set.rules[i]
			if i >= j || len(before) >= maxAround || !s.compare(later.pairs(first)) {
				break
			}
			if first.action == Deny || first.upgrade == later.upgrade || !first.needsHello() || !c.whole[i].selectors ||
				!first.meets(later) || !first.window.meets(later.window) || first.local && !later.local && !first.coversSources(later) {
				continue
			}
			before = append(before, other{i, first.name, ""})
		}
		if len(before) == 0 {
			continue
		}
		first := c.set.rules[before[0].index]
		hint := "give them addresses of their own"
		if later.action == Terminate && first.action == Terminate {
			hint = "write the same upgrade in both, or " + hint
		}
		c.list.WarnAlso(fmt.Sprintf("rules[%d]", j), placesOf(before),
			"rule %q is for clients that begin with %s, and where %s before it fits by addresses it waits for %s: such clients never come to rule %q; %s",
			later.name, later.upgrade.Begins(), rulesOf(namesOf(before)), first.upgrade.Begins(), later.name, hint)
	}
}
