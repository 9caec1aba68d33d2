package e2e

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// steppable is the whole gateway, built with a package time whose wall clock jumps by the
// number of seconds in the file $CLOCK_STEP while the monotonic clock goes on: the effect of
// settimeofday(2) on a process. Everything else, crypto/tls and crypto/x509 too, is
// unchanged. Nothing outside of the process can do this, because Go reads the clock without
// libc and time namespaces have no wall clock of their own.
var steppable = sync.OnceValues(func() (string, error) {
	path, err := binary() // its directory is removed in the end
	if err != nil {
		return "", err
	}
	dir := filepath.Join(filepath.Dir(path), "steppable")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	// A toolchain that was fetched lies in the module cache, where nothing may be replaced:
	// it is reached by another name.
	goroot := filepath.Join(dir, "go")
	if err := os.Symlink(strings.TrimSpace(string(root)), goroot); err != nil {
		return "", err
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(goroot, "bin", "go"), args...)
		cmd.Env = append(os.Environ(), "GOROOT="+goroot, "GOTOOLCHAIN=local")
		return cmd
	}
	out, err := run("list", "-f", "{{.Dir}}", "time", "github.com/sslgate/sslgate/cmd/sslgate").Output()
	if err != nil {
		return "", err
	}
	dirs := strings.Fields(string(out))
	real, err := os.ReadFile(filepath.Join(dirs[0], "time.go"))
	if err != nil {
		return "", err
	}
	text := string(real)
	for old, now := range map[string]string{
		"sec, nsec, mono := runtimeNow()\n\tif mono == 0": "sec, nsec, mono := runtimeNow()\n\tsec += step.Load()\n\tif mono == 0",
		"\t\"math/bits\"\n": "\t\"math/bits\"\n\t\"sync/atomic\"\n",
	} {
		if strings.Count(text, old) != 1 {
			return "", errors.New("package time is not what the test knows: no " + strconv.Quote(old))
		}
		text = strings.Replace(text, old, now, 1)
	}
	text += "\nvar step atomic.Int64\n\n// StepClock moves the wall clock by so many seconds from the real one.\nfunc StepClock(seconds int64) { step.Store(seconds) }\n"
	const main = `package main

import ("os"; "strconv"; "strings"; "time")

func init() {
	go func() {
		for ; ; time.Sleep(10 * time.Millisecond) {
			b, _ := os.ReadFile(os.Getenv("CLOCK_STEP"))
			if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil {
				time.StepClock(n)
			}
		}
	}()
}
`
	overlay := map[string]map[string]string{"Replace": {}}
	for name, f := range map[string]struct{ at, text string }{"time.go": {dirs[0], text}, "clockstep.go": {dirs[1], main}} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(f.text), 0o600); err != nil {
			return "", err
		}
		overlay["Replace"][filepath.Join(f.at, name)] = file
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o600); err != nil {
		return "", err
	}
	path = filepath.Join(dir, "sslgate")
	if out, err := run("build", "-trimpath", "-overlay", filepath.Join(dir, "overlay.json"), "-o", path, "github.com/sslgate/sslgate/cmd/sslgate").CombinedOutput(); err != nil {
		return "", errors.New(err.Error() + "\n" + string(out))
	}
	return path, nil
})

// step moves the wall clock of the gateways of this world.
func (w *world) step(d time.Duration) {
	w.t.Helper()
	w.pem("step", []byte(strconv.FormatInt(int64(d.Seconds()), 10)))
	time.Sleep(100 * time.Millisecond) // it is looked at every 10 ms
}

// A jump of the wall clock changes what is valid, at once and in both directions, and nothing
// else: live flows, deadlines and idle times follow the monotonic clock.
func TestClockStepped(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	path, err := steppable()
	if err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	// alice is valid for a day more, steady for nine; both from a CA whose list
	// is good for a day and a half.
	steady := w.issue("steady", testpki.Leaf{CN: "steady", NotBefore: time.Now().Add(-5 * day), NotAfter: time.Now().Add(9 * day)})
	w.pay = w.issue("pay", testpki.Leaf{DNS: []string{"pay.example"}, NotBefore: time.Now().Add(-5 * day), NotAfter: time.Now().Add(9 * day)})
	w.pem("staff.crl", testpki.CRLPEM(testpki.Must(w.ca.CRL(1, time.Now().Add(36*time.Hour)))))
	w.config(payRule, "admin: {socket: admin.sock}\n")
	w.rewrite("limits: {handshake: 3s, drain: 3s}", "limits: {handshake: 3s, drain: 3s, idle: 3s}")
	config := w.rewrite("staff: {roots: ca.pem}", "staff: {roots: ca.pem, crl: [staff.crl], revocation: hard}")
	g := &gateway{w: w, cmd: w.lab.Command(lab.Gateway, path, "run", "-c", config), stderr: newLogBuffer()}
	g.cmd.Dir, g.cmd.Env = w.dir, append(os.Environ(), "CLOCK_STEP="+filepath.Join(w.dir, "step"))
	g.cmd.Stdout, g.cmd.Stderr = g.stderr, g.stderr
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer g.stop(syscall.SIGTERM)
	if !g.stderr.wait("ready", g.cmd.Done()) {
		t.Fatal(g.stderr.String())
	}
	begun := 0
	// served makes a connection and says whether it is let through; the reason
	// is that of its record.
	served := func(when, who, want string) {
		t.Helper()
		pair, err := tls.LoadX509KeyPair(filepath.Join(w.dir, who+".pem"), filepath.Join(w.dir, who+".key"))
		if err != nil {
			t.Fatal(err)
		}
		begun++
		c, err := w.dialTLS(false, &tls.Config{Certificates: []tls.Certificate{pair}})
		if err == nil {
			if _, err = c.Write([]byte("x")); err == nil {
				_, err = io.ReadFull(c, make([]byte, 1))
			}
			_ = c.Close()
		}
		if ok := want == "verified"; ok != (err == nil) {
			t.Errorf("%s, %s: %v", when, who, err)
		}
		all := w.records(begun)
		if got := all[len(all)-1].str("reason"); got != want {
			t.Errorf("%s, %s: %s, want %s", when, who, got, want)
		}
	}
	alive := func(when string, c *tls.Conn) {
		t.Helper()
		if _, err := c.Write([]byte("x")); err != nil {
			t.Errorf("%s: a live flow: %v", when, err)
		} else if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("%s: a live flow: %v", when, err)
		}
	}
	ready := func(when, want string) {
		t.Helper()
		out, err := w.sslgate("status", "--socket", w.socket())
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%s: status %v, want %q:\n%s", when, err, want, out)
		}
	}
	served("at the right time", "alice", "verified")
	served("at the right time", "steady", "verified")

	hold := func(cert tls.Certificate) *tls.Conn {
		t.Helper()
		c, err := w.dialTLS(false, &tls.Config{Certificates: []tls.Certificate{cert}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	// An hour forward and back: nothing ends, all goes on.
	live := hold(steady.TLS())
	for _, d := range []time.Duration{time.Hour, -time.Hour, 0} {
		w.step(d)
		alive("stepped by "+d.String(), live)
	}
	// Idle time is that of the monotonic clock, whatever the wall clock did
	// since the last byte.
	w.step(time.Hour)
	began := time.Now()
	alive("an hour ahead", live)
	w.step(0)
	if _, err := live.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an idle flow: %v, want a reset", err)
	}
	if took := time.Since(began); took < 2*time.Second || took > testenv.Patience() {
		t.Errorf("an idle flow ended after %v, the limit is 3s", took)
	}
	begun++
	if r := w.last(begun); r.str("end") != "idle_timeout" {
		t.Errorf("end %s, want idle_timeout", r.str("end"))
	}

	// Two days ahead: alice has expired, and the list has ended.
	pair, err := tls.LoadX509KeyPair(filepath.Join(w.dir, "alice.pem"), filepath.Join(w.dir, "alice.key"))
	if err != nil {
		t.Fatal(err)
	}
	live = hold(pair)
	w.step(2 * day)
	began = time.Now()
	if _, err := live.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the live flow of a certificate that has expired: %v, want a reset", err)
	}
	begun++
	if r := w.last(begun); r.str("end") != "client_certificate_expired" || time.Since(began) > testenv.Scaled(20*time.Second) {
		t.Errorf("end %s after %v, want client_certificate_expired within 5 s", r.str("end"), time.Since(began))
	}
	served("two days ahead", "alice", "certificate_expired")
	served("two days ahead", "steady", "revocation_unknown")
	ready("two days ahead", "expired")

	// A newer list mends it without a restart.
	w.pem("new.crl", testpki.CRLPEM(testpki.Must(w.ca.CRL(2, time.Now().Add(5*day)))))
	if err := os.Rename(filepath.Join(w.dir, "new.crl"), filepath.Join(w.dir, "staff.crl")); err != nil {
		t.Fatal(err)
	}
	if !g.stderr.wait("revocation list taken", g.cmd.Done()) {
		t.Fatalf("the new list was not taken:\n%s", g.stderr.String())
	}
	served("two days ahead, with a new list", "steady", "verified")

	// Two days back: alice is not valid yet.
	w.step(-2 * day)
	served("two days back", "alice", "certificate_not_yet_valid")

	// And right again.
	w.step(0)
	served("right again", "alice", "verified")
	served("right again", "steady", "verified")
}
