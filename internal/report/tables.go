package report

import (
	"cmp"
	"slices"

	"github.com/sslgate/sslgate/internal/escape"
)

// Bounds of what is remembered, whatever the files hold. What does not fit is counted, and
// the report says that a table is full.
const (
	maxClients      = 1 << 16
	maxCertificates = 1 << 16
	maxNames        = 1 << 10  // of versions, suites, groups and so on, each
	maxJudged       = 1 << 13  // different hellos whose judgement is remembered
	maxJudgedKey    = 4 << 10  // bytes of one of them
	tableBytes      = 64 << 20 // that the table of clients may take; half as much again that of certificates
	entryBytes      = 512      // of it an entry without its texts takes, at most
	textBytes       = 32       // and what a text takes besides itself, in a list that grows
	nameBytes       = 128      // of a name that is counted; longer ones are cut
	listed          = 8        // places, clients and names that one line remembers
)

// bounds are those of an inventory: what its memory does not outgrow, whatever it reads.
type bounds struct{ clients, certificates, judged, bytes int }

// table is a map with a bound on entries and on the bytes of their texts.
type table[K comparable, V any] struct {
	m    map[K]*V
	most int
	room int
	lost int64 // how often something found no place
}

func newTable[K comparable, V any](most, room int) *table[K, V] {
	return &table[K, V]{m: map[K]*V{}, most: most, room: room}
}

// grow adds a text to a list of an entry, where there is room for it.
func (t *table[K, V]) grow(f *few, s string) {
	if cost := len(s) + textBytes; f.add(s, cost <= t.room) {
		t.room -= cost
	}
}

// at is the entry of a key, made where there is none; nil where there is no room. size is
// what the texts of a new entry take, in bytes.
func (t *table[K, V]) at(k K, size int) (v *V, isNew bool) {
	if v := t.m[k]; v != nil {
		return v, false
	}
	if len(t.m) >= t.most || size > t.room {
		t.lost++
		return nil, false
	}
	t.room -= size
	v = new(V)
	t.m[k] = v
	return v, true
}

// Count is a name with how many flows have it.
type Count struct {
	Name  string `json:"name"`
	Flows int64  `json:"flows"`
}

// counts counts names.
type counts struct {
	m    map[string]int64
	rest int64 // of names that found no place
}

func (c *counts) add(name string) {
	if name == "" {
		return
	}
	name = shorter(name)
	if c.m == nil {
		c.m = map[string]int64{}
	}
	if _, known := c.m[name]; !known && len(c.m) >= maxNames {
		c.rest++
		return
	}
	c.m[name]++
}

// list is all of them, the most frequent first. It is never nil.
func (c *counts) list() []Count {
	out := []Count{}
	for name, n := range c.m {
		out = append(out, Count{shown(name), n})
	}
	slices.SortFunc(out, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Name, b.Name))
	})
	if c.rest > 0 {
		out = append(out, Count{"others, for which the table has no room", c.rest})
	}
	return out
}

// few is a short list of different texts. more says that others were seen.
type few struct {
	texts []string
	more  bool
}

// add says whether it has added the text.
func (f *few) add(s string, room bool) bool {
	if s == "" || slices.Contains(f.texts, s) {
		return false
	}
	if len(f.texts) >= listed || !room {
		f.more = true
		return false
	}
	f.texts = append(f.texts, s)
	return true
}

// list is never nil.
func (f *few) list() []string {
	out := []string{}
	for _, s := range f.texts {
		out = append(out, shown(s))
	}
	if f.more {
		out = append(out, "and others")
	}
	return out
}

// shown is a text of a record as a report has it. What a gateway has written is escaped
// already and stays as it is; a file may hold anything.
func shown(s string) string { return escape.Shown(s, maxLine) }
