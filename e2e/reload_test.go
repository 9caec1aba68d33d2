package e2e

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// sslgate runs a command in the gateway's namespace.
func (w *world) sslgate(args ...string) (string, error) {
	w.t.Helper()
	out, err := w.command(args...).CombinedOutput()
	return string(out), err
}

func (w *world) socket() string { return filepath.Join(w.dir, "admin.sock") }

// reloadRules are two policies that differ in the rule's name only, and one
// that allows somebody else.
func reloadRule(name, allow string) string {
	return `
    - name: ` + name + `
      to: ["*:443"]
      identity: pay
      client: {certificate: required, authorities: [staff], allow: [{san_dns: [` + allow + `]}]}
      destination: {tls: plain}
`
}

// Reloads under load: 50 connections are held, up to 100 begin each second, as many
// as the machine can serve, and the policy changes all the time. No flow is lost, and
// each was decided by one of the policies, not by a mixture.
func TestReloadUnderLoad(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	more := "admin: {socket: admin.sock}"
	w.start(w.config(reloadRule("rule-0", "alice.example"), more))
	var held []interface {
		io.ReadWriteCloser
	}
	for range 50 {
		c, err := w.dialTLS(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	var begun, lost atomic.Int64
	stop := steadily(func(time.Time) {
		begun.Add(1)
		c, err := w.dialTLS(false, nil)
		if err == nil {
			_, err = c.Write([]byte("x"))
		}
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		if err != nil {
			lost.Add(1)
			t.Errorf("a new flow was lost: %v", err)
			return
		}
		_ = c.Close()
	})
	for i := 1; i <= 10; i++ {
		w.config(reloadRule("rule-"+string(rune('0'+i%10)), "alice.example"), more)
		if out, err := w.sslgate("reload", "--socket", w.socket()); err != nil || !strings.Contains(out, "reloaded: policy") {
			t.Errorf("reload %d: %v\n%s", i, err, out)
		}
		time.Sleep(200 * time.Millisecond)
	}
	stop()
	for i, c := range held {
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("held flow %d was lost: %v", i, err)
		} else if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("held flow %d was lost: %v", i, err)
		}
		_ = c.Close()
	}
	rules := map[string]string{} // policy -> rule
	for _, r := range w.records(50 + int(begun.Load())) {
		if was, ok := rules[r.str("policy")]; ok && was != r.str("rule") {
			t.Errorf("policy %s decided by %s and by %s", r.str("policy"), was, r.str("rule"))
		}
		rules[r.str("policy")] = r.str("rule")
		if r.str("reason") != "verified" {
			t.Errorf("record %v", r)
		}
	}
	if len(rules) < 5 {
		t.Errorf("only the policies %v decided flows", rules)
	}
	t.Logf("%d new flows, %d lost, %d policies", begun.Load(), lost.Load(), len(rules))
}

// A mistake leaves everything as it was, and the caller is told. The same holds for a change
// that only a restart can make. SIGHUP and a changed file reload too.
func TestReloadIsAllOrNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	more := "admin: {socket: admin.sock}\nreload: {watch: true}"
	g := w.start(w.config(reloadRule("first", "alice.example"), more))
	works := func(rule string, n int) {
		t.Helper()
		c, err := w.dialTLS(false, nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		if r := w.last(n); r.str("rule") != rule {
			t.Errorf("rule %s, want %s", r.str("rule"), rule)
		}
	}
	works("first", 1)

	w.config(strings.Replace(reloadRule("second", "alice.example"), "identity: pay", "identity: pya", 1), more)
	out, err := w.sslgate("reload", "--socket", w.socket())
	if err == nil || !strings.Contains(out, "sslgate.yaml:") || !strings.Contains(out, `did you mean "pay"?`) {
		t.Errorf("reload of a mistake: %v\n%s", err, out)
	}
	works("first", 2)

	w.config(reloadRule("second", "alice.example"), more)
	w.rewrite("ports: [443, 8443]", "ports: [443]")
	if out, err := w.sslgate("reload", "--socket", w.socket()); err == nil || !strings.Contains(out, "only a restart can change capture") {
		t.Errorf("reload of other ports: %v\n%s", err, out)
	}
	works("first", 3)

	w.config(reloadRule("third", "alice.example"), more)
	if err := g.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if !g.stderr.wait("reloaded", g.cmd.Done()) {
		t.Fatalf("SIGHUP did not reload:\n%s", g.stderr.String())
	}
	works("third", 4)

	w.config(reloadRule("fourth", "alice.example"), more)
	if !g.stderr.wait("a file of the configuration has changed", g.cmd.Done()) {
		t.Fatalf("a changed file was not seen:\n%s", g.stderr.String())
	}
	testenv.Eventually(t, "it is taken", func() bool { return strings.Count(g.stderr.String(), "\treloaded\t") == 2 }, func() any { return g.stderr.String() })
	works("fourth", 5)

	out, err = w.sslgate("status", "--socket", w.socket())
	if err != nil || !strings.Contains(out, "reloads      2") || !strings.Contains(out, "taken, policy") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if st, err := os.Stat(w.socket()); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("admin socket: %v %v", st, err)
	}
}

// reload.live: reevaluate ends the live flows that are no longer allowed, and
// those alone.
func TestReevaluate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	more := "admin: {socket: admin.sock}\nreload: {live: reevaluate}"
	w.start(w.config(reloadRule("one", "alice.example"), more))
	c, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	roundTrip := func() error {
		if _, err := c.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := roundTrip(); err != nil {
		t.Fatal(err)
	}
	w.config(reloadRule("two", "alice.example, bob.example"), more)
	if out, err := w.sslgate("reload", "--socket", w.socket()); err != nil || !strings.Contains(out, "0 live flows ended") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := roundTrip(); err != nil {
		t.Errorf("a flow that is still allowed ended: %v", err)
	}
	w.config(reloadRule("three", "bob.example"), more)
	if out, err := w.sslgate("reload", "--socket", w.socket()); err != nil || !strings.Contains(out, "1 live flow ended") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := roundTrip(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a flow that is no longer allowed: %v, want a reset", err)
	}
	if r := w.last(1); r.str("end") != "no_longer_allowed" {
		t.Errorf("end %s", r.str("end"))
	}
}
