package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

func traced(id string, code reason.Code) *audit.Record {
	r := audit.NewRecord(id, time.Now(), netip.MustParseAddrPort("192.0.2.7:1000"), netip.MustParseAddrPort("203.0.113.5:443"))
	r.Rule, r.Reason, r.Step, r.Detail = "pay", code, 5, "said \x1b[31m"
	r.Ledger = []handshake.Entry{{Step: 1, From: handshake.SidePeer, Message: "ClientHello", At: time.Millisecond, Size: 300, Facts: "TLS 1.3", Alert: handshake.AlertNone}}
	return r
}

// feed finishes flows until the command has seen enough.
func feed(t *testing.T, hub *admin.Hub) {
	t.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				hub.Finished(traced("1-a", reason.NoCertificate))
				hub.Finished(traced("1-b", reason.OK))
			}
		}
	}()
	t.Cleanup(func() { close(stop); <-done })
}

func TestTraceCommand(t *testing.T) {
	hub := admin.NewHub()
	socket := openDoor(t, &door{}, hub)
	feed(t, hub)
	code, out, errs := called("trace", "--socket", socket, "--verdict", "refused", "-n", "2")
	if code != 0 || errs != "" {
		t.Fatalf("%d %q", code, errs)
	}
	if strings.Count(out, "no_certificate:") != 2 || strings.Contains(out, "1-b") || !strings.Contains(out, "ClientHello 300") || strings.Contains(out, "\x1b") {
		t.Errorf("%s", out)
	}
	for _, l := range strings.Split(out, "\n") {
		if n := len([]rune(l)); n > 80 {
			t.Errorf("%d columns: %q", n, l)
		}
	}
	code, out, _ = called("trace", "--socket", socket, "--json", "--reason", "verified", "--step", "5", "-n", "3")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 3 {
		t.Fatalf("%d %q", code, out)
	}
	for _, l := range lines {
		var r struct{ ID, Verdict string }
		if err := json.Unmarshal([]byte(l), &r); err != nil || r.ID != "1-b" || r.Verdict != "allowed" {
			t.Errorf("%q: %v", l, err)
		}
	}
	if code, _, errs = called("trace", "--socket", socket, "-n", "-1"); code != 2 || errs == "" {
		t.Errorf("-n -1: %d %q", code, errs)
	}
	if code, _, errs = called("trace", "--socket", socket, "--step", "x"); code != 2 || errs == "" {
		t.Errorf("--step x: %d %q", code, errs)
	}
}
