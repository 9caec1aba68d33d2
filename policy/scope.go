package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fielderr"
)

// scope is one mapping of the configuration while it is compiled: it notes
// mistakes below its own path, and that there was one.
type scope struct {
	list   *fielderr.List
	path   string
	failed *bool
	sets   *sets                   // nil where lists cannot name sets
	able   *handshake.Capabilities // the engine's
}

func newScope(list *fielderr.List, path string) scope {
	return scope{list: list, path: path, failed: new(bool)}
}

// in is the scope of a field, which fails with its parent.
func (s scope) in(field string) scope {
	s.path = fielderr.Join(s.path, field)
	return s
}

// broken notes that there is a mistake that was said elsewhere.
func (s scope) broken() { *s.failed = true }

func (s scope) errorf(field, format string, args ...any) {
	*s.failed = true
	s.list.Addf(fielderr.Join(s.path, field), format, args...)
}

// errorAt is errorf with the place inside the field's text, in characters.
func (s scope) errorAt(field string, offset int, format string, args ...any) {
	*s.failed = true
	s.list.AddAt(fielderr.Join(s.path, field), offset, format, args...)
}

func (s scope) warnf(field, format string, args ...any) {
	s.list.Warnf(fielderr.Join(s.path, field), format, args...)
}

// oneOf reads a word. The first choice is the default. An unknown word is a
// mistake, and the zero value is returned.
func oneOf[T fmt.Stringer](at scope, field, word string, choices ...T) (value T, ok bool) {
	if word == "" {
		return choices[0], true
	}
	words := make([]string, len(choices))
	for i, c := range choices {
		if words[i] = c.String(); words[i] == word {
			return c, true
		}
	}
	at.errorf(field, "unknown word %q: write %s%s", word, orList(words), fielderr.Suggest(word, words))
	return value, false
}

// lookup finds what a rule refers to by name; kind is the section.
func lookup[T any](at scope, field, kind, name string, in map[string]T) (value T, ok bool) {
	if value, ok = in[name]; ok {
		return value, true
	}
	names := slices.Sorted(maps.Keys(in))
	at.errorf(field, "there is no %q in %s%s", name, kind, fielderr.Suggest(name, names))
	return value, false
}

// parseList compiles a list of the configuration. A list that is there but
// empty is a mistake: left out, it means "any", and whoever wrote it empty may
// have meant "none". A repeated entry is worth a warning. Where every entry is
// wrong the list is not nil, for nil is "any".
func parseList[T, V any](at scope, field string, entries []string, k *kind[T, V]) list[T, V] {
	if entries == nil {
		return nil
	}
	out := list[T, V]{}
	if len(entries) == 0 {
		at.errorf(field, "the list is empty; it needs at least one entry")
		return out
	}
	var items []T
	seen := make(map[string]int, len(entries))
	for i, s := range entries {
		here := fmt.Sprintf("%s[%d]", field, i)
		if name, isSet := strings.CutPrefix(s, setMark); isSet {
			if first, twice := seen[s]; twice {
				at.warnf(here, "%q says the same as entry %d of the list", s, first)
				continue
			}
			seen[s] = i
			if g := setOf(at, here, name, k); g != nil {
				out = append(out, g)
			}
			continue
		}
		values, err := k.parse(s)
		if err != nil {
			at.errorf(here, "%q: %v", s, err)
			continue
		}
		canonical := fmt.Sprint(values)
		if first, twice := seen[canonical]; twice {
			at.warnf(here, "%q says the same as entry %d of the list", s, first)
			continue
		}
		seen[canonical] = i
		k.doubts(at, here, s, values)
		items = append(items, values...)
	}
	if len(items) > 0 {
		out = append(out, newGroup(k, "", items))
	}
	return out
}

// parseItems is parseList for a list that can name no sets and is short.
func parseItems[T any](at scope, field string, entries []string, parse func(string) (T, error)) []T {
	if entries == nil {
		return nil
	}
	if len(entries) == 0 {
		at.errorf(field, "the list is empty; it needs at least one entry")
		return nil
	}
	out := make([]T, 0, len(entries))
	seen := make(map[string]int, len(entries))
	for i, s := range entries {
		here := fmt.Sprintf("%s[%d]", field, i)
		value, err := parse(s)
		if err != nil {
			at.errorf(here, "%q: %v", s, err)
			continue
		}
		canonical := fmt.Sprint(value)
		if first, twice := seen[canonical]; twice {
			at.warnf(here, "%q says the same as entry %d of the list", s, first)
			continue
		}
		seen[canonical] = i
		out = append(out, value)
	}
	return out
}

// one makes the parse function of a kind whose entries are one value each.
func one[T any](parse func(string) (T, error)) func(string) ([]T, error) {
	return func(s string) ([]T, error) {
		v, err := parse(s)
		if err != nil {
			return nil, err
		}
		return []T{v}, nil
	}
}

// orList is "a, b or c".
func orList(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	if n := len(quoted) - 1; n > 0 {
		return strings.Join(quoted[:n], ", ") + " or " + quoted[n]
	}
	return quoted[0]
}
