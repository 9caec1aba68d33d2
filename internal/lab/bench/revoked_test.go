package bench

import (
	"strings"
	"testing"
)

// The rows of the large revocation list: all are there, and none is absurd.
// What they are on a quiet machine is scripts/bench's to say.
func TestMeasureRevoked(t *testing.T) {
	const n = 20_000
	all, err := measureRevoked(t.Context(), t.TempDir(), n)
	if err != nil {
		t.Fatal(err)
	}
	bounds := map[string][2]float64{
		".check":    {10, 1e6},
		".each":     {16, 60}, // 16 octets, and the index of 256 KiB
		".load":     {1e-4, 60},
		".exchange": {1e-4, 60},
		".quiet":    {0.01, 1e6},
		".during":   {0.01, 1e6},
		".longest":  {0.01, 1e6},
	}
	for _, v := range all {
		b, ok := bounds[v.metric]
		if !ok || v.value < b[0] || v.value > b[1] || strings.TrimSpace(v.unit) == "" {
			t.Errorf("%s: %g %s", v.metric, v.value, v.unit)
		}
		delete(bounds, v.metric)
	}
	for name := range bounds {
		t.Errorf("no row %s", name)
	}
	t.Logf("%+v", all)
}
