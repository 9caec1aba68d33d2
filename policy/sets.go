package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy/pattern"
)

// setMark begins an entry of a list that names a set.
const setMark = "@"

// MaxSetMembers bounds a set: a million short members are about 100 MB with
// their index.
const MaxSetMembers = 1 << 20

// SetSpec is one entry of sets: a list of members, or a file of them.
type SetSpec struct {
	Members []string
	File    string // path as it is written; Environment.Sets has the members
}

// UnmarshalYAML reads a list, or a mapping with the one key "file".
func (s *SetSpec) UnmarshalYAML(unmarshal func(any) error) error {
	*s = SetSpec{}
	if unmarshal(&s.Members) == nil {
		return nil
	}
	var from struct {
		File string `yaml:"file"`
	}
	if err := unmarshal(&from); err != nil {
		return err
	}
	if from.File == "" {
		return errors.New(`a set is a list of members, or {file: FILE}`)
	}
	*s = SetSpec{File: from.File}
	return nil
}

// sets holds the sets of one policy while its rules are compiled. A set is
// compiled once for each kind of list that names it.
type sets struct {
	at      scope
	members map[string][]string
	names   []string       // sorted
	used    map[string]int // by set: how many fields name it
	named   []string       // by the rule that is being compiled
	built   map[setKey]any // *group[T, V]
}

type setKey struct{ set, kind string }

func newSets(list *fielderr.List, spec map[string]SetSpec, env *Environment) *sets {
	s := &sets{at: newScope(list, "sets"), members: map[string][]string{}, used: map[string]int{}, built: map[setKey]any{}}
	for name, set := range spec {
		s.names = append(s.names, name)
		members := set.Members
		if set.File != "" {
			members = env.Sets[name]
		}
		s.members[name] = members
	}
	slices.Sort(s.names)
	for _, name := range s.names {
		path := memberPath(name)
		switch n := len(s.members[name]); {
		case !isSetName(name):
			s.at.errorf(path, `a set's name is made of letters, digits, "-", "_" and "."`)
		case n == 0:
			s.at.errorf(path, "the set is empty: a rule that names it would fit nothing, and one that should deny by it nobody")
		case n > MaxSetMembers:
			s.at.errorf(path, "the set has %d members; at most %d are possible", n, MaxSetMembers)
		}
	}
	return s
}

func isSetName(name string) bool {
	return name != "" && len(name) <= maxRuleName && !strings.ContainsFunc(name, func(r rune) bool {
		return r >= 0x80 || !pattern.IsLetterOrDigit(byte(r)) && r != '-' && r != '_' && r != '.'
	})
}

// memberPath is the path of a set, or of a member, below sets.
func memberPath(name string) string {
	if strings.Contains(name, ".") || !isSetName(name) {
		return fmt.Sprintf("[%q]", name)
	}
	return name
}

// unused warns of sets that no rule names.
func (s *sets) unused() {
	for _, name := range s.names {
		if s.used[name] == 0 {
			s.at.warnf(memberPath(name), "no rule uses this set")
		}
	}
}

// setOf compiles a set as a kind of list; nil, and a finding, where it cannot.
func setOf[T, V any](at scope, field, name string, k *kind[T, V]) *group[T, V] {
	s := at.sets
	if s == nil {
		at.errorf(field, "sets cannot be used here")
		return nil
	}
	members, ok := s.members[name]
	if !ok {
		at.errorf(field, "there is no %q in sets%s", name, fielderr.Suggest(name, s.names))
		return nil
	}
	s.used[name]++
	s.named = append(s.named, name)
	key := setKey{name, k.name}
	if g, done := s.built[key]; done {
		typed, _ := g.(*group[T, V]) // the kind's name stands for its types
		if typed == nil {
			at.broken()
		}
		return typed
	}
	s.built[key] = (*group[T, V])(nil)
	here := newScope(s.at.list, fielderr.Join(s.at.path, memberPath(name)))
	items := make([]T, 0, len(members))
	seen := make(map[string]struct{}, len(members))
	bad, doubted := 0, 0
	for i, m := range members {
		path := fmt.Sprintf("[%d]", i)
		if strings.HasPrefix(m, setMark) {
			here.errorf(path, "%q: a set cannot contain another", clip(m))
			continue
		}
		if _, twice := seen[m]; twice {
			continue // lists that are put together repeat themselves, which harms nothing
		}
		seen[m] = struct{}{}
		values, err := k.parse(m)
		if err != nil {
			if bad++; bad <= maxBadMembers {
				here.errorf(path, "%q: %v (the set is used in %s)", clip(m), err, fielderr.Join(at.path, field))
			}
			continue
		}
		if doubted < maxBadMembers && k.doubts(here, path, m, values) {
			doubted++
		}
		items = append(items, values...)
	}
	if bad > maxBadMembers {
		here.errorf("", "%d members more cannot be read", bad-maxBadMembers)
	}
	if *here.failed || len(items) == 0 {
		at.broken()
		return nil
	}
	g := newGroup(k, name, items)
	s.built[key] = g
	return g
}

// maxBadMembers bounds what is said about one set: a file of the wrong sort has
// as many mistakes as lines.
const maxBadMembers = 20
