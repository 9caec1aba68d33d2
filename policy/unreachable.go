package policy

import "fmt"

// neverMatch reports rules that an earlier one leaves nothing.
func (c *compiler) neverMatch() {
	s := c.search("rules that can never match")
	defer s.done()
	for i, r := range c.set.rules {
		if s.over() {
			return
		}
		if !c.whole[i].selectors {
			continue
		}
		w := c.mayCover(r)
		for j := w.step(); j >= 0 && j < i; j = w.step() {
			before := c.set.rules[j]
			if before.observe && before.action == Deny {
				continue // passed over
			}
			if !s.compare(before.coverCost(r)) {
				return
			}
			if c.whole[j].selectors && before.covers(r) && !c.settled(s, j, i) {
				hint := ""
				if before.partedByALPN(r) {
					hint = "; " + before.partHint(r)
				}
				c.dead[i] = true
				c.list.Addf(fmt.Sprintf("rules[%d]", i), "rule %q can never match: rule %q before it takes everything it would%s", r.name, before.name, hint)
				break
			}
		}
	}
}

// coverCost is the number of pairs of entries that covers may look at.
func (r *rule) coverCost(o *rule) int {
	cost := 0
	for _, n := range [...]int{r.from.len() * max(1, o.from.len()), r.to.len() * o.to.len(), r.sni.len() * o.sni.len(), r.ja4.len() * o.ja4.len()} {
		if n <= maxCompared { // more is not looked at
			cost += n
		}
	}
	return cost
}
