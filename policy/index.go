package policy

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/policy/pattern"
)

// ruleIndex finds the rules that a flow may fit without looking at each: four
// sets of rules, by source, destination, port and server name, of which a rule
// must be in every one. It only narrows the search down: rule.match decides.
//
// 10,000 rules are 157 words a set at most, so a decision is some hundred
// operations on words, whatever the rules have in common.
type ruleIndex struct {
	source, dest  *bart.Table[*bitmap]
	anySource     *bitmap // rules without from
	port          map[uint16]*bitmap
	anyPort       *bitmap
	exact, parent map[string]*bitmap // by server name; by what stands behind its first label
	anyName       *bitmap            // rules without sni

	// For the reason of a refusal: rules that let through, and of them those
	// that ask for a name, a protocol or a time.
	lets, letsSNI, letsALPN, letsTime *bitmap
}

// minIndexed is the number of rules from which on the index is faster than
// asking each.
const minIndexed = 12

// newRuleIndex returns nil for few rules.
func newRuleIndex(rules []*rule) *ruleIndex {
	if len(rules) < minIndexed || len(rules) > maxIndexed {
		return nil
	}
	m := newBitmaps(len(rules))
	x := &ruleIndex{
		source: new(bart.Table[*bitmap]), dest: new(bart.Table[*bitmap]),
		port: map[uint16]*bitmap{}, exact: map[string]*bitmap{}, parent: map[string]*bitmap{},
	}
	from, to, sni := newHolders[*group[netip.Prefix, netip.Addr]](), newHolders[*group[endpoint, netip.AddrPort]](), newHolders[*group[pattern.Host, pattern.Host]]()
	for i, r := range rules {
		from.add(i, r.from)
		to.add(i, r.to)
		sni.add(i, r.sni)
	}
	x.anySource, x.anyName = m.of(from.without), m.of(sni.without)

	sources := map[netip.Prefix]*bitmap{}
	for g, in := range from.sets(m) {
		for _, p := range g.items {
			sources[p] = m.union(sources[p], in)
		}
	}
	nest(m, x.source, sources, x.anySource)

	dests := map[netip.Prefix]*bitmap{}
	ports := map[uint16]*bitmap{}
	for g, in := range to.sets(m) {
		for _, e := range g.items {
			dests[e.prefix] = m.union(dests[e.prefix], in)
			ports[e.port] = m.union(ports[e.port], in)
		}
	}
	nest(m, x.dest, dests, nil)
	x.anyPort = ports[0]
	for p, in := range ports {
		x.port[p] = m.union(in, x.anyPort)
	}

	exact := map[string]*bitmap{}
	for g, in := range sni.sets(m) {
		for _, p := range g.items {
			if p.Wild {
				x.parent[p.Name] = m.union(x.parent[p.Name], in)
			} else {
				exact[p.Name] = m.union(exact[p.Name], in)
			}
		}
	}
	for name, in := range x.parent {
		x.parent[name] = m.union(in, x.anyName)
	}
	for name, in := range exact {
		up, ok := parentOf(name)
		wild := x.parent[up]
		if !ok || wild == nil {
			wild = x.anyName
		}
		x.exact[name] = m.union(in, wild)
	}
	x.reasons(m, rules)
	return x
}

func (x *ruleIndex) reasons(m *bitmaps, rules []*rule) {
	var lets, bySNI, byALPN, byTime []int
	for i, r := range rules {
		if r.action == Deny {
			continue
		}
		lets = append(lets, i)
		if len(r.sni) > 0 {
			bySNI = append(bySNI, i)
		}
		if len(r.offered) > 0 {
			byALPN = append(byALPN, i)
		}
		if r.window != nil {
			byTime = append(byTime, i)
		}
	}
	x.lets, x.letsSNI, x.letsALPN, x.letsTime = m.of(lets), m.of(bySNI), m.of(byALPN), m.of(byTime)
}

// holders collects which rules hold which group: a set that many rules name is
// gone through once.
type holders[G comparable] struct {
	rules   map[G][]int
	without []int // rules whose list was left out
}

func newHolders[G comparable]() *holders[G] { return &holders[G]{rules: map[G][]int{}} }

func (h *holders[G]) add(rule int, groups []G) {
	if len(groups) == 0 {
		h.without = append(h.without, rule)
	}
	for _, g := range groups {
		h.rules[g] = append(h.rules[g], rule)
	}
}

func (h *holders[G]) sets(m *bitmaps) map[G]*bitmap {
	out := make(map[G]*bitmap, len(h.rules))
	for g, rules := range h.rules {
		out[g] = m.of(rules)
	}
	return out
}

// nest fills a table so that the longest prefix of an address has the rules of
// all the shorter ones too.
func nest(m *bitmaps, t *bart.Table[*bitmap], own map[netip.Prefix]*bitmap, any *bitmap) {
	byLength := slices.SortedFunc(maps.Keys(own), func(a, b netip.Prefix) int { return a.Bits() - b.Bits() })
	for _, p := range byLength {
		above, ok := t.LookupPrefix(p)
		if !ok {
			above = any
		}
		t.Insert(p, m.union(own[p], above))
	}
}

// byAddress begins a walk over the rules that the addresses may fit.
func (x *ruleIndex) byAddress(src, dst netip.AddrPort) walker {
	var w walker
	from, ok := x.source.Lookup(src.Addr())
	if !ok {
		from = x.anySource
	}
	to, _ := x.dest.Lookup(dst.Addr())
	port, ok := x.port[dst.Port()]
	if !ok {
		port = x.anyPort
	}
	w.add(from)
	w.add(to)
	w.add(port)
	return w
}

// byName is the set of the rules that the server name may fit.
func (x *ruleIndex) byName(h *handshake.ClientHello) *bitmap {
	name := sniOf(h)
	if in, ok := x.exact[name]; ok {
		return in
	}
	if up, ok := parentOf(name); ok {
		if in, ok := x.parent[up]; ok {
			return in
		}
	}
	return x.anyName
}
