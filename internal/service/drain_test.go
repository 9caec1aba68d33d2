package service

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func withLimits(limits string) func(*house) {
	return func(h *house) {
		h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "limits: {drain: 2s}", "limits: {"+limits+"}", 1)))
	}
}

// readiness is what GET /v1/ready says.
func (h *house) readiness() (admin.Readiness, int) {
	h.t.Helper()
	var r admin.Readiness
	resp, body := h.ask("GET", "/v1/ready", "", nil)
	if err := json.Unmarshal(body, &r); err != nil {
		h.t.Fatal(err)
	}
	return r, resp.StatusCode
}

// A gateway that is told to drain is not ready at once, and takes new flows for the whole
// delay. A second signal ends it in the middle of that.
func TestShutdownDelay(t *testing.T) {
	h := newHouse(t, withLimits("drain: 1h, shutdown_delay: 10m"))
	before := h.good()
	defer func() { _ = before.Close() }()
	from := time.Now()
	resp, body := h.ask("POST", "/v1/drain", "", nil)
	var d admin.Drain
	if err := json.Unmarshal(body, &d); err != nil || resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", resp.Status, body)
	}
	if left := d.Deadline.Sub(from); left < 70*time.Minute || left > 70*time.Minute+testenv.Patience() {
		t.Errorf("it ends after %v, want the delay and limits.drain", left)
	}
	testenv.Eventually(t, "it is not ready", func() bool { _, code := h.readiness(); return code == http.StatusServiceUnavailable })
	if r, _ := h.readiness(); r.Ready || !strings.Contains(strings.Join(r.Reasons, " "), "draining: new flows are taken for ") ||
		len(r.Causes) != 1 || r.Causes[0].Kind != admin.ReadyStop || !slices.Contains(r.Reasons, r.Causes[0].Text) {
		t.Errorf("it says %+v", r)
	}
	_, metrics := h.ask("GET", "/metrics", "", nil)
	for _, want := range []string{"sslgate_ready 0", "sslgate_draining 1"} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	for range 3 {
		_ = h.good().Close() // fails the test if it is refused
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil { // caught since before it was not ready
		t.Fatal(err)
	}
	testenv.Receive(t, "the second signal ends it, with a live flow", h.ended)
	if !h.asked.Load() {
		t.Error("it does not say that it was asked to")
	}
}

// When the delay is over new flows are refused, and live ones have limits.drain from then on.
func TestShutdownDelayEnds(t *testing.T) {
	h := newHouse(t, withLimits("drain: 1h, shutdown_delay: 500ms"))
	live := h.good()
	go h.stop()
	testenv.Eventually(t, "the delay is over", func() bool {
		r, _ := h.readiness()
		return strings.Contains(strings.Join(r.Reasons, " "), "draining: no new flows are taken")
	})
	if c, err := h.connect("pay.example", true); err == nil {
		_ = c.Close()
		t.Error("a flow began though the delay is over")
	}
	if _, err := live.Write([]byte("hello")); err != nil {
		t.Errorf("the live flow: %v", err)
	}
	_ = live.Close()
	testenv.Receive(t, "it ends with its last flow", h.ended)
}

// A gateway that has as many flows as it may have is not ready, but for who moves addresses: the
// clients would come back at another host.
func TestWhatMovesNothing(t *testing.T) {
	h := newHouse(t, withLimits("drain: 2s, flows: 1"))
	live := h.good()
	defer func() { _ = live.Close() }()
	testenv.Eventually(t, "it is full", func() bool { _, code := h.readiness(); return code == http.StatusServiceUnavailable })
	if r, _ := h.readiness(); len(r.Causes) != 1 || r.Causes[0].Kind != admin.ReadyLoad {
		t.Errorf("it says %+v", r)
	}
	for kinds, want := range map[string]int{"stop,own": http.StatusOK, "load": http.StatusServiceUnavailable, "nonsense": http.StatusBadRequest} {
		if resp, body := h.ask("GET", "/v1/ready?kinds="+kinds, "", nil); resp.StatusCode != want {
			t.Errorf("%s: %s %s", kinds, resp.Status, body)
		}
	}
}
