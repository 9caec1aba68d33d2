package soak

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// shakes are how long handshakes of short clients took, from their SYN on.
type shakes struct {
	mu  sync.Mutex
	all []shake
}

type shake struct {
	at   time.Time
	took time.Duration
}

// maxShakes bounds them: 32 bytes each.
const maxShakes = 1 << 20

func (s *shakes) add(at time.Time, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.all) < maxShakes {
		s.all = append(s.all, shake{at, took})
	}
}

// p99 is the 99th percentile outside of the spans and within; what is in leave is left out.
func (s *shakes) p99(spans, leave []span) (quiet time.Duration, quietOf int, during time.Duration, duringOf int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	in := func(all []span, at time.Time) bool {
		return slices.ContainsFunc(all, func(x span) bool { return !at.Before(x.from) && !at.After(x.to) })
	}
	var outside, inside []time.Duration
	for _, x := range s.all {
		switch {
		case in(leave, x.at):
		case in(spans, x.at):
			inside = append(inside, x.took)
		default:
			outside = append(outside, x.took)
		}
	}
	of := func(all []time.Duration) time.Duration {
		if len(all) == 0 {
			return 0
		}
		slices.SortFunc(all, func(a, b time.Duration) int { return cmp.Compare(a, b) })
		return all[len(all)*99/100]
	}
	return of(outside), len(outside), of(inside), len(inside)
}
