package policy

import (
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/sslgate/sslgate/internal/ja4"
	"github.com/sslgate/sslgate/policy/pattern"
)

// This file compares what two rules take: whether one takes all of the other
// (covers), and whether they have anything in common (meets).

// maxCompared bounds the lists that covers looks into, entries of both
// multiplied. Beyond it covers answers no, which claims nothing.
const maxCompared = 1 << 14

// covers says whether every flow that fits o fits r: in each selector by
// itself, what o takes is inside what r takes. It may say no where it is so.
func (r *rule) covers(o *rule) bool {
	return r.sameBeginning(o) && r.window.covers(o.window) && r.coversSources(o) && r.coversDestinations(o) &&
		coversList(r.sni, o.sni, pattern.Host.Covers) && coversALPN(r.offered, o.offered) &&
		coversList(r.ja4, o.ja4, ja4.Pattern.Covers)
}

func (r *rule) coversSources(o *rule) bool {
	if r.local && !o.local {
		return false
	}
	if r.from == nil || sharesAll(r.from, o.from) {
		return true
	}
	if r.from.len()*max(1, o.from.len()) > maxCompared {
		return false
	}
	outer := slices.Collect(r.from.all())
	for _, p := range o.sources() {
		if !coveredBy(p, outer) {
			return false
		}
	}
	return true
}

func (r *rule) coversDestinations(o *rule) bool {
	if sharesAll(r.to, o.to) {
		return true
	}
	if r.to.len()*o.to.len() > maxCompared {
		return false
	}
	for e := range o.to.all() {
		if !coveredBy(e.prefix, r.prefixesFor(e.port)) {
			return false
		}
	}
	return true
}

// sharesAll says whether every group of inner is one of outer too: sets that
// both name need not be gone through.
func sharesAll[T, V any](outer, inner list[T, V]) bool {
	for _, g := range inner {
		if !slices.Contains(outer, g) {
			return false
		}
	}
	return inner != nil
}

// coversList says whether a list takes everything another does; one that was
// left out takes everything.
func coversList[T, V any](outer, inner list[T, V], covers func(T, T) bool) bool {
	switch {
	case outer == nil || inner != nil && sharesAll(outer, inner):
		return true
	case inner == nil || outer.len()*inner.len() > maxCompared:
		return false
	}
	for in := range inner.all() {
		found := false
		for out := range outer.all() {
			if covers(out, in) {
				found = true
				break
			}
		}
		if !found {
			return false
		}
	}
	return true
}

func coversALPN(outer, inner []string) bool {
	if outer == nil {
		return true
	}
	return inner != nil && !slices.ContainsFunc(inner, func(p string) bool { return !slices.Contains(outer, p) })
}

// sources is from, written out.
func (r *rule) sources() []netip.Prefix {
	if r.from == nil {
		return []netip.Prefix{anyIPv4, anyIPv6}
	}
	return slices.Collect(r.from.all())
}

// prefixesFor lists the destinations whose entry takes the port; 0 is all ports.
func (r *rule) prefixesFor(port uint16) []netip.Prefix {
	var out []netip.Prefix
	for e := range r.to.all() {
		if e.port == 0 || e.port == port {
			out = append(out, e.prefix)
		}
	}
	return out
}

// familiesMeet says whether a flow can fit from and to at once.
func (r *rule) familiesMeet() bool {
	for _, is4 := range [...]bool{true, false} {
		if r.takesSource(is4) && r.takesDestination(is4) {
			return true
		}
	}
	return false
}

func (r *rule) takesSource(is4 bool) bool {
	if r.from == nil {
		return true
	}
	for p := range r.from.all() {
		if p.Addr().Is4() == is4 {
			return true
		}
	}
	return false
}

func (r *rule) takesDestination(is4 bool) bool {
	for e := range r.to.all() {
		if e.prefix.Addr().Is4() == is4 {
			return true
		}
	}
	return false
}

// meets says whether some client can reach some destination by both rules, if
// it may choose what its hello says.
func (r *rule) meets(o *rule) bool {
	for _, is4 := range [...]bool{true, false} {
		if r.sourcesMeet(o, is4) && r.destinationsMeet(o, is4) {
			return true
		}
	}
	return false
}

func (r *rule) sourcesMeet(o *rule, is4 bool) bool {
	switch {
	case r.from == nil:
		return o.takesSource(is4)
	case o.from == nil:
		return r.takesSource(is4)
	}
	for _, g := range r.from {
		for _, h := range o.from {
			if prefixesMeet(g, h, is4) {
				return true
			}
		}
	}
	return false
}

// prefixesMeet goes through the shorter of two groups and asks the longer.
func prefixesMeet(g, h *group[netip.Prefix, netip.Addr], is4 bool) bool {
	if len(g.items) > len(h.items) {
		g, h = h, g
	}
	table, _ := h.index.(prefixIndex)
	for _, p := range g.items {
		switch {
		case p.Addr().Is4() != is4:
		case g == h:
			return true
		case table.t != nil:
			if table.t.OverlapsPrefix(p) {
				return true
			}
		case slices.ContainsFunc(h.items, p.Overlaps):
			return true
		}
	}
	return false
}

func (r *rule) destinationsMeet(o *rule, is4 bool) bool {
	for _, g := range r.to {
		for _, h := range o.to {
			if endpointsMeet(g, h, is4) {
				return true
			}
		}
	}
	return false
}

func endpointsMeet(g, h *group[endpoint, netip.AddrPort], is4 bool) bool {
	if len(g.items) > len(h.items) {
		g, h = h, g
	}
	tables, _ := h.index.(endpointIndex)
	for _, e := range g.items {
		switch {
		case e.prefix.Addr().Is4() != is4:
		case g == h:
			return true
		case tables != nil:
			if tables.overlaps(e) {
				return true
			}
		case slices.ContainsFunc(h.items, e.overlaps):
			return true
		}
	}
	return false
}

func (m endpointIndex) overlaps(e endpoint) bool {
	if e.port == 0 {
		for _, t := range m {
			if t.OverlapsPrefix(e.prefix) {
				return true
			}
		}
		return false
	}
	for _, t := range [...]*bart.Lite{m[0], m[e.port]} {
		if t != nil && t.OverlapsPrefix(e.prefix) {
			return true
		}
	}
	return false
}

// mayCover begins a walk over the rules that could cover r. It leaves out rules that do not
// take the first source, the first destination and the first name of r.
func (c *compiler) mayCover(r *rule) walker {
	x := c.set.index
	if x == nil {
		return walkAll(len(c.set.rules))
	}
	var w walker
	// A rule that covers r takes each address of r, the first ones too. A
	// prefix would not do: two halves can cover it that do not have it.
	source, from := netip.IPv4Unspecified(), x.anySource
	for p := range r.from.all() {
		source = p.Addr()
		break
	}
	if in, ok := x.source.Lookup(source); ok {
		from = in
	}
	w.add(from)
	for e := range r.to.all() {
		in, _ := x.dest.Lookup(e.prefix.Addr())
		port, ok := x.port[e.port]
		if !ok {
			port = x.anyPort
		}
		w.add(in)
		w.add(port)
		break
	}
	name := x.anyName
	for p := range r.sni.all() {
		name = x.byPattern(p)
		break
	}
	w.add(name)
	return w
}

// byPattern is the set of the rules that take every name of a pattern.
func (x *ruleIndex) byPattern(p pattern.Host) *bitmap {
	behind := p.Name
	if !p.Wild {
		if in, ok := x.exact[p.Name]; ok {
			return in
		}
		behind, _ = parentOf(p.Name)
	}
	if in, ok := x.parent[behind]; ok {
		return in
	}
	return x.anyName
}
