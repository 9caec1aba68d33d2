package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// Whoever starts a gateway where one runs, by accident, takes nothing over, whatever the two
// configurations have in common: neither the admin socket nor the state directory needs to tell
// them apart. The running one does not even have to repair anything. The same goes for
// `sslgate guard` and `sslgate release`.
func TestSecondRunTakesNothing(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	w.config(payRule, "admin: {socket: off}")
	config := w.patient()
	g := w.start(config)
	before := w.host()
	leaks := w.leak()
	flows := w.hold(6)
	tried, stop := w.load()
	for name, change := range map[string][]string{
		"the same":                {"audit.jsonl", "other.jsonl"},
		"another device":          {"audit.jsonl", "other.jsonl", "sslgate0", "other0"},
		"another device and mark": {"audit.jsonl", "other.jsonl", "sslgate0", "other0", "socket: off", "socket: other.sock", "8443]", "8443], mark: 0x40, table: 77, preference: 100"},
	} {
		other := filepath.Join(w.dir, "other.yaml")
		if err := os.WriteFile(other, []byte(strings.NewReplacer(change...).Replace(w.read("sslgate.yaml"))), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := w.sslgate("run", "-c", other)
		if err == nil || !strings.Contains(out, "the gateway is running") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if out, err := w.sslgate("guard", "-c", other); err != nil || !strings.Contains(out, "the guard is set already") {
			t.Errorf("%s: guard: %v\n%s", name, err, out)
		}
		if out, err := w.sslgate("release", "--yes", "-c", other); err == nil || !strings.Contains(out, "the gateway is running") {
			t.Errorf("%s: release: %v\n%s", name, err, out)
		}
		flows.talk(name)
		if now := w.host(); now != before {
			t.Errorf("%s: the host has changed:\n%s", name, difference(before, now))
		}
	}
	stop()
	if all := tried(); failed(all) > 0 || len(all) == 0 {
		t.Errorf("%d of %d new flows failed", failed(all), len(all))
	}
	if n := g.stderr.count("steering repaired"); n > 0 {
		t.Errorf("the running gateway had to repair %d times:\n%s", n, g.stderr.String())
	}
	w.nothingLeaked(leaks, "after second gateways were started")

	// After kill -9 nothing is in the way of the next one.
	testenv.Eventually(t, "the first has ended", func() bool { _ = g.cmd.Process.Kill(); <-g.cmd.Done(); return true })
	w.start(config)
	w.echo("after kill -9")
}
