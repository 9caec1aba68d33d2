package admin

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

const (
	// maxGroups bounds the pairs of rule and reason with refusals that are counted
	// separately; each keeps one record. Later pairs are counted by their reason alone, in
	// one more group for each code of package reason.
	maxGroups = 1024
	// maxWoulds bounds the pairs of rule and reason of observed refusals. Later pairs are
	// counted by their reason alone too.
	maxWoulds = 256
	// exampleEvery is the shortest time between two changes of a group's example, so that
	// a reader can look at it.
	exampleEvery = 2 * time.Second
)

// ruleHits counts what one rule has decided.
type ruleHits struct {
	verdicts [3]atomic.Uint64 // by kind
	would    atomic.Uint64
}

// hit counts for the record's rule. Rule names come from the configuration, so their number is
// bounded by its rules and those that live flows began with.
func (h *Hub) hit(r *audit.Record, kind reason.Kind) {
	v, ok := h.rules.Load(r.Rule)
	if !ok {
		v, _ = h.rules.LoadOrStore(r.Rule, &ruleHits{})
	}
	c := v.(*ruleHits)
	c.verdicts[min(int(kind), len(c.verdicts)-1)].Add(1)
	if r.Would != nil {
		c.would.Add(1)
	}
}

// Keep forgets the hits of all rules but the named ones and the default. Each reload may bring
// new names, and the old ones are not shown again.
func (h *Hub) Keep(names []string) {
	keep := map[string]bool{"": true}
	for _, n := range names {
		keep[n] = true
	}
	h.rules.Range(func(k, _ any) bool {
		if !keep[k.(string)] {
			h.rules.Delete(k)
		}
		return true
	})
}

// Hits counts the flows that a rule decided; "" is the default.
func (h *Hub) Hits(rule string) Hits {
	v, ok := h.rules.Load(rule)
	if !ok {
		return Hits{}
	}
	c := v.(*ruleHits)
	return Hits{
		Refused: c.verdicts[reason.Refused].Load(), Failed: c.verdicts[reason.Failed].Load(),
		Allowed: c.verdicts[reason.Allowed].Load(), Would: c.would.Load(),
	}
}

// Flows is the number of all flows; Would is among the others and not added.
func (h Hits) Flows() uint64 { return h.Allowed + h.Refused + h.Failed }

// groupKey is a rule and its reason to refuse. others stands for every rule without a group of
// its own for this reason.
type groupKey struct {
	rule   string
	others bool
	kind   reason.Kind
	code   reason.Code
}

// group counts the flows with the same rule and reason, and keeps one as an example.
type group struct {
	groupKey
	count   atomic.Uint64
	last    atomic.Int64 // unix milliseconds
	changed atomic.Int64 // of example
	example atomic.Pointer[audit.Record]
}

func (h *Hub) count(key groupKey, r *audit.Record) {
	g := h.group(key)
	g.count.Add(1)
	now := r.Start.Add(r.Duration).UnixMilli()
	g.last.Store(now)
	if old := g.changed.Load(); (old == 0 || now-old >= exampleEvery.Milliseconds()) && g.changed.CompareAndSwap(old, now) {
		g.example.Store(r)
	}
}

func (h *Hub) group(key groupKey) *group {
	if v, ok := h.groups.Load(key); ok {
		return v.(*group)
	}
	if h.groupCount.Load() >= maxGroups {
		key.rule, key.others = "", true
	}
	v, had := h.groups.LoadOrStore(key, &group{groupKey: key})
	if !had && !key.others {
		h.groupCount.Add(1)
	}
	return v.(*group)
}

// wouldKey is the rule and reason of an observed refusal; others as in groupKey.
type wouldKey struct {
	rule   string
	others bool
	code   reason.Code
}

func (h *Hub) countWould(key wouldKey) {
	v, ok := h.woulds.Load(key)
	if !ok {
		if h.wouldCount.Load() >= maxWoulds {
			key.rule, key.others = "", true
		}
		var had bool
		if v, had = h.woulds.LoadOrStore(key, new(atomic.Uint64)); !had && !key.others {
			h.wouldCount.Add(1)
		}
	}
	v.(*atomic.Uint64).Add(1)
}

// Woulds lists observed refusals, the most frequent first.
func (h *Hub) Woulds() []Would {
	all := []Would{}
	h.woulds.Range(func(k, v any) bool {
		key := k.(wouldKey)
		all = append(all, Would{Rule: key.rule, Others: key.others, Reason: string(key.code), Flows: v.(*atomic.Uint64).Load()})
		return true
	})
	slices.SortFunc(all, func(a, b Would) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// MostHit returns the indexes of the limit rules with the most flows, in their original order.
// Of two equal ones it takes the first. limit 0 returns all.
func MostHit(hits []Hits, limit int) []int {
	places := make([]int, len(hits))
	for i := range places {
		places[i] = i
	}
	if limit == 0 || limit >= len(hits) {
		return places
	}
	slices.SortStableFunc(places, func(a, b int) int { return cmp.Compare(hits[b].Flows(), hits[a].Flows()) })
	places = places[:limit]
	slices.Sort(places)
	return places
}
