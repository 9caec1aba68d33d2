package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// kills is how often TestKilledUnderLoad kills the gateway; scripts/kills sets
// it.
func kills(t *testing.T) int {
	t.Helper()
	s := os.Getenv("SSLGATE_KILLS")
	if s == "" {
		return 5
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("SSLGATE_KILLS=%q is no number of kills", s)
	}
	return n
}

// host is everything in the gateway's namespace that steering sets. What the counters of the
// nft table say is left out: a late packet of a client that has gone counts too.
func (w *world) host() string {
	w.t.Helper()
	counter := regexp.MustCompile(`counter packets \d+ bytes \d+`)
	var all strings.Builder
	for _, line := range []string{"ip rule", "ip -6 rule", "ip route show table 5519", "ip -6 route show table 5519", "nft list table inet sslgate"} {
		words := strings.Fields(line)
		out, err := w.lab.Command(lab.Gateway, words[0], words[1:]...).CombinedOutput()
		if err != nil {
			w.t.Errorf("%s: %v\n%s", line, err, out)
		}
		fmt.Fprintf(&all, "# %s\n%s", line, counter.ReplaceAll(out, []byte("counter")))
	}
	return all.String()
}

// The gateway is killed at random moments under load and started again. No packet of a
// captured flow passes uninspected, and rules, routes and guard are right after each start.
func TestKilledUnderLoad(t *testing.T) {
	testenv.Tool(t, "nft")
	testenv.Tool(t, "ip")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	config := w.config(payRule, "")
	g := w.start(config)
	want := w.host()
	s := w.leak()

	stop := make(chan struct{})
	var load sync.WaitGroup
	defer load.Wait()
	defer close(stop)
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for i := range 4 {
		load.Go(func() { // clients that begin, talk and are cut off
			for running() {
				c, err := w.dialTLS(i%2 == 1, nil)
				if err != nil {
					time.Sleep(5 * time.Millisecond)
					continue
				}
				_ = c.SetDeadline(time.Now().Add(time.Second))
				if _, err := c.Write([]byte("x")); err == nil {
					_, _ = c.Read(make([]byte, 1))
				}
				_ = c.Close()
			}
		})
	}
	load.Go(func() { // SYNs of every shape
		for sport := uint16(41000); running(); sport++ {
			w.knock(sport)
		}
	})

	var took []time.Duration
	for n := range kills(t) {
		time.Sleep(time.Duration(rand.IntN(400)) * time.Millisecond)
		g.stop(syscall.SIGKILL)
		began := time.Now()
		g = w.start(config)
		took = append(took, time.Since(began))
		if got := w.host(); got != want {
			t.Fatalf("after kill %d the host is not as after the first start:\n%s\nbut was:\n%s", n+1, got, want)
		}
		if c := s.Count(); c != 0 {
			t.Fatalf("kill %d: %d packets passed uninspected: %v", n+1, c, s.Packets())
		}
	}
	w.echo("after the last kill")
	slices.Sort(took)
	t.Logf("%d kills; ready again after %v in the middle, %v at most", len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	if most := took[len(took)/2]; most > testenv.Scaled(5*time.Second) {
		t.Errorf("a start takes %v", most)
	}
	w.nothingLeaked(s, "after the kills")
}
