package bench

import (
	"strings"
	"testing"
)

func TestNotHeld(t *testing.T) {
	for _, c := range []struct {
		name   string
		kept   []float64
		slower []float64
		failed []float64
		want   string
	}{
		{"held", []float64{0.79, 0.9, 0.99}, []float64{1, 2, 9}, []float64{0, 0, 0}, ""},
		{"too few", []float64{0.79, 0.899, 0.99}, []float64{1}, []float64{0, 0, 0}, "assault-drips.kept is 0.899, want at least 0.9"},
		{"too slow", []float64{1}, []float64{1, 2.1, 9}, []float64{0, 0, 0}, "assault-drips.slower is 2.10, want at most 2"},
		{"one failure in one round", []float64{1}, nil, []float64{0, 0, 1}, "assault-drips.failed is 1.00 in a round, want none"},
		{"both", []float64{0}, nil, []float64{7}, "assault-drips.kept is 0, want at least 0.9|assault-drips.failed is 7.00 in a round, want none"},
		{"nothing to judge", nil, nil, nil, "no row of assault-... was measured, and nothing else is judged"},
	} {
		r := sample() // whose rows are not judged
		r.add("tls-synflood", SSLGate, value{".kept", "of quiet", 0.1})
		for _, v := range c.kept {
			r.add("assault-drips", SSLGate, value{".kept", "of quiet", v})
		}
		for _, v := range c.slower {
			r.add("assault-drips", SSLGate, value{".slower", "of quiet", v})
		}
		for _, v := range c.failed {
			r.add("assault-drips", SSLGate, value{".failed", "connections", v})
		}
		if got := strings.Join(notHeld(r.rows()), "|"); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
