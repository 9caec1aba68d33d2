package delays

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

func environment(pairs ...string) func(string) string {
	set := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		set[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return set[name] }
}

// A seed makes the same places slow again, another seed makes others slow, and without a
// seed none is.
func TestSeedsSelect(t *testing.T) {
	const places = 40_000
	slow := func(pairs ...string) map[uint32]bool {
		c, found := fromEnvironment(environment(pairs...)), map[uint32]bool{}
		for hash := range uint32(places) {
			if c.slow(hash) {
				found[hash] = true
			}
		}
		return found
	}
	first, again, other := slow("SSLGATE_DELAYS", "1"), slow("SSLGATE_DELAYS", "1"), slow("SSLGATE_DELAYS", "2")
	both := 0
	for hash := range first {
		if !again[hash] {
			t.Errorf("%d is not slow again", hash)
		}
		if other[hash] {
			both++
		}
	}
	if n := len(first); n < places/60 || n > places/15 || len(again) != n || both > n/2 {
		t.Errorf("%d places are slow, then %d, and %d of them with another seed", n, len(again), both)
	}
	if none := slow(); len(none) != 0 {
		t.Errorf("%d places are slow without a seed", len(none))
	}
}

// The places of a list are slow, each is noted once, and the first passes are all slow.
func TestListedPlaces(t *testing.T) {
	dir := t.TempDir()
	list, log := filepath.Join(dir, "list"), filepath.Join(dir, "log")
	if err := os.WriteFile(list, []byte("a.go:1\nb.go:2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := fromEnvironment(environment("SSLGATE_DELAYS_ONLY", list, "SSLGATE_DELAYS_LOG", log))
	began := time.Now()
	for range always {
		for hash, site := range []string{"a.go:1", "c.go:3", "b.go:2"} {
			if c.slow(uint32(hash)) {
				c.wait(uint32(1+hash), site)
			}
		}
	}
	if took := time.Since(began); took < 2*always*time.Millisecond {
		t.Errorf("%d delays of at least a millisecond have taken %v", 2*always, took)
	}
	if noted, err := os.ReadFile(log); err != nil || string(noted) != "a.go:1\nb.go:2\n" {
		t.Errorf("noted: %q, %v", noted, err)
	}
}
