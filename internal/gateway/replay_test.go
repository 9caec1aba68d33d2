package gateway_test

import (
	"testing"

	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/replay"
	"github.com/sslgate/sslgate/policy"
)

// Of the record of a real flow, replay says what the shadow has said, or that it does not
// know.
func TestReplayIsTheShadow(t *testing.T) {
	same, different, unknown := 0, 0, 0
	gateway.PairsOfPolicies(t, func(name string, after *policy.Set, shadow map[string]any, line []byte) {
		r := replay.New(after)
		if err := r.Add(line); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, line)
		}
		got := r.Result()
		switch {
		case got.Uncertain == 1:
			unknown++
		case shadow == nil && got.Same == 1:
			same++
		case shadow != nil && got.Different == 1 && got.Groups[0].Kind == shadow["kind"] && (shadow["rule"] == nil && got.Groups[0].NewRule == "" || got.Groups[0].NewRule == shadow["rule"]):
			different++
		default:
			t.Errorf("%s: shadow %v, replay %+v\n%s", name, shadow, got, line)
		}
	})
	t.Logf("%d the same, %d different, %d not known", same, different, unknown)
	if n := same + different + unknown; same == 0 || different == 0 || unknown*3 > n*2 {
		t.Errorf("%d flows: %d the same, %d different, %d not known", n, same, different, unknown)
	}
}
