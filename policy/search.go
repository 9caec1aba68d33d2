package policy

import (
	"fmt"
	"iter"
	"maps"
	"math/bits"
	"net/netip"
	"slices"
	"strings"
)

// This file is what the searches over pairs of rules have in common. Such a search
// would cost the square of the number of rules; rules that say the same are passed
// over together, and what is left has a budget. A search that ends by it says so.

// maxComparisons bounds one search, in comparisons of two rules with a list or two
// of a few entries each.
const maxComparisons = 2 << 20

// search is one search over pairs of rules.
type search struct {
	c     *compiler
	what  string // that is looked for
	limit int    // the budget
	left  int    // of it
	ended bool   // by the budget
}

func (c *compiler) search(what string) *search {
	return &search{c: c, what: what, limit: c.limit, left: c.limit}
}

// compare takes one comparison from the budget. pairs is how many pairs of list entries it
// looks at. False means that the budget is spent: the search ends.
func (s *search) compare(pairs int) bool {
	cost := 1 + pairs/16
	if s.ended || cost > s.left {
		s.ended = true
		return false
	}
	s.left -= cost
	return true
}

// over says that nothing more is compared.
func (s *search) over() bool { return s.ended || s.c.over() }

// done warns if the search ended early: there may be more than it has found.
func (s *search) done() {
	s.c.compared += s.limit - s.left
	if s.ended {
		s.c.list.Warnf("rules", "the search for %s ended after %d comparisons: the policy is too large, or its lists are; what was found is right, and there may be more", s.what, s.limit-s.left)
	}
}

// pairs is how many pairs of entries a comparison of two rules may look at. It counts only
// the lists that have no bound of their own.
func (r *rule) pairs(o *rule) int {
	return min(r.from.len(), o.from.len()) + min(r.to.len(), o.to.len())
}

// candidates are rule numbers, a bit each, that a search goes through.
type candidates []uint64

func (v candidates) add(i int) { v[i/64] |= 1 << (i % 64) }

// without takes rules out; a walk that is under way does not come to them.
func (v candidates) without(o candidates) {
	for k := range v {
		v[k] &^= o[k]
	}
}

// withoutBefore is without, of the rules before i.
func (v candidates) withoutBefore(i int, o candidates) {
	for k := range i / 64 {
		v[k] &^= o[k]
	}
	v[i/64] &^= o[i/64] & (1<<(i%64) - 1)
}

// only keeps the rules of o.
func (v candidates) only(o candidates) {
	for k := range v {
		v[k] &= o[k]
	}
}

// below keeps those rules before i that are in o too. With behind it keeps all rules from i
// on, without it none of them.
func (v candidates) below(i int, o candidates, behind bool) {
	for k := range v {
		before := uint64(0)
		switch {
		case k < i/64:
			before = ^uint64(0)
		case k == i/64:
			before = 1<<(i%64) - 1
		}
		keep := o[k] & before
		if behind {
			keep |= ^before
		}
		v[k] &= keep
	}
}

// all walks over the rules in their order.
func (v candidates) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for k := range v {
			for w := v[k]; w != 0; w &= v[k] {
				bit := w & -w
				w &^= bit
				if !yield(k*64 + bits.TrailingZeros64(bit)) {
					return
				}
			}
		}
	}
}

// none is an empty set of rules.
func (c *compiler) none() candidates { return make(candidates, (len(c.set.rules)+63)/64) }

// those are the rules of which something is true.
func (c *compiler) those(is func(i int, r *rule) bool) candidates {
	v := c.none()
	for i, r := range c.set.rules {
		if is(i, r) {
			v.add(i)
		}
	}
	return v
}

// meeting are the rules whose destinations may have something in common with those
// of r. The caller may take rules out.
func (c *compiler) meeting(r *rule) candidates {
	x := c.set.index
	if x == nil {
		return c.those(func(int, *rule) bool { return true })
	}
	v := c.none()
	add := func(b *bitmap) {
		for k := range b.size() {
			v[b.place(k)] |= b.words[k]
		}
	}
	seen := map[netip.Prefix]bool{}
	for e := range r.to.all() {
		if seen[e.prefix] {
			continue
		}
		seen[e.prefix] = true
		if above, ok := x.dest.LookupPrefix(e.prefix); ok {
			add(above)
		}
		for _, below := range x.dest.Subnets(e.prefix) {
			add(below)
		}
	}
	return v
}

// maxSources bounds the entries of from that are looked up for a rule.
const maxSources = 1024

// clients are the rules whose sources may have something in common with those of r.
func (c *compiler) clients(r *rule) candidates {
	x := c.set.index
	if x == nil || r.from == nil || r.from.len() > maxSources {
		return c.those(func(int, *rule) bool { return true })
	}
	v := c.none()
	add := func(b *bitmap) {
		for k := range b.size() {
			v[b.place(k)] |= b.words[k]
		}
	}
	add(x.anySource)
	for p := range r.from.all() {
		if above, ok := x.source.LookupPrefix(p); ok {
			add(above)
		}
		for _, below := range x.source.Subnets(p) {
			add(below)
		}
	}
	return v
}

// kin puts rules together that differ in destinations and names alone: what one
// demands and another does not is the same for all of them.
type kin struct {
	of   []int        // by rule
	size []int        // by kin
	many []candidates // by kin: its rules, where they are minMany or more
	// silent are the pairs of kin about which there is no warning, with the order of the two
	// rules. The second kin has at least minMany rules.
	silent map[kinPair]bool
}

type kinPair struct {
	weak, strong int
	before       bool // the strong one is
}

// minMany is how many rules a kin must have to be taken out of a walk at once. Below it,
// walking over the rules is cheaper. It also keeps the number of such kin small.
const minMany = 64

func (c *compiler) kin(key func(*rule) string) *kin {
	k := &kin{of: make([]int, len(c.set.rules)), silent: map[kinPair]bool{}}
	byKey := map[string]int{}
	for i, r := range c.set.rules {
		text := key(r)
		n, ok := byKey[text]
		if !ok {
			n = len(k.size)
			byKey[text] = n
			k.size = append(k.size, 0)
		}
		k.of[i] = n
		k.size[n]++
	}
	k.many = make([]candidates, len(k.size))
	for i, n := range k.of {
		if k.size[n] < minMany {
			continue
		}
		if k.many[n] == nil {
			k.many[n] = c.none()
		}
		k.many[n].add(i)
	}
	return k
}

// demandsKey writes everything that beyond and weakerThan compare.
func demandsKey(r *rule) string {
	names := map[string]bool{}
	for _, a := range r.authorities {
		names[a.Name] = true
	}
	profile, when := "", ""
	if r.plan.Client != nil {
		profile = r.plan.Client.Profile.Name
	}
	if r.when != nil {
		when = r.when.text
	}
	return fmt.Sprintf("%d %d %t %d %d %q %q %q %q %t %q %q", r.action, r.auth, r.observe, r.plan.Source, r.onRevoked,
		profile, r.allowText, when, r.window, r.local, r.from.canonical(), slices.Sorted(maps.Keys(names)))
}

// alpnKey writes everything of ALPN that partedByALPN compares.
func alpnKey(r *rule) string {
	none := r.plan.Client != nil && r.plan.Client.AnswersNone
	return fmt.Sprintf("%d %t %t %t %s", r.action, r.offered != nil, r.silent, none, strings.Join(r.alpn, "\n"))
}

// nameIndex finds the rules that have a server name in common.
type nameIndex struct {
	any   []int
	exact map[string][]int // by name
	below map[string][]int // exact names, by what stands behind the first label
	wild  map[string][]int // patterns, by the same
}

func newNameIndex(rules []*rule) *nameIndex {
	x := &nameIndex{exact: map[string][]int{}, below: map[string][]int{}, wild: map[string][]int{}}
	for i, r := range rules {
		if r.sni == nil {
			x.any = append(x.any, i)
		}
		for p := range r.sni.all() {
			if p.Wild {
				x.wild[p.Name] = append(x.wild[p.Name], i)
				continue
			}
			x.exact[p.Name] = append(x.exact[p.Name], i)
			if up, ok := parentOf(p.Name); ok {
				x.below[up] = append(x.below[up], i)
			}
		}
	}
	return x
}

// sharing adds the rules that some server name of r fits too.
func (x *nameIndex) sharing(v candidates, r *rule) {
	lists := [][]int{x.any}
	for p := range r.sni.all() {
		if p.Wild {
			lists = append(lists, x.wild[p.Name], x.below[p.Name])
			continue
		}
		up, _ := parentOf(p.Name)
		lists = append(lists, x.exact[p.Name], x.wild[up])
	}
	for _, list := range lists {
		for _, i := range list {
			v.add(i)
		}
	}
}
