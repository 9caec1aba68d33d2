package e2e

import (
	"strings"
	"syscall"
	"testing"
)

// Who stops the older process while the newer one is watched stops both, in order: neither
// lives on behind a stopped service, and the next start has its place.
func TestUpgradeOldStops(t *testing.T) {
	t.Parallel()
	for name, hold := range map[string]int{"with flows": 3, "idle": 0} {
		t.Run(name, func(t *testing.T) {
			w, config := upgradeWorld(t)
			g := w.start(config)
			s := w.leak()
			first := w.hold(hold)
			next := w.taking(config)
			if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			next.says("the older process was told to stop")
			first.close()
			next.ends()
			if code := g.ends(); code != 0 {
				t.Errorf("the older process ends with %d", code)
			}
			if strings.Contains(g.stderr.String(), "cannot") || strings.Contains(next.stderr.String(), "without it") {
				t.Errorf("the older process:\n%s\nthe newer:\n%s", g.stderr.String(), next.stderr.String())
			}
			w.knock(41000)
			w.nothingLeaked(s, "both have ended")
			w.start(config)
			w.echo("started again")
		})
	}
}
