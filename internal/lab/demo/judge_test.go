package demo

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

var update = flag.Bool("update", false, "write the golden files anew")

// fake is a result as it must be; change makes it something else.
func fake(change func(*Result)) *Result {
	s := Scenario{Name: "expired", Title: "an expired certificate", Want: refused("pay", reason.Expired, SeenAlert, Claimed)}
	r := &Result{
		Scenario: s,
		Record: &audit.Parsed{
			Client: "10.77.1.2:20010", Destination: "10.77.2.10:443", SNI: "pay.demo.test", Rule: "pay", Verdict: "refused",
			Reason: "certificate_expired", AlertWanted: "certificate_expired(45)", AlertSent: "bad_certificate(42)",
			Peer:   &audit.ParsedPeer{Subject: "CN=pay"},
			Ledger: []audit.ParsedEntry{{Step: 1, From: "peer", Message: "ClientHello", AtUs: 100, Size: 500, Facts: "TLS 1.3"}},
		},
		outcome: outcome{
			raw:    json.RawMessage(`{"id":"1"}`),
			from:   netip.MustParseAddrPort("10.77.1.2:20010"),
			to:     netip.MustParseAddrPort("10.77.2.10:443"),
			view:   View{Seen: SeenAlert, Alert: handshake.AlertBadCertificate, Text: "alert bad_certificate(42)", Server: "CN=sslgate"},
			checks: []Check{check("the destination was not dialled", true, "")},
		},
	}
	if change != nil {
		change(r)
	}
	r.judge()
	return r
}

func TestJudge(t *testing.T) {
	if r := fake(nil); !r.OK || len(r.Differences) != 0 {
		t.Fatalf("as it must be, but %q", r.Differences)
	}
	for _, tc := range []struct {
		name   string
		change func(*Result)
		want   string
	}{
		{"verdict", func(r *Result) { r.Record.Verdict = "allowed" }, "verdict: expected refused, seen allowed"},
		{"rule", func(r *Result) { r.Record.Rule = "" }, "rule: expected pay, seen "},
		{"reason", func(r *Result) { r.Record.Reason = "unknown_ca" }, "reason: expected certificate_expired, seen unknown_ca"},
		{"wanted", func(r *Result) { r.Record.AlertWanted = "" }, "alert wanted: expected certificate_expired(45), seen "},
		{"sent", func(r *Result) { r.Record.AlertSent = "" }, "alert sent, against the one the client saw: expected bad_certificate(42), seen "},
		{"proof", func(r *Result) { r.Record.Peer.Proven = true }, "the client's certificate: expected claimed, seen proven"},
		{"no peer", func(r *Result) { r.Record.Peer = nil }, "the client's certificate: expected claimed, seen not shown"},
		{"saw", func(r *Result) { r.view = View{Seen: SeenAnswer} }, "the client saw: expected alert, seen answer"},
		{"check", func(r *Result) { r.checks = []Check{check("nothing passed", false, "%d packets", 3)} }, "nothing passed: no, 3 packets"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := fake(tc.change)
			if r.OK || len(r.Differences) != 1 || r.Differences[0] != tc.want {
				t.Errorf("ok %v, %q; want %q", r.OK, r.Differences, tc.want)
			}
		})
	}
}

func TestReport(t *testing.T) {
	bad := func(r *Result) {
		r.Record.Reason, r.Record.Detail = "unknown_ca", "\x1b[2Jhostile"
		r.view.Text = strings.Repeat("long ", 30)
	}
	odd := func(r *Result) {
		r.Scenario.Want = Want{Saw: SeenRefused, NoRecord: true, Text: "answered, nothing passes"}
		r.Record, r.raw = nil, nil
		r.view = View{Seen: SeenRefused, Alert: handshake.AlertNone, Text: "SYN-ACK"}
	}
	for _, tc := range []struct {
		name   string
		json   bool
		failed int
	}{{"text", false, 1}, {"json", true, 1}} {
		t.Run(tc.name, func(t *testing.T) {
			var out bytes.Buffer
			p := newReporter(&out, tc.json)
			for _, change := range []func(*Result){nil, bad, odd} {
				if err := p.scenario(fake(change)); err != nil {
					t.Fatal(err)
				}
			}
			if err := p.end(1500 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			golden(t, "report."+tc.name, out.String())
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			if last := lines[len(lines)-1]; tc.json && last != `{"scenarios":3,"failed":1}` {
				t.Errorf("last line %s", last)
			}
			for _, l := range lines {
				if tc.json && !json.Valid([]byte(l)) {
					t.Errorf("not JSON: %s", l)
				}
				if !tc.json && len(l) > 80 {
					t.Errorf("%d columns: %s", len(l), l)
				}
				if strings.ContainsRune(l, 0x1b) {
					t.Errorf("an escape sequence reaches the terminal: %q", l)
				}
			}
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got; -update writes it anew):\n%s", path, d)
	}
}
