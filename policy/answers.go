package policy

import (
	"fmt"
	"slices"
	"strings"
)

// This file finds rules whose alpn does not do what its reader expects: a rule
// that answers no client, and one whose list is taken for a selector.

// unanswered warns, once for the policy, of rules that answer nobody a protocol and
// do not say that this is meant (alpn: []).
func (c *compiler) unanswered() {
	var silent []other
	for i, r := range c.set.rules {
		if c.whole[i].demands && r.silent {
			silent = append(silent, other{index: i, name: r.name})
		}
	}
	if len(silent) == 0 {
		return
	}
	verb := "answers"
	if len(silent) > 1 {
		verb = "answer"
	}
	c.list.WarnAlso(fmt.Sprintf("rules[%d].alpn", silent[0].index), placesOf(silent)[1:],
		"%s %s no client an application protocol (ALPN), so a client that offers nothing but h2 (gRPC) is refused; write alpn: [h2, http/1.1] for what the destination speaks, or alpn: [] if none is meant",
		rulesOf(namesOf(silent)), verb)
}

// takenForSelector warns, once for the policy, of rules whose alpn is written as if
// it selected: what a client offers would lead it to a later rule then. It leads
// nowhere: the earlier rule takes the client and refuses it. A rule with
// alpn_offered is left alone: who wrote it knows which of the two selects.
func (c *compiler) takenForSelector() {
	s := c.search("rules whose alpn is taken for a selector")
	defer s.done()
	var pairs [][2]int
	names, kin := newNameIndex(c.set.rules), c.kin(alpnKey)
	usable := c.those(func(i int, _ *rule) bool { return c.whole[i].selectors && c.whole[i].demands })
	for i, first := range c.set.rules {
		if len(pairs) > maxNamed || s.over() {
			break
		}
		if len(first.alpn) == 0 || first.offered != nil || !c.whole[i].selectors || !c.whole[i].demands {
			continue
		}
		v := c.meeting(first)
		v.only(c.clients(first))
		v.only(usable)
		if first.sni != nil {
			shared := c.none()
			names.sharing(shared, first)
			v.only(shared)
		}
		if many := kin.many[kin.of[i]]; many != nil {
			v.without(many) // they answer the same
		}
		for j := range v.all() {
			if j <= i {
				continue
			}
			if !s.compare(first.pairs(c.set.rules[j]) + first.sni.len() + c.set.rules[j].sni.len()) {
				break
			}
			if first.partedByALPN(c.set.rules[j]) {
				pairs = append(pairs, [2]int{i, j})
				break
			}
		}
	}
	if len(pairs) == 0 {
		return
	}
	var also, more []string
	for k, p := range pairs[:min(maxNamed, len(pairs))] {
		if k > 0 {
			also = append(also, fmt.Sprintf("rules[%d]", p[0]))
			more = append(more, fmt.Sprintf("%q before %q", c.set.rules[p[0]].name, c.set.rules[p[1]].name))
		}
		also = append(also, fmt.Sprintf("rules[%d]", p[1]))
	}
	if len(pairs) > maxNamed {
		more = append(more, "others")
	}
	text := ""
	if len(more) > 0 {
		text = "; so it is with " + strings.Join(more, ", ")
	}
	first, second := c.set.rules[pairs[0][0]], c.set.rules[pairs[0][1]]
	c.list.WarnAlso(fmt.Sprintf("rules[%d].alpn", pairs[0][0]), also, "%s%s", first.partHint(second), text)
}

// partedByALPN says whether o, a later rule, would take clients from r if alpn
// selected: some flow fits both, and o has a protocol that r has not.
func (r *rule) partedByALPN(o *rule) bool {
	switch {
	case r.action != Terminate || len(r.alpn) == 0 || r.offered != nil, o.action != Terminate || o.offered != nil, r.upgrade != o.upgrade:
		return false
	case len(o.alpn) == 0 && !o.silent && o.plan.Client.AnswersNone:
		return false // alpn: [] answers none, on purpose
	}
	if len(o.alpn) > 0 && !slices.ContainsFunc(o.alpn, func(p string) bool { return !slices.Contains(r.alpn, p) }) {
		return false
	}
	return r.window.meets(o.window) && namesMeet(r.sni, o.sni) && r.meets(o)
}

// partHint says what becomes of a client that is meant for o and comes to r.
func (r *rule) partHint(o *rule) string {
	return fmt.Sprintf("rule %q answers nothing but %s and refuses a client that offers others alone: such a client does not come to rule %q behind it, for alpn selects nothing; write alpn_offered: [%s] in rule %q to leave it to %q, or add what else is meant to its alpn",
		r.name, orWords(r.alpn), o.name, strings.Join(r.alpn, ", "), r.name, o.name)
}

// namesMeet says whether some server name fits both lists.
func namesMeet(a, b hosts) bool {
	if a == nil || b == nil {
		return true
	}
	if a.len() > b.len() {
		a, b = b, a
	}
	names := map[string]bool{}   // of b, as they are written
	parents := map[string]bool{} // of its exact names
	for p := range b.all() {
		names[p.String()] = true
		if up, ok := parentOf(p.Name); ok && !p.Wild {
			parents[up] = true
		}
	}
	for p := range a.all() {
		up, _ := parentOf(p.Name)
		if names[p.String()] || !p.Wild && names["*"+up] || p.Wild && parents[p.Name] {
			return true
		}
	}
	return false
}
