package policy

import (
	"math/bits"
	"slices"
)

// bitmap is a set of rule numbers, as the words of a bit vector. Of one with
// few members only the words that are not zero are kept. It is never changed
// once it is in an index.
type bitmap struct {
	words []uint64
	at    []uint16 // the place of each word; nil if words are all there are
}

// maxIndexed is the number of rules that a place of 16 bits can address.
const maxIndexed = 64 << 16

// word returns word i of the vector.
func (b *bitmap) word(i int) uint64 {
	if b == nil {
		return 0
	}
	if b.at == nil {
		if i < len(b.words) {
			return b.words[i]
		}
		return 0
	}
	j, ok := slices.BinarySearch(b.at, uint16(i))
	if !ok {
		return 0
	}
	return b.words[j]
}

// size is the number of words kept.
func (b *bitmap) size() int {
	if b == nil {
		return 0
	}
	return len(b.words)
}

// place is which word of the vector the k-th kept one is.
func (b *bitmap) place(k int) int {
	if b.at == nil {
		return k
	}
	return int(b.at[k])
}

// newBitmap makes a bitmap of a whole vector. It drops the words that are zero where that
// saves memory.
func newBitmap(vector []uint64) *bitmap {
	n := 0
	for _, w := range vector {
		if w != 0 {
			n++
		}
	}
	if 4*n > len(vector) {
		return &bitmap{words: vector}
	}
	b := &bitmap{words: make([]uint64, 0, n), at: make([]uint16, 0, n)}
	for i, w := range vector {
		if w != 0 {
			b.words, b.at = append(b.words, w), append(b.at, uint16(i))
		}
	}
	return b
}

// bitmaps makes bitmaps for a policy with that many rules. It makes the union of the same two
// only once: most prefixes and names of a policy lead to few different sets of rules.
type bitmaps struct {
	rules  int
	unions map[[2]*bitmap]*bitmap
}

func newBitmaps(rules int) *bitmaps {
	return &bitmaps{rules: rules, unions: map[[2]*bitmap]*bitmap{}}
}

// of is the set of some rules.
func (m *bitmaps) of(rules []int) *bitmap {
	vector := make([]uint64, (m.rules+63)/64)
	for _, r := range rules {
		vector[r/64] |= 1 << (r % 64)
	}
	return newBitmap(vector)
}

func (m *bitmaps) union(a, b *bitmap) *bitmap {
	switch {
	case a == b || b == nil:
		return a
	case a == nil:
		return b
	}
	key := [2]*bitmap{a, b}
	if u, ok := m.unions[key]; ok {
		return u
	}
	vector := make([]uint64, (m.rules+63)/64)
	for i := range vector {
		vector[i] = a.word(i) | b.word(i)
	}
	u := newBitmap(vector)
	m.unions[key] = u
	return u
}

// walker walks over the rules that a flow can fit, in their order. It yields
// some that the flow does not fit, and never leaves out one that it does.
type walker struct {
	all   int        // rules, where there is no index
	dims  [5]*bitmap // a rule must be in all of them
	n     int        // of dims
	least int        // which of dims has the fewest words
	next  int        // word of least to look at next; without an index, the rule
	at    int        // rule number of bit 0 of rest
	rest  uint64     // bits of the current word that are still to come
}

// walkAll walks over every one of n rules.
func walkAll(n int) walker { return walker{all: n} }

// add narrows the walk down before it begins.
func (w *walker) add(d *bitmap) {
	w.dims[w.n] = d
	if d.size() < w.dims[w.least].size() {
		w.least = w.n
	}
	w.n++
}

// step returns the next rule number, -1 at the end.
func (w *walker) step() int {
	if w.n == 0 {
		if w.next >= w.all {
			return -1
		}
		w.next++
		return w.next - 1
	}
	least := w.dims[w.least]
	for w.rest == 0 {
		if w.next >= least.size() {
			return -1
		}
		i := least.place(w.next)
		w.rest = least.words[w.next]
		w.at = i * 64
		w.next++
		for d := 0; d < w.n && w.rest != 0; d++ {
			if d != w.least {
				w.rest &= w.dims[d].word(i)
			}
		}
	}
	bit := bits.TrailingZeros64(w.rest)
	w.rest &= w.rest - 1
	return w.at + bit
}
