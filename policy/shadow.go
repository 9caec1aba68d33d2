package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
)

// This file finds what single rules cannot show: a rule that is never
// reached, and a client that gets around a rule by choosing another name.

// neverMatch reports rules that an earlier one leaves nothing.
func (c *compiler) neverMatch() {
	for i, r := range c.set.rules {
		if !c.whole[i].selectors {
			continue
		}
		for j, before := range c.set.rules[:i] {
			if c.whole[j].selectors && before.covers(r) {
				c.list.Addf(fmt.Sprintf("rules[%d]", i), "rule %q can never match: rule %q before it takes everything it would", r.name, before.name)
				break
			}
		}
	}
}

// covers says whether every flow that fits o fits r: in each selector by
// itself, what o takes is inside what r takes.
func (r *rule) covers(o *rule) bool {
	for _, p := range o.sources() {
		if !coveredBy(p, r.sources()) {
			return false
		}
	}
	for _, e := range o.to {
		if !coveredBy(e.prefix, r.prefixesFor(e.port)) {
			return false
		}
	}
	return coversList(r.sni, o.sni, hostPattern.covers) && coversList(r.alpn, o.alpn, equal)
}

// coversList says whether a list of patterns takes everything another does;
// an empty one takes everything.
func coversList[P any](outer, inner []P, covers func(P, P) bool) bool {
	if len(outer) == 0 {
		return true
	}
	if len(inner) == 0 {
		return false
	}
	for _, in := range inner {
		if !slices.ContainsFunc(outer, func(out P) bool { return covers(out, in) }) {
			return false
		}
	}
	return true
}

// sources is from, written out.
func (r *rule) sources() []netip.Prefix {
	if len(r.from) == 0 {
		return []netip.Prefix{anyIPv4, anyIPv6}
	}
	return r.from
}

// prefixesFor lists the destinations whose entry takes the port; 0 is all ports.
func (r *rule) prefixesFor(port uint16) []netip.Prefix {
	var out []netip.Prefix
	for _, e := range r.to {
		if e.port == 0 || e.port == port {
			out = append(out, e.prefix)
		}
	}
	return out
}

// familiesMeet says whether a flow can fit from and to at once.
func (r *rule) familiesMeet() bool {
	for _, p := range r.sources() {
		for _, e := range r.to {
			if p.Addr().Is4() == e.prefix.Addr().Is4() {
				return true
			}
		}
	}
	return false
}

// meets says whether some client can reach some destination by both rules, if
// it may choose what its hello says.
func (r *rule) meets(o *rule) bool {
	for _, p := range r.sources() {
		for _, q := range o.sources() {
			if !p.Overlaps(q) {
				continue
			}
			for _, e := range r.to {
				if p.Addr().Is4() == e.prefix.Addr().Is4() && slices.ContainsFunc(o.to, e.overlaps) {
					return true
				}
			}
		}
	}
	return false
}

// weakerDemands reports where the client's own word, its SNI or ALPN, decides
// between a stronger and a weaker demand for the same destination.
func (c *compiler) weakerDemands() {
	for i, weak := range c.set.rules {
		if !c.whole[i].selectors || !c.whole[i].demands || weak.action == Deny {
			continue
		}
		var around []string
		for j, strong := range c.set.rules {
			if i != j && c.whole[j].selectors && c.whole[j].demands &&
				c.evades(i, j) && weak.weakerThan(strong) && weak.meets(strong) {
				around = append(around, strong.name)
			}
		}
		path := fmt.Sprintf("rules[%d]", i)
		switch byHello := weak.action == Bypass && weak.needsHello(); {
		case byHello && weak.anywhere():
			c.list.Addf(path, "rule %q bypasses by what the client says alone (%s): whoever says it reaches every destination uninspected; name the destinations in \"to\"", weak.name, weak.helloSelectors())
		case byHello && len(around) > 0:
			c.list.Addf(path, "rule %q bypasses by what the client says (%s), and for the same destination %s more: whoever says it gets around that; let the bypass rest on addresses alone", weak.name, weak.helloSelectors(), demandsOf(around))
		case byHello:
			c.list.Warnf(path, "rule %q bypasses by what the client says (%s): what the client says inside is not seen, so this opens the whole destination; \"to\" alone would say that more clearly", weak.name, weak.helloSelectors())
		case len(around) > 0:
			c.list.Warnf(path, "rule %q asks for less than %s for the same destination, and it is the client that chooses between them by the name or protocol in its hello", weak.name, demandsOf(around))
		}
	}
}

// evades says whether a flow that strong is meant for comes to weak if the
// client changes its hello. It does not where the earlier of the two goes by
// addresses alone, for that one takes all they share.
func (c *compiler) evades(weak, strong int) bool {
	if c.set.rules[min(weak, strong)].needsHello() {
		// A deny behind a rule that lets through is the default written out.
		return strong < weak || c.set.rules[strong].action != Deny || c.set.rules[weak].action == Bypass
	}
	return false
}

// anywhere says whether the rule's destinations are all there are of a family.
func (r *rule) anywhere() bool {
	var all []netip.Prefix
	for _, e := range r.to {
		all = append(all, e.prefix)
	}
	return coveredBy(anyIPv4, all) || coveredBy(anyIPv6, all)
}

func (r *rule) helloSelectors() string {
	var parts []string
	if len(r.sni) > 0 {
		parts = append(parts, "sni")
	}
	if len(r.alpn) > 0 {
		parts = append(parts, "alpn")
	}
	return strings.Join(parts, ", ")
}

// strength orders what rules demand of everybody: bypass, then the three
// modes of client authentication, then deny.
func (r *rule) strength() int {
	switch r.action {
	case Bypass:
		return 0
	case Terminate:
		switch r.auth {
		case handshake.ClientAuthNone:
			return 1
		case handshake.ClientAuthOptional:
			return 2
		default:
			return 3
		}
	default:
		return 4
	}
}

// weakerThan says whether r demands strictly less than o. Two rules for
// different people (other authorities, other allow entries) are not
// comparable: neither is weaker.
func (r *rule) weakerThan(o *rule) bool {
	if r.strength() != o.strength() {
		return r.strength() < o.strength()
	}
	if r.action != Terminate || r.auth == handshake.ClientAuthNone {
		return false
	}
	for _, a := range o.authorities {
		if !slices.ContainsFunc(r.authorities, func(b authority) bool { return a.Name == b.Name }) {
			return false
		}
	}
	return len(r.allow) == 0 && (len(o.allow) > 0 || len(r.authorities) > len(o.authorities))
}

// demandsOf names at most three rules: "rule "a" demands", "rules "a", "b" and
// 2 more demand".
func demandsOf(names []string) string {
	const most = 3
	if len(names) == 1 {
		return fmt.Sprintf("rule %q demands", names[0])
	}
	var b strings.Builder
	b.WriteString("rules ")
	for i, name := range names[:min(most, len(names))] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", name)
	}
	if rest := len(names) - most; rest > 0 {
		fmt.Fprintf(&b, " and %d more", rest)
	}
	return b.String() + " demand"
}
