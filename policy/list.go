package policy

import (
	"fmt"
	"iter"
	"slices"
)

// list is one list field of a rule, compiled: what is written out in the rule,
// and the sets it names. A nil list is a field that was left out.
type list[T, V any] []*group[T, V]

// group is a run of entries that are looked up together: those written out in
// a rule, or a set, which all rules that name it share.
type group[T, V any] struct {
	set   string // name of the set, "" for entries of the rule itself
	items []T
	kind  *kind[T, V]
	index index[V] // nil for few entries: they are scanned
}

// index finds a value among many entries without looking at each.
type index[V any] interface{ has(V) bool }

// kind is one sort of list: how an entry is read and what fits it.
type kind[T, V any] struct {
	// name tells kinds apart, so that a set is compiled once a kind.
	name string
	// parse reads an entry; "*:443" is two.
	parse func(string) ([]T, error)
	fits  func(T, V) bool
	// build makes the index of many entries; it fits what fits one of them.
	build func([]T) index[V]
	// doubt says why an entry, although it can be read, is hardly what was meant;
	// "" if nothing does. nil: nothing is ever said.
	doubt func(T) string
}

// doubting gives a kind its doubt.
func (k *kind[T, V]) doubting(doubt func(T) string) *kind[T, V] {
	k.doubt = doubt
	return k
}

// doubts warns of an entry that is hardly what was meant, and says whether it did.
func (k *kind[T, V]) doubts(at scope, field, entry string, values []T) bool {
	for _, v := range values {
		if k.doubt == nil {
			return false
		}
		if why := k.doubt(v); why != "" {
			at.warnf(field, "%q: %s", clip(entry), why)
			return true
		}
	}
	return false
}

// maxScanned is the number of entries up to which a scan is as fast as an index.
const maxScanned = 8

func newGroup[T, V any](k *kind[T, V], set string, items []T) *group[T, V] {
	g := &group[T, V]{set: set, items: items, kind: k}
	if len(items) > maxScanned {
		g.index = k.build(items)
	}
	return g
}

func (g *group[T, V]) has(v V) bool {
	if g.index != nil {
		return g.index.has(v)
	}
	for _, item := range g.items {
		if g.kind.fits(item, v) {
			return true
		}
	}
	return false
}

// has says whether a value fits one of the entries. It does not allocate.
func (l list[T, V]) has(v V) bool {
	for _, g := range l {
		if g.has(v) {
			return true
		}
	}
	return false
}

// hasAny says whether one of the values fits one of the entries.
func (l list[T, V]) hasAny(values []V) bool {
	return slices.ContainsFunc(values, l.has)
}

// len is the number of entries, those of sets included.
func (l list[T, V]) len() int {
	n := 0
	for _, g := range l {
		n += len(g.items)
	}
	return n
}

// all walks over the entries, those of sets included.
func (l list[T, V]) all() iter.Seq[T] {
	return func(yield func(T) bool) {
		for _, g := range l {
			for _, item := range g.items {
				if !yield(item) {
					return
				}
			}
		}
	}
}

// canonical writes the list for the digest: its own entries sorted, and sets
// by name, for Set.digest has their members.
func (l list[T, V]) canonical() []string {
	out := []string{}
	for _, g := range l {
		if g.set != "" {
			out = append(out, setMark+g.set)
			continue
		}
		out = append(out, texts(g.items)...)
	}
	slices.Sort(out)
	return out
}

// maxWanted bounds how many entries of a list a person is shown.
const maxWanted = 6

// words writes the list for a person: "a, b, @set (100000 members) or 12 more".
func (l list[T, V]) words() string {
	var out []string
	more := 0
	for _, g := range l {
		if g.set != "" {
			out = append(out, fmt.Sprintf("%s%s (%d members)", setMark, g.set, len(g.items)))
			continue
		}
		for _, item := range g.items {
			if len(out) >= maxWanted {
				more++
				continue
			}
			out = append(out, clip(fmt.Sprint(item)))
		}
	}
	if more > 0 {
		out = append(out, fmt.Sprintf("%d more", more))
	}
	return orWords(out)
}

// orWords is "a, b or c".
func orWords(words []string) string {
	switch n := len(words); n {
	case 0:
		return ""
	case 1:
		return words[0]
	default:
		s := words[0]
		for _, w := range words[1 : n-1] {
			s += ", " + w
		}
		return s + " or " + words[n-1]
	}
}
