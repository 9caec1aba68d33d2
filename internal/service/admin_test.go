package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// reply is the head of an answer whose body was read.
type reply struct {
	StatusCode         int
	Status, Kind, Path string
}

func replyOf(r *http.Response) reply {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return reply{r.StatusCode, r.Status, kind, r.Request.URL.Path}
}

// ask sends a request to the loopback listener; change may be nil.
func (h *house) ask(method, path string, body string, change func(*http.Request)) (reply, []byte) {
	h.t.Helper()
	req, err := http.NewRequest(method, h.url+path, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+h.token)
	if change != nil {
		change(req)
	}
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: testenv.Patience()}).Do(req)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return replyOf(resp), out
}

// A live flow is listed, drawn and ended; afterwards it is among the recent
// ones, with the reason.
func TestFlowsLiveAndEnded(t *testing.T) {
	h := newHouse(t)
	ctx := context.Background()
	c := h.good()
	defer c.Close()
	flows, _, err := h.api.Flows(ctx, admin.Filter{Rule: "pay"}, 0)
	// Bytes are counted after they were written on: the echo may be quicker.
	for end := testenv.Deadline(); time.Now().Before(end) && err == nil && len(flows) == 1 && flows[0].BytesUp+flows[0].BytesDown < 10; {
		time.Sleep(5 * time.Millisecond)
		flows, _, err = h.api.Flows(ctx, admin.Filter{Rule: "pay"}, 0)
	}
	if err != nil || len(flows) != 1 {
		t.Fatalf("%v %v", flows, err)
	}
	f := flows[0]
	if !f.Relaying || f.Step != 9 || f.SNI != "pay.example" || f.BytesUp != 5 || f.BytesDown != 5 || f.Action != "terminate" || !strings.Contains(f.Subject, "alice") {
		t.Errorf("flow %+v", f)
	}
	if none, _, err := h.api.Flows(ctx, admin.Filter{Rule: "other"}, 0); err != nil || len(none) != 0 {
		t.Errorf("another rule's flows: %v %v", none, err)
	}
	if two, all, err := h.api.Flows(ctx, admin.Filter{Rule: "pay"}, 1); err != nil || len(two) != 1 || all != 1 {
		t.Errorf("with a limit: %v %d %v", two, all, err)
	}
	d, ok, err := h.api.Flow(ctx, f.ID)
	if err != nil || !ok || d.Flow == nil || !strings.Contains(d.Picture, "ClientHello") || len(d.Ledger) < 5 || d.Ledger[0].Message != "ClientHello" {
		t.Errorf("detail %+v %v %v", d, ok, err)
	}
	if ok, err := h.api.EndFlow(ctx, f.ID); !ok || err != nil {
		t.Fatalf("end: %v %v", ok, err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the flow goes on")
	}
	h.finished(1)
	if ok, err := h.api.EndFlow(ctx, f.ID); ok || err != nil {
		t.Errorf("ending twice: %v %v", ok, err)
	}
	d, ok, err = h.api.Flow(ctx, f.ID)
	if err != nil || !ok || d.Flow != nil {
		t.Fatalf("finished: %+v %v %v", d, ok, err)
	}
	r, err := audit.Parse(d.Record)
	if err != nil || r.End != "ended_by_operator" || r.Verdict != "allowed" || !strings.Contains(d.Picture, "ended_by_operator") {
		t.Errorf("record %+v %v\n%s", r, err, d.Picture)
	}
}

// The trace has every flow that passes the filter, in the order they end, and
// no other.
func TestTrace(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	got := make(chan *audit.Parsed, 10)
	begun := make(chan struct{}, 10)
	done := make(chan error, 1)
	go func() {
		done <- h.api.Trace(ctx, admin.Filter{Verdict: "refused"}, func(l admin.TraceLine) error {
			if l.Record == nil {
				begun <- struct{}{}
				return nil
			}
			r, err := audit.Parse(l.Record)
			got <- r
			return err
		})
	}()
	<-begun
	traced := func(want string) {
		t.Helper()
		select {
		case r := <-got:
			if r.Reason != want || r.Verdict != "refused" || len(r.Ledger) == 0 {
				t.Errorf("traced %+v, want %s", r, want)
			}
		case <-ctx.Done():
			t.Fatal("nothing is traced")
		}
	}
	_ = h.good().Close()
	h.bad()
	traced("no_certificate") // before the next begins: which ends first is open otherwise
	if _, err := h.connect("other.example", true); err == nil {
		t.Fatal("an unknown name was let through")
	}
	traced("sni_unknown")
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("trace ended with %v", err)
	}
}

// What came from whom: the loopback listener answers its own page and those
// who have the token, and nobody else.
func TestGuard(t *testing.T) {
	h := newHouse(t)
	host := strings.TrimPrefix(h.url, "http://")
	set := func(k, v string) func(*http.Request) {
		return func(r *http.Request) {
			if k == "Host" {
				r.Host = v
				return
			}
			r.Header.Set(k, v)
		}
	}
	for _, c := range []struct {
		method, path string
		change       func(*http.Request)
		want         int
	}{
		{"GET", "/v1/status", nil, 200},
		{"GET", "/v1/status", set("Origin", "http://"+host), 200},
		{"GET", "/v1/status", set("Authorization", ""), 401},
		{"GET", "/v1/status", set("Authorization", "Bearer "+h.token+"x"), 401},
		{"GET", "/v1/status", set("Authorization", "Bearer"), 401},
		{"GET", "/v1/status", set("Authorization", "Basic "+h.token), 401},
		{"GET", "//v1/status", set("Authorization", ""), 401}, // after the redirect
		{"GET", "/x/../v1/status", set("Authorization", ""), 401},
		{"GET", "/v1/status", set("Host", "evil.example"), 421},
		{"GET", "/v1/status", set("Host", "evil.example:9440"), 421},
		{"GET", "/", set("Host", "evil.example"), 421},
		{"GET", "/metrics", set("Host", "evil.example"), 421},
		{"GET", "/v1/status", set("Origin", "http://evil.example"), 403},
		{"GET", "/v1/status", set("Origin", "null"), 403},
		{"GET", "/v1/status", set("Origin", "https://"+host), 403},
		{"GET", "/v1/health", set("Sec-Fetch-Site", "cross-site"), 403},
		{"GET", "/v1/health", set("Sec-Fetch-Site", "same-site"), 403}, // another port of localhost
		{"GET", "/v1/health", set("Sec-Fetch-Site", "none"), 200},
		{"GET", "/v1/health", set("Authorization", ""), 200},
		{"GET", "/v1/ready", set("Authorization", ""), 200},
		{"GET", "/metrics", set("Authorization", ""), 200},
		{"GET", "/", set("Authorization", ""), 200},
		{"POST", "/", set("Authorization", ""), 401},
		{"POST", "/v1/reload", set("Authorization", ""), 401},
		{"POST", "/v1/drain", set("Authorization", ""), 401},
		{"PUT", "/v1/log-level", set("Authorization", ""), 401},
		{"POST", "/v1/health", set("Authorization", ""), 401},
		{"GET", "/debug/pprof/", nil, 404}, // on the socket alone
		{"GET", "/debug/pprof/heap", nil, 404},
		{"GET", "/v1/nothing", nil, 404},
		{"DELETE", "/v1/flows/x", nil, 404},
		{"GET", "/v1/flows?client=nobody", nil, 400},
		{"GET", "/v1/flows?reason=nobody", nil, 400},
		{"GET", "/v1/recent?limit=0", nil, 400},
		{"GET", "/v1/trace?step=12", nil, 400},
	} {
		resp, body := h.ask(c.method, c.path, "", c.change)
		if resp.StatusCode != c.want {
			t.Errorf("%s %s: %s, want %d: %s", c.method, c.path, resp.Status, c.want, body)
		}
	}
}

// The token file must be the gateway's own and hold a token.
func TestToken(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		ok         bool
	}{
		{"good", strings.Repeat("a", 16) + "\n", 0o600, true},
		{"group may read", strings.Repeat("a", 16), 0o640, true},
		{"others may read", strings.Repeat("a", 16), 0o644, false},
		{"group may write", strings.Repeat("a", 16), 0o660, false},
		{"short", strings.Repeat("a", 15), 0o600, false},
		{"two words", strings.Repeat("a", 16) + " b", 0o600, false},
		{"empty", "", 0o600, false},
		{"long", strings.Repeat("a", 5000), 0o600, false},
		{"byte order mark", "\ufeff" + strings.Repeat("a", 16) + "\r\n", 0o600, false},
		{"UTF-16", "\xff\xfe" + strings.Repeat("a\x00", 16), 0o600, false},
		{"NUL", strings.Repeat("a", 16) + "\x00", 0o600, false},
		{"no ASCII", strings.Repeat("a", 16) + "é", 0o600, false},
		{"control character", "\x1b[A" + strings.Repeat("a", 16), 0o600, false},
		{"line ends of Windows", strings.Repeat("a", 16) + "\r\n", 0o600, true},
		{"base64", "+/" + strings.Repeat("a", 16) + "==", 0o600, true},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		f, err := (fileset.Disk{}).Read(t.Context(), path, 4<<10, nil)
		if err == nil {
			_, err = admin.ParseToken(path, f.Mode, f.Text)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// Nothing that anyone can ask for holds a secret.
func TestNoSecrets(t *testing.T) {
	h := newHouse(t)
	key, err := os.ReadFile(filepath.Join(h.dir, "srv.key"))
	if err != nil {
		t.Fatal(err)
	}
	line := bytes.Split(key, []byte("\n"))[1]
	for _, path := range []string{"/v1/config", "/v1/policy", "/v1/certificates", "/v1/status", "/v1/board?once=true", "/metrics"} {
		resp, body := h.ask("GET", path, "", nil)
		if resp.StatusCode != http.StatusOK || len(body) < 20 {
			t.Errorf("%s: %s %s", path, resp.Status, body)
		}
		if bytes.Contains(body, line) || bytes.Contains(body, []byte(h.token)) || bytes.Contains(body, []byte("PRIVATE")) {
			t.Errorf("%s holds a secret: %s", path, body)
		}
	}
	_, body := h.ask("GET", "/v1/config", "", nil)
	for _, want := range []string{`"key":"` + filepath.Join(h.dir, "srv.key"), `"drain":"2s"`, `"name":"pay"`, `"token_file"`} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("the configuration lacks %s: %s", want, body)
		}
	}
}

func TestLogLevel(t *testing.T) {
	h := newHouse(t)
	if resp, body := h.ask("PUT", "/v1/log-level", `{"level":"debug"}`, nil); resp.StatusCode != http.StatusOK || h.level.String() != "debug" {
		t.Errorf("%s %s, level %s", resp.Status, body, h.level)
	}
	for _, bad := range []string{`{"level":"panic"}`, `{"level":""}`, `{"lvl":"info"}`, `x`, ``} {
		if resp, _ := h.ask("PUT", "/v1/log-level", bad, nil); resp.StatusCode != http.StatusBadRequest || h.level.String() != "debug" {
			t.Errorf("%q: %s, level %s", bad, resp.Status, h.level)
		}
	}
}

// A reload that is refused stands in readiness and metrics; a drain ends the
// gateway when its last flow has ended.
func TestReloadReadinessDrain(t *testing.T) {
	h := newHouse(t)
	ready := func() (r admin.Readiness, code int) {
		resp, body := h.ask("GET", "/v1/ready", "", nil)
		if err := json.Unmarshal(body, &r); err != nil {
			t.Fatal(err)
		}
		return r, resp.StatusCode
	}
	if r, code := ready(); code != 200 || !r.Ready {
		t.Errorf("at the start: %d %+v", code, r)
	}
	h.put("sslgate.yaml", 0o644, []byte(houseConfig+"nonsense: 1\n"))
	if _, taken, err := h.api.Reload(context.Background()); taken || err != nil {
		t.Errorf("nonsense was taken: %v", err)
	}
	if r, code := ready(); code != 200 || len(r.Reasons) == 0 || !strings.Contains(r.Reasons[0], "reload was refused") {
		t.Errorf("after a refused reload: %d %+v", code, r)
	}
	_, metrics := h.ask("GET", "/metrics", "", nil)
	for _, want := range []string{"sslgate_config_last_reload_successful 0", `sslgate_config_reloads_total{result="refused"} 1`} {
		if !bytes.Contains(metrics, []byte(want)) {
			t.Errorf("metrics lack %s", want)
		}
	}
	c := h.good()
	if resp, body := h.ask("POST", "/v1/drain", "", nil); resp.StatusCode != http.StatusAccepted {
		t.Fatalf("%s %s", resp.Status, body)
	}
	testenv.Eventually(t, "a draining gateway says so", func() bool {
		r, code := ready()
		return code == 503 && strings.Contains(strings.Join(r.Reasons, " "), "draining")
	})
	_ = c.Close()
	select {
	case <-h.ended:
	case <-time.After(testenv.Patience()):
		t.Fatal("the gateway does not stop when it is drained")
	}
	if !h.asked.Load() {
		t.Error("it does not say that it was asked to: it would be started again")
	}
}

// Every metric has the name and form that Prometheus asks for, and counts.
func TestMetrics(t *testing.T) {
	h := newHouse(t)
	_ = h.good().Close()
	h.bad()
	h.finished(2)
	_, body := h.ask("GET", "/metrics", "", nil)
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	for _, want := range []string{
		`sslgate_flows_total{reason="verified",rule="pay",verdict="allowed"} 1`,
		`sslgate_flows_total{reason="no_certificate",rule="pay",verdict="refused"} 1`,
		`sslgate_flow_steps_total{step="9"} 1`,
		`sslgate_tls_alerts_total{alert="certificate_required",direction="sent",leg="client"} 1`,
		`sslgate_upstream_total{result="connected"} 1`,
		`sslgate_flow_bytes_total{direction="up"} 5`,
		`sslgate_flow_ends_total{end="closed"} 1`,
		`sslgate_handshake_step_seconds_count{leg="client",step="1"} 2`,
		`sslgate_flow_setup_seconds_count{action="terminate"} 1`,
		`sslgate_stack_flows_total{result="accepted"} 2`,
		`sslgate_stack_syns_total{answer="passed"} 2`,
		`sslgate_flows_limit 20000`,
		`sslgate_ready 1`,
		`sslgate_queue_capacity{queue="refused_syns"} 1024`,
		`sslgate_build_info{version="test"} 1`,
		`sslgate_audit_records_lost_total 0`,
		`sslgate_certificate_expiry_timestamp_seconds{kind="identity",name="pay"}`,
		`sslgate_handshakes_total{group=`,
		`go_goroutines`, `process_open_fds`,
	} {
		if !bytes.Contains(body, []byte(want)) {
			t.Errorf("lacks %s", want)
		}
	}
	if t.Failed() {
		t.Logf("%s", body)
	}
	if bytes.Contains(body, []byte("192.0.2.1")) || bytes.Contains(body, []byte("alice")) {
		t.Error("the metrics name a client")
	}
}
