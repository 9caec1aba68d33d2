package e2e

import (
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// On SIGTERM and on `sslgate drain` readiness goes first. For limits.shutdown_delay every new
// flow is still served, so routers can lead clients elsewhere. After it new flows are refused,
// and held ones go on.
func TestNotReadyBeforeRefusing(t *testing.T) {
	delay := testenv.Scaled(2 * time.Second)
	for _, how := range []string{"SIGTERM", "sslgate drain"} {
		t.Run(how, func(t *testing.T) {
			w, config := upgradeWorld(t)
			w.patient()
			w.rewrite("drain: 3s", "drain: 1h, shutdown_delay: "+delay.String())
			g := w.start(config)
			flows := w.hold(6)
			if out, err := w.sslgate("status", "--ready", "--socket", w.socket()); err != nil || out != "" {
				t.Errorf("ready: %v\n%s", err, out)
			}
			tried, stop := w.load()
			began := time.Now()
			if how == "SIGTERM" {
				if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			} else if out, err := w.sslgate("drain", "--socket", w.socket()); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			testenv.Eventually(t, "it is not ready", func() bool { return w.asked("/v1/ready") == http.StatusServiceUnavailable })
			unready := time.Now()
			testenv.Eventually(t, "a flow that began since then is served", func() bool {
				return slices.ContainsFunc(tried(), func(a attempt) bool { return a.ok && a.at.After(unready) })
			}, func() any { return g.stderr.String() })
			if out, err := w.sslgate("status", "--ready", "--socket", w.socket()); err == nil || !strings.Contains(out, "not ready: draining") {
				t.Errorf("status --ready of a gateway that drains: %v\n%s", err, out)
			}
			if !g.stderr.wait("\tdraining\t", g.cmd.Done()) {
				t.Fatalf("it never refuses:\n%s", g.stderr.String())
			}
			refusing := time.Now()
			if took := refusing.Sub(began); took < delay {
				t.Errorf("new flows are refused after %v, want %v", took, delay)
			}
			testenv.Eventually(t, "new flows are refused", func() bool {
				all := tried()
				return len(all) > 0 && !all[len(all)-1].ok
			})
			stop()
			inDelay, lost := 0, 0
			for _, a := range tried() {
				if a.at.Before(began.Add(delay / 2)) { // those that began later may have met the end
					if inDelay++; !a.ok {
						lost++
					}
				}
			}
			if lost > 0 || inDelay == 0 {
				t.Errorf("%d of %d new flows failed before the delay was over", lost, inDelay)
			}
			flows.talk("while it drains")
			flows.close()
			testenv.Receive(t, "it ends with its last flow", g.cmd.Done())
		})
	}
}
