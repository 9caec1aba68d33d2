package pki

import (
	"testing"
	"time"
)

// Days are counted beyond what a time.Duration holds, both ways.
func TestDaysLeftFar(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		year, want int
	}{{9999, 2912078}, {2400, 136600}, {2027, 365}, {1950, -27759}, {1, -739616}} {
		if got := *daysLeft(time.Date(c.year, 1, 1, 0, 0, 0, 0, time.UTC), now); got != c.want {
			t.Errorf("%d: %d, want %d", c.year, got, c.want)
		}
	}
}
