package e2e

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// An operator sees a live flow, ends it, sees pictures of refused ones, scrapes metrics
// without any client's name in them, and drains the gateway. On the client's side of the
// gateway none of these doors answers.
func TestOperatorSeesAndActs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	const token = "0123456789abcdef0123456789abcdef"
	w.pem("token", []byte(token+"\n"))
	g := w.start(w.config(payRule, `admin: {socket: admin.sock, http: "127.0.0.1:9440", token_file: token}`))

	live, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	if _, err := live.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(live, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	out, err := w.sslgate("flows", "--socket", w.socket(), "--json", "--rule", "pay")
	var flows []struct {
		ID, SNI  string
		Relaying bool
	}
	if err != nil || json.Unmarshal([]byte(out), &flows) != nil || len(flows) != 1 || flows[0].SNI != "pay.example" || !flows[0].Relaying {
		t.Fatalf("flows: %v %s", err, out)
	}

	if out, err = w.sslgate("flows", "end", "--socket", w.socket(), flows[0].ID); err != nil {
		t.Fatalf("end: %v %s", err, out)
	}
	if _, err := live.Read(make([]byte, 1)); err == nil {
		t.Error("the flow goes on")
	}
	w.records(1)
	var one struct{ Picture string }
	if err := json.Unmarshal([]byte(w.get9440(token, "/v1/flows/"+flows[0].ID)), &one); err != nil || !strings.Contains(one.Picture, "ended_by_operator") || !strings.Contains(one.Picture, "ClientHello") {
		t.Errorf("the ended flow: %v\n%s", err, one.Picture)
	}

	traced := make(chan string, 1)
	trace := w.command("trace", "--socket", w.socket(), "--verdict", "refused", "-n", "1")
	go func() {
		out, err := trace.CombinedOutput()
		if err != nil {
			out = append(out, err.Error()...)
		}
		traced <- string(out)
	}()
	seen := ""
	for deadline := testenv.Deadline(); seen == "" && time.Now().Before(deadline); {
		w.knockWithout()
		select {
		case seen = <-traced:
		case <-time.After(200 * time.Millisecond): // it does not listen yet
		}
	}
	for _, want := range []string{"ClientHello", "no_certificate", "certificate_required(116)"} {
		if !strings.Contains(seen, want) {
			t.Errorf("the trace lacks %s:\n%s", want, seen)
		}
	}

	metrics := w.get9440("", "/metrics")
	for _, want := range []string{`sslgate_flows_total{reason="verified",rule="pay",verdict="allowed"} 1`, `sslgate_flow_ends_total{end="ended_by_operator"} 1`, "sslgate_audit_records_lost_total 0\n"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(metrics, lab.ClientAddr(false).String()) {
		t.Error("the metrics name a client")
	}
	if page := w.get9440("", "/"); !strings.Contains(page, "<title>sslgate</title>") {
		t.Errorf("page %q", page)
	}
	if got := w.get9440("", "/v1/status"); !strings.Contains(got, "token") {
		t.Errorf("without a token: %q", got)
	}
	// The gateway's own address as seen from its client has no such door.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if c, err := w.lab.Dial(ctx, lab.Client, "tcp", "10.77.1.1:9440"); err == nil {
		_ = c.Close()
		t.Error("the admin listener answers a client")
	}
	if out, err = w.sslgate("status", "--socket", w.socket()); err != nil || !strings.Contains(out, "running since") || !strings.Contains(out, " 0 dropped as malformed") {
		t.Errorf("status: %v %s", err, out)
	}
	g.stop(syscall.SIGTERM)
	if out, err = w.sslgate("flows", "--socket", w.socket()); err == nil {
		t.Errorf("a gateway that has gone answers: %s", out)
	}
}

// get9440 asks the loopback listener in the gateway's namespace.
func (w *world) get9440(token, path string) string {
	w.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return w.lab.Dial(ctx, lab.Gateway, "tcp", "127.0.0.1:9440")
	}}
	req, err := http.NewRequest(http.MethodGet, "http://127.0.0.1:9440"+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: tr, Timeout: testenv.Patience()}).Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(body)
}

// knockWithout is a client without a certificate, which is refused.
func (w *world) knockWithout() {
	w.t.Helper()
	c, err := w.dialTLS(false, &tls.Config{Certificates: []tls.Certificate{}})
	if err != nil {
		return
	}
	defer c.Close()
	if _, err := c.Read(make([]byte, 1)); err == nil {
		w.t.Error("a client without certificate was let through")
	}
}
