package bench

import (
	"slices"
	"testing"
)

// Both ways are measured under names of their own, and none is hidden.
func TestReceive(t *testing.T) {
	for r, want := range map[Receive][]string{
		ReceiveSender: {"plain-conns"}, ReceiveOwn: {"plain-conns@own"}, ReceiveBoth: {"plain-conns", "plain-conns@own"}, "": nil, "rps": nil,
	} {
		ways, err := r.ways()
		var names []string
		for _, w := range ways {
			names = append(names, w.name(test{name: "plain-conns"}))
		}
		if !slices.Equal(names, want) || (err != nil) != (want == nil) {
			t.Errorf("%q: %v, %v", r, names, err)
		}
	}
}
