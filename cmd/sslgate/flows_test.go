package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/sslgate/sslgate/internal/admin"
)

// door is a gateway's admin socket with fixed live flows behind it.
type door struct {
	admin.Backend
	flows   []admin.Flow
	drained bool
	ready   admin.Readiness
	lists   []admin.RevocationList
}

func (d *door) Flows(f admin.Filter, limit int) (out []admin.Flow, all int) {
	for _, flow := range d.flows {
		if !f.Live(&flow) {
			continue
		}
		if all++; limit == 0 || len(out) < limit {
			out = append(out, flow)
		}
	}
	return out, all
}

func (d *door) Flow(id string) (*admin.FlowDetail, bool) {
	for _, f := range d.flows {
		if f.ID == id {
			return &admin.FlowDetail{Flow: &f, Picture: "the picture\n", Ledger: []admin.LedgerEntry{{Step: 1, From: "peer", Message: "ClientHello"}}}, true
		}
	}
	return nil, false
}

func (d *door) EndFlow(id string) error {
	for _, f := range d.flows {
		if f.ID == id {
			return nil
		}
	}
	return os.ErrNotExist
}

func openDoor(t *testing.T, d *door, hub *admin.Hub) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sslgate")
	if err != nil {
		t.Fatal(err)
	}
	s := admin.New(admin.Options{Backend: d, Hub: hub, Metrics: http.NotFoundHandler(), Log: zaptest.NewLogger(t)})
	socket := filepath.Join(dir, "a.sock")
	if err := s.ListenSocket(socket); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = os.RemoveAll(dir)
	})
	return socket
}

func called(args ...string) (int, string, string) {
	var out, errs bytes.Buffer
	code := run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

var someFlows = []admin.Flow{
	{ID: "5f1c22ab-3e", Since: time.Now().Add(-90 * time.Hour), Client: "[2001:db8:1234:5678:9abc:def0:1234:5678]:50000", Destination: "203.0.113.5:443",
		SNI: "a-very-long-name.department.example.org\x1b[31m", Rule: "payments-of-the-north", Step: 9, Relaying: true, BytesUp: 123456789, BytesDown: 5, Action: "terminate", Reason: "verified"},
	{ID: "5f1c22ab-3f", Since: time.Now(), Client: "192.0.2.7:1000", Destination: "203.0.113.5:443", Step: 2, Action: "deny"},
}

func TestFlowsCommand(t *testing.T) {
	socket := openDoor(t, &door{flows: someFlows}, admin.NewHub())
	code, out, errs := called("flows", "--socket", socket)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || errs != "" || len(lines) != 3 {
		t.Fatalf("%d %q %q", code, out, errs)
	}
	for _, want := range []string{"2001:db8:1234:5678:9abc:def0:1234:5678", `a-very-long-name.department.example.org\x1b[31m`, "relay", "118M", "90h"} {
		if !strings.Contains(lines[1], want) {
			t.Errorf("piped, the line lacks %s: %q", want, lines[1])
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("a peer reached the terminal")
	}
	var narrow bytes.Buffer
	if err := printFlows(&narrow, someFlows, true); err != nil {
		t.Fatal(err)
	}
	for _, l := range strings.Split(narrow.String(), "\n") {
		if n := len([]rune(l)); n > 80 {
			t.Errorf("%d columns: %q", n, l)
		}
	}
	code, out, _ = called("flows", "--socket", socket, "--json", "--client", "192.0.2.0/24")
	var got []admin.Flow
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || len(got) != 1 || got[0].ID != "5f1c22ab-3f" {
		t.Errorf("%d %v %q", code, err, out)
	}
	if code, out, _ = called("flows", "--socket", socket, "--json", "--rule", "nobody"); code != 0 || out != "[]\n" {
		t.Errorf("no flow: %d %q", code, out)
	}
	if code, out, _ = called("flows", "--socket", socket, "--rule", "nobody"); code != 0 || out != "no live flow\n" {
		t.Errorf("no flow: %d %q", code, out)
	}
	for _, bad := range [][]string{{"--client", "x"}, {"--reason", "x"}, {"--step", "10"}} {
		if code, _, errs := called(append([]string{"flows", "--socket", socket}, bad...)...); code != 2 || errs == "" {
			t.Errorf("%v: %d %q", bad, code, errs)
		}
	}
	if code, out, errs = called("flows", "end", "--socket", socket, "5f1c22ab-3e", "x\x1b"); code != 1 || out != "ended 5f1c22ab-3e\n" || !strings.Contains(errs, `x\x1b`) || strings.Contains(errs, "x\x1b") {
		t.Errorf("end: %d %q %q", code, out, errs)
	}
	if code, _, errs = called("flows", "--socket", socket+"x"); code != 1 || !strings.Contains(errs, "no gateway answers") {
		t.Errorf("no gateway: %d %q", code, errs)
	}
}

// One flow is drawn, with what a peer sent escaped.
func TestOneFlow(t *testing.T) {
	socket := openDoor(t, &door{flows: someFlows}, admin.NewHub())
	code, out, errs := called("flows", "--socket", socket, "5f1c22ab-3e")
	if code != 0 || errs != "" || strings.Contains(out, "\x1b") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	for _, want := range []string{"the picture\n", `example.org\x1b[31m`, "123456789 bytes up, 5 down", "payments-of-the-north", "verified"} {
		if !strings.Contains(out, want) {
			t.Errorf("it lacks %s:\n%s", want, out)
		}
	}
	if _, out, _ = called("flows", "--socket", socket, "5f1c22ab-3f"); !strings.Contains(out, "step 2 of the handshake") || !strings.Contains(out, "not decided yet") {
		t.Errorf("in its handshake: %s", out)
	}
	code, out, _ = called("flows", "--socket", socket, "--json", "5f1c22ab-3e")
	var d admin.FlowDetail
	if err := json.Unmarshal([]byte(out), &d); code != 0 || err != nil || d.Flow == nil || d.Flow.ID != "5f1c22ab-3e" || len(d.Ledger) != 1 {
		t.Errorf("%d %v %q", code, err, out)
	}
	if code, _, errs = called("flows", "--socket", socket, "x\x1b"); code != 1 || !strings.Contains(errs, `x\x1b`) {
		t.Errorf("unknown: %d %q", code, errs)
	}
	for _, bad := range [][]string{{"5f1c22ab-3e", "5f1c22ab-3f"}, {"5f1c22ab-3e", "--rule", "pay"}, {"5f1c22ab-3e", "--limit", "1"}, {"--limit", "-1"}} {
		if code, _, errs := called(append([]string{"flows", "--socket", socket}, bad...)...); code != 2 || errs == "" {
			t.Errorf("%v: %d %q", bad, code, errs)
		}
	}
}

// More flows than are asked for are counted, and so many that their list is
// larger than any other answer are read all the same.
func TestManyFlows(t *testing.T) {
	d := &door{}
	sans := strings.Split(strings.Repeat("dns:"+strings.Repeat("a", 250)+" ", 100), " ")
	for i := range 1500 {
		d.flows = append(d.flows, admin.Flow{ID: fmt.Sprintf("1-%x", i), Client: "192.0.2.7:1000", SANs: sans})
	}
	socket := openDoor(t, d, admin.NewHub())
	code, out, errs := called("flows", "--socket", socket)
	if n := strings.Count(out, "\n"); code != 0 || n != defaultFlows+1 || !strings.Contains(errs, "the oldest 1000 of 1500 flows") {
		t.Errorf("%d, %d lines, %q", code, n, errs)
	}
	code, out, errs = called("flows", "--socket", socket, "--limit", "0")
	if n := strings.Count(out, "\n"); code != 0 || n != 1501 || errs != "" {
		t.Errorf("all: %d, %d lines, %q", code, n, errs)
	}
	code, out, errs = called("flows", "--socket", socket, "--json", "-n", "2")
	var got []admin.Flow
	if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil || len(got) != 2 || !strings.Contains(errs, "2 of 1500") {
		t.Errorf("%d %v %q", code, err, errs)
	}
}

func TestAgeAndAmount(t *testing.T) {
	for _, d := range []time.Duration{-time.Second, 0, time.Millisecond, 999 * time.Millisecond, 99 * time.Second, 100 * time.Second, 99 * time.Minute, 99 * time.Hour, 9999 * 24 * time.Hour} {
		if s := age(d); len(s) > 5 {
			t.Errorf("%v is %q", d, s)
		}
	}
	for n, want := range map[int64]string{0: "0", 9999: "9999", 10000: "9.77K", 1 << 20: "1.00M", 1 << 40: "1.00T", 1<<63 - 1: "8192P"} {
		if s := amount(n); len(s) > 6 || n < 10000 && s != want {
			t.Errorf("%d is %q, want %q", n, s, want)
		}
	}
}
