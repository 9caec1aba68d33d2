package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// replace puts another file in the place of one as an operator should: by rename(2).
func (w *world) replace(name string, data []byte) {
	w.t.Helper()
	if err := os.Rename(w.pem(name+".new", data), filepath.Join(w.dir, name)); err != nil {
		w.t.Fatal(err)
	}
}

// pair is a certificate of this world's directory.
func (w *world) pair(name string) *tls.Config {
	w.t.Helper()
	c, err := tls.LoadX509KeyPair(filepath.Join(w.dir, name+".pem"), filepath.Join(w.dir, name+".key"))
	if err != nil {
		w.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{c}}
}

func roundTrip(c io.ReadWriter) error {
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// A replaced list on disk ends the live flow of a client that it names within five seconds,
// without a reload, and refuses that client from then on with alert 44. Flows of others go
// on. The record, status and reload say which lists decided, and an older list changes
// nothing.
func TestRevocationEndsLiveFlows(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	alice := w.issue("alice", testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})
	w.issue("bob", testpki.Leaf{CN: "bob", DNS: []string{"bob.example"}})
	until := time.Now().Add(time.Hour)
	w.replace("staff.crl", testpki.CRLPEM(testpki.Must(w.ca.CRL(7, until))))
	w.config(payRule, "admin: {socket: admin.sock}")
	w.start(w.rewrite("roots: ca.pem", "roots: ca.pem, crl: [staff.crl], revocation: hard"))
	ofAlice, err := w.dialTLS(false, w.pair("alice"))
	if err != nil {
		t.Fatal(err)
	}
	ofBob, err := w.dialTLS(false, w.pair("bob"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(roundTrip(ofAlice), roundTrip(ofBob)); err != nil {
		t.Fatal(err)
	}
	status := func() (s struct {
		Policy, CRLs string
		Revocation   []struct {
			Authority, State string
			Entries          int
			Revoked          uint64
			Errors           []string
		}
	}) {
		t.Helper()
		out, err := w.sslgate("status", "--json", "--socket", w.socket())
		if err != nil || json.Unmarshal([]byte(out), &s) != nil || len(s.Revocation) != 1 {
			t.Fatalf("status: %v\n%s", err, out)
		}
		return s
	}
	before := status()

	w.replace("staff.crl", testpki.CRLPEM(testpki.Must(w.ca.CRL(8, until, alice.Cert))))
	from := time.Now()
	if _, err := ofAlice.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the flow of the revoked one ended with %v, want a reset", err)
	}
	if d := time.Since(from); d > testenv.Scaled(20*time.Second) {
		t.Errorf("it took %s, five seconds are promised", d)
	} else {
		t.Logf("it ended after %s", d)
	}
	if r := w.last(1); r.str("end") != "client_certificate_revoked" || r.str("crls") != before.CRLs {
		t.Errorf("its record: %v", r)
	}
	out, err := w.curl("--cert", "alice.pem", "--key", "alice.key")
	if err == nil || !strings.Contains(strings.ToLower(out), "revoked") {
		t.Errorf("the revoked one again: %v %q", err, out)
	}
	after := status()
	if r := w.last(2); r.str("reason") != "certificate_revoked" || r.str("alert_sent") != "certificate_revoked(44)" || r.str("crls") != after.CRLs || r.str("policy") != after.Policy {
		t.Errorf("record %v, status %+v", r, after)
	}
	if after.CRLs == before.CRLs || after.Policy != before.Policy || after.Revocation[0].Entries != 1 || after.Revocation[0].Revoked == 0 {
		t.Errorf("status before %+v, after %+v", before, after)
	}
	if err := roundTrip(ofBob); err != nil {
		t.Errorf("the flow of another one: %v", err)
	}

	// An older list, and one that is none: refused and said, by file and by reload.
	w.replace("staff.crl", testpki.CRLPEM(testpki.Must(w.ca.CRL(7, until))))
	testenv.Eventually(t, "an older list is said", func() bool { return len(status().Revocation[0].Errors) > 0 })
	if out, err := w.sslgate("status", "--socket", w.socket()); err != nil || !strings.Contains(out, "staff.crl: ") || !strings.Contains(out, "missing") || !strings.Contains(out, "not ready") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if s := status(); s.CRLs != after.CRLs {
		t.Errorf("an older list is in force: %+v", s)
	}
	w.replace("staff.crl", []byte("not a list"))
	if out, err := w.sslgate("reload", "--socket", w.socket()); err == nil || !strings.Contains(out, "sslgate.yaml:") || !strings.Contains(out, "staff.crl") {
		t.Errorf("reload with a file that is no list: %v\n%s", err, out)
	}
	if s := status(); s.CRLs != after.CRLs {
		t.Errorf("after a refused reload: %+v", s)
	}
	if err := roundTrip(ofBob); err != nil {
		t.Errorf("the flow of another one: %v", err)
	}
	_ = ofBob.Close()
}

// A shadow policy decides every flow too, and changes none: where it differs
// is in the record and counted in status.
func TestShadowPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.issue("bob", testpki.Leaf{CN: "bob", DNS: []string{"bob.example"}})
	w.config(reloadRule("next", "bob.example"), "")
	if err := os.Rename(filepath.Join(w.dir, "sslgate.yaml"), filepath.Join(w.dir, "next.yaml")); err != nil {
		t.Fatal(err)
	}
	w.start(w.config(payRule, "admin: {socket: admin.sock}\nshadow: next.yaml"))
	for i, name := range []string{"alice", "bob", "alice"} {
		c, err := w.dialTLS(false, w.pair(name))
		if err != nil {
			t.Fatal(err)
		}
		if err := roundTrip(c); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		_ = c.Close()
		r := w.last(i + 1)
		shadow, _ := r["shadow"].(map[string]any)
		if r.str("verdict") != "allowed" || r.str("rule") != "pay" {
			t.Errorf("%s: record %v", name, r)
		}
		if name == "alice" && (shadow["kind"] != "shadow_denies" || shadow["reason"] != "identity_not_allowed" || shadow["rule"] != "next") ||
			name == "bob" && shadow["kind"] != "other_rule" {
			t.Errorf("%s: shadow %v", name, shadow)
		}
	}
	out, err := w.sslgate("status", "--socket", w.socket())
	if err != nil || !strings.Contains(out, "3 flows decided by both") || !strings.Contains(out, "shadow_denies in 2 flows: pay (verified), the shadow says next (identity_not_allowed)") {
		t.Errorf("status: %v\n%s", err, out)
	}
}

// `explain --flow` of a real audit log says of every flow what was recorded.
func TestExplainRealFlows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.issue("bob", testpki.Leaf{CN: "bob", DNS: []string{"bob.example"}})
	config := w.config(strings.Replace(reloadRule("pay", "alice.example"), "      identity", "      sni: [pay.example]\n      identity", 1)+
		`    - {name: closed, to: ["*:8443"], action: deny}
`, "")
	w.start(config)
	try := func(name string, cfg *tls.Config) {
		cfg.RootCAs, cfg.ServerName = w.ca.Pool(), name
		c := tls.Client(w.tcp(server(false)), cfg)
		_ = roundTrip(c) // refused or not: the record says which
		_ = c.Close()
	}
	flows := []struct {
		what, cert, reason string
		make               func()
	}{
		{"alice", "alice", "verified", func() { try("pay.example", w.pair("alice")) }},
		{"bob", "bob", "identity_not_allowed", func() { try("pay.example", w.pair("bob")) }},
		{"nobody", "", "no_certificate", func() { try("pay.example", &tls.Config{}) }},
		{"another name", "", "sni_unknown", func() { try("other.example", w.pair("alice")) }},
		{"old TLS 1.2", "alice", "verified", func() {
			c := w.pair("alice")
			c.MaxVersion = tls.VersionTLS12
			try("pay.example", c)
		}},
	}
	for i, f := range flows {
		f.make()
		r := w.last(i + 1)
		if r.str("reason") != f.reason {
			t.Fatalf("%s: %v", f.what, r)
		}
		args := []string{"explain", "-c", config, "--flow", r.str("id"), "--audit", "audit.jsonl"}
		for _, args := range [][]string{args, append(args, "--json")} {
			with := args
			if f.cert != "" {
				with = append(args[:len(args):len(args)], "--cert", f.cert+".pem")
			}
			for _, a := range [][]string{args, with} {
				out, err := w.sslgate(a...)
				if (err == nil) != (f.reason == "verified") || !strings.Contains(out, f.reason) || !strings.Contains(out, r.str("id")) {
					t.Errorf("%s: %v: %v\n%s", f.what, a, err, out)
				}
			}
		}
	}
	if out, err := w.sslgate("explain", "-c", config, "--flow", "nobody-1", "--audit", "audit.jsonl"); err == nil || !strings.Contains(out, `has no flow "nobody-1"`) {
		t.Errorf("%v\n%s", err, out)
	}
}
