package policy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
)

// This file finds what single rules cannot show: a client that gets around a rule
// by choosing another name.

// weakerDemands reports where the client's own word, its SNI or ALPN, decides
// between a stronger and a weaker demand for the same destination, and where
// the end of a time window or an observed rule does. Rules are taken as if
// they were enforced.
func (c *compiler) weakerDemands() {
	s := c.search("rules that ask for less than another for the same destination")
	defer s.done()
	classes, kin := c.classes(), c.kin(demandsKey)
	usable := c.those(func(i int, _ *rule) bool { return c.whole[i].selectors && c.whole[i].demands })
	chosen := c.those(func(_ int, r *rule) bool { return r.needsHello() || r.window != nil })
	for i, weak := range c.set.rules {
		if s.over() {
			return
		}
		if !c.whole[i].selectors || !c.whole[i].demands || weak.action == Deny {
			continue
		}
		var around, beside, later, unheld []other
		stronger := classes.stronger[classes.of[i]]
		v := c.meeting(weak)
		v.only(c.clients(weak))
		v.only(usable)
		// A rule that goes by addresses alone takes all that it shares with those
		// behind it: no hello leads from one to the other.
		v.below(i, chosen, weak.needsHello() || weak.observe)
		for j := range v.all() {
			strong := c.set.rules[j]
			if i == j {
				continue
			}
			if len(around)+len(beside)+len(later)+len(unheld) >= maxAround || !s.compare(weak.pairs(strong)) {
				break
			}
			byObserving := weak.observe && weak.action == Terminate && i < j && !strong.observe && strong.strength() > 0
			field, silent := kin.compare(s, i, j, weak, strong, stronger[classes.of[j]], v)
			if silent {
				continue
			}
			// No hello leads from a client without TLS to another rule, or back.
			evades := c.evades(i, j) && weak.action != Originate && strong.action != Originate
			if !byObserving && !evades && !stronger[classes.of[j]] || !weak.meets(strong) {
				continue
			}
			accepted := weak.accepted[strong.name]
			switch {
			case accepted && (weak.action != Bypass || !weak.needsHello()):
			case stronger[classes.of[j]] && evades:
				around = append(around, other{j, strong.name, ""})
			case stronger[classes.of[j]] && strong.window != nil && j < i && !weak.window.within(strong.window):
				later = append(later, other{j, strong.name, ""})
			case evades && !stronger[classes.of[j]]:
				if field != "" && weak.upgrade == strong.upgrade { // else strong is left nobody: see otherDialogue
					beside = append(beside, other{j, strong.name, field})
				}
			}
			if byObserving {
				unheld = append(unheld, other{j, strong.name, ""})
			}
		}
		c.reportWeak(i, around, later, unheld)
		c.reportBeside(i, beside)
	}
}

// compare names the field of strong by which it may refuse a client that weak lets
// in (beyond), and says whether nothing at all is to be said of the two. Then it is
// so of the kin of strong too, as far as it stands on the same side of weak: where it
// is large, that much of it is taken out of the walk.
func (k *kin) compare(s *search, i, j int, weak, strong *rule, stronger bool, v candidates) (field string, silent bool) {
	pair := kinPair{k.of[i], k.of[j], j < i}
	many := k.many[pair.strong]
	if silent = k.silent[pair]; !silent {
		if !stronger && s.compare(len(weak.allow)*len(strong.allow)) {
			field = weak.beyond(strong)
		}
		unheld := i < j && weak.observe && weak.action == Terminate && !strong.observe && strong.strength() > 0
		silent = !s.ended && !stronger && field == "" && !unheld
	}
	if silent && many != nil {
		k.silent[pair] = true
		if j > i {
			v.without(many)
		} else {
			v.withoutBefore(i, many)
		}
	}
	return field, silent
}

// maxAround bounds the rules that are counted for one that is weaker.
const maxAround = 100

func (c *compiler) reportWeak(i int, around, later, unheld []other) {
	weak, path := c.set.rules[i], fmt.Sprintf("rules[%d]", i)
	switch byHello := weak.action == Bypass && weak.needsHello(); {
	case byHello && weak.anywhere():
		c.list.Addf(path, "rule %q bypasses by what the client says alone (%s): whoever says it reaches every destination uninspected; name the destinations in \"to\"", weak.name, weak.helloSelectors())
	case byHello && len(around) > 0:
		c.list.Addf(path, "rule %q bypasses by what the client says (%s), and for the same destination %s more: whoever says it gets around that; let the bypass rest on addresses alone", weak.name, weak.helloSelectors(), demandsOf(namesOf(around)))
	case byHello:
		c.list.Warnf(path, "rule %q bypasses by what the client says (%s): what the client says inside is not seen, so this opens the whole destination; \"to\" alone would say that more clearly", weak.name, weak.helloSelectors())
	case len(around) > 0:
		c.list.WarnAlso(path, placesOf(around), "rule %q asks for less than %s for the same destination, and it is the client that chooses between them by the name or protocol in its hello: %s", weak.name, demandsOf(namesOf(around)), acceptHint(around))
	}
	if len(later) > 0 {
		c.list.Warnf(path, "rule %q asks for less than %s within a time, and outside of it takes what that leaves; put a deny rule between them if that is not meant", weak.name, demandsOf(namesOf(later)))
	}
	if len(unheld) > 0 {
		c.list.Warnf(path, "rule %q is only observed, and it takes flows that %s something: these are held to nothing while it is observed", weak.name, demandsOf(namesOf(unheld)))
	}
}

// reportBeside reports rules that are for other people than those they can stand
// in for.
func (c *compiler) reportBeside(i int, beside []other) {
	r := c.set.rules[i]
	if len(beside) == 0 || r.action == Bypass && r.needsHello() {
		return // of the latter more was said
	}
	c.list.WarnAlso(fmt.Sprintf("rules[%d]", i), placesOf(beside),
		"rule %q lets in clients that %s may refuse (%s), for the same destination, and it is the client that chooses between them by the name or protocol in its hello: who is refused by one comes in by the other and asks for the first one's name inside (Host); %s",
		r.name, rulesOf(namesOf(beside)), fieldsOf(beside), acceptHint(beside))
}

// evades says whether a flow that strong is meant for comes to weak if the
// client changes its hello. It does not where the earlier of the two goes by
// addresses alone, for that one takes all they share. That a client gets around a
// fingerprint is known to whoever writes one: it is not said of each rule behind it.
func (c *compiler) evades(weak, strong int) bool {
	if c.set.rules[strong].ja4 != nil {
		return false
	}
	if a, b := c.set.rules[weak], c.set.rules[strong]; strong < weak && b.action != Deny && a.upgrade != b.upgrade {
		return false // strong has settled how clients must begin: weak is left none of them
	}
	if c.set.rules[min(weak, strong)].needsHello() {
		// A deny behind a rule that lets through is the default written out.
		return strong < weak || c.set.rules[strong].action != Deny || c.set.rules[weak].action == Bypass
	}
	return false
}

// classes puts rules together that demand the same as far as weakerThan sees.
type classes struct {
	of       []int          // by rule
	stronger []map[int]bool // by class: the classes it is weaker than
}

func (c *compiler) classes() *classes {
	out := &classes{of: make([]int, len(c.set.rules))}
	byKey := map[string]int{}
	var first []*rule
	for i, r := range c.set.rules {
		names := map[string]bool{}
		for _, a := range r.authorities {
			names[a.Name] = true
		}
		key := fmt.Sprintf("%d %d %t %q", r.action, r.auth, r.selective(), slices.Sorted(maps.Keys(names)))
		class, ok := byKey[key]
		if !ok {
			class = len(first)
			byKey[key], first = class, append(first, r)
		}
		out.of[i] = class
	}
	for _, weak := range first {
		stronger := map[int]bool{}
		for class, strong := range first {
			if weak.weakerThan(strong) {
				stronger[class] = true
			}
		}
		out.stronger = append(out.stronger, stronger)
	}
	return out
}

// anywhere says whether the rule's destinations are all there are of a family.
func (r *rule) anywhere() bool {
	if r.to.len() > maxCompared {
		return false
	}
	var all []netip.Prefix
	for e := range r.to.all() {
		all = append(all, e.prefix)
	}
	return coveredBy(anyIPv4, all) || coveredBy(anyIPv6, all)
}

func (r *rule) helloSelectors() string {
	var parts []string
	if r.sni != nil {
		parts = append(parts, "sni")
	}
	if r.offered != nil {
		parts = append(parts, "alpn_offered")
	}
	if r.ja4 != nil {
		parts = append(parts, "ja4")
	}
	return strings.Join(parts, ", ")
}

// strength orders what rules demand of everybody: bypass and originate, then the three
// modes of client authentication, then deny.
func (r *rule) strength() int {
	switch r.action {
	case Bypass, Originate:
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

// selective says whether the rule refuses some certificates of its authorities.
func (r *rule) selective() bool { return len(r.allow) > 0 || r.when != nil }

// weakerThan says whether r demands strictly less than o. Two rules for
// different people (other authorities, other allow entries) are not
// comparable: neither is weaker.
func (r *rule) weakerThan(o *rule) bool {
	if r.strength() != o.strength() {
		return r.strength() < o.strength()
	}
	if r.action != Terminate || r.auth == handshake.ClientAuthNone || r.selective() {
		return false
	}
	for _, a := range o.authorities {
		if !slices.ContainsFunc(r.authorities, func(b authority) bool { return a.Name == b.Name }) {
			return false
		}
	}
	return o.selective() || len(r.authorities) > len(o.authorities)
}

// demandsOf names rules that demand something: "rule "a" demands".
func demandsOf(names []string) string {
	if len(names) == 1 {
		return rulesOf(names) + " demands"
	}
	return rulesOf(names) + " demand"
}

// rulesOf names at most maxNamed rules: "rule "a"", "rules "a", "b" and 2 more".
func rulesOf(names []string) string {
	if len(names) == 1 {
		return fmt.Sprintf("rule %q", names[0])
	}
	var b strings.Builder
	b.WriteString("rules ")
	for i, name := range names[:min(maxNamed, len(names))] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", name)
	}
	switch rest := len(names) - maxNamed; {
	case len(names) == maxAround:
		fmt.Fprintf(&b, " and at least %d more", rest)
	case rest > 0:
		fmt.Fprintf(&b, " and %d more", rest)
	}
	return b.String()
}
