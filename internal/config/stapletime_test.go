package config

import (
	"testing"
	"time"
)

// A staple's time may be any that its signer writes; the quarter of it is not
// taken of the 292 years that a Duration has.
func TestStapleOfFarDates(t *testing.T) {
	at := func(y int) time.Time { return time.Date(y, 1, 1, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		this, next, now int
		ending          bool
	}{
		{2025, 9999, 2026, false}, {1, 9999, 2026, false}, {1, 9999, 7498, false}, {1, 9999, 7502, true},
		{1950, 2100, 2026, false}, {1, 2100, 2026, true}, {1, 3000, 2026, false}, {1, 1950, 2026, true},
	} {
		s := Staple{this: at(c.this), next: at(c.next)}
		if got := s.Ending(at(c.now)); got != c.ending {
			t.Errorf("%+v: %v", c, got)
		}
	}
}
