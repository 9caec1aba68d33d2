package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// held are connections that relay.
type held struct {
	t     *testing.T
	conns []*tls.Conn
}

// hold opens n connections over IPv4 and IPv6 in turn.
func (w *world) hold(n int) *held {
	w.t.Helper()
	h := &held{t: w.t}
	w.t.Cleanup(h.close)
	for i := range n {
		c, err := w.dialTLS(i%2 == 1, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		h.conns = append(h.conns, c)
	}
	h.talk("at once")
	return h
}

func (h *held) close() {
	for _, c := range h.conns {
		_ = c.Close()
	}
}

// talk sends a word through each and counts those that do not echo it.
func (h *held) talk(when string) {
	h.t.Helper()
	lost := 0
	var why error
	for _, c := range h.conns {
		_ = c.SetDeadline(testenv.Deadline())
		_, err := c.Write([]byte("word"))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 4))
		}
		if err != nil {
			lost++
			why = err
		}
	}
	if lost > 0 {
		h.t.Errorf("%s: %d of %d held flows are lost: %v", when, lost, len(h.conns), why)
	}
}

// upgrade runs `sslgate upgrade` and returns what it said, its exit code, and the process that
// took over, 0 if there is none.
func (w *world) upgrade(args ...string) (out string, code int, process int) {
	w.t.Helper()
	// Files and no pipes: the new process has them too, and lives on.
	said := testFile(w.t, w.dir, "upgrade.out")
	logged := testFile(w.t, w.dir, "upgrade.err")
	cmd := w.command(append([]string{"upgrade"}, args...)...)
	cmd.Stdout, cmd.Stderr = said, logged
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	select {
	case <-cmd.Done():
	case <-time.After(2 * testenv.Patience()):
		_ = cmd.Process.Kill()
		<-cmd.Done()
		w.t.Error("sslgate upgrade does not end")
	}
	_, _ = said.Seek(0, io.SeekStart)
	_, _ = logged.Seek(0, io.SeekStart)
	text, _ := io.ReadAll(said)
	more, _ := io.ReadAll(logged)
	out = string(text) + string(more)
	if _, rest, ok := strings.Cut(string(text), "\nprocess "); ok {
		number, _, _ := strings.Cut(rest, " ")
		process, _ = strconv.Atoi(number)
	}
	code = cmd.ProcessState.ExitCode()
	if code == 0 {
		w.t.Cleanup(func() { w.end(process, syscall.SIGTERM) })
	}
	w.t.Cleanup(func() {
		if w.t.Failed() {
			b, _ := os.ReadFile(logged.Name())
			w.t.Logf("sslgate upgrade, and the process that it started, said:\n%s%s", text, b)
		}
	})
	return out, code, process
}

func testFile(t *testing.T, dir, name string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// end ends a process that is no child of the test's.
func (w *world) end(process int, sig syscall.Signal) {
	w.t.Helper()
	if process == 0 || syscall.Kill(process, sig) != nil {
		return
	}
	w.gone(process)
}

func (w *world) gone(process int) {
	w.t.Helper()
	testenv.Eventually(w.t, fmt.Sprintf("process %d has ended", process), func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", process))
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// load begins connections steadily. None of them may fail, however slow the machine is.
func (w *world) load() (soFar func() []attempt, stop func()) {
	w.t.Helper()
	soFar, stop = w.triesWithin(testenv.Patience())
	stop = sync.OnceFunc(stop)
	w.t.Cleanup(stop)
	return soFar, stop
}

// failed counts the attempts that failed.
func failed(all []attempt) int {
	n := 0
	for _, a := range all {
		if !a.ok {
			n++
		}
	}
	return n
}

// Two upgrades in a row under load: to the second slot and back to the first. Every held flow
// lives on in the process that it began in, new ones begin in the new process, sessions are
// resumed there, and each old process ends with its last flow and leaves nothing.
func TestUpgrade(t *testing.T) {
	w, config := upgradeWorld(t)
	w.patient()
	g := w.start(config)
	before := w.host()
	s := w.leak()
	session := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	resumed := func() bool {
		t.Helper()
		c, err := w.dialTLS(false, session)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil { // the ticket comes before it
			t.Fatal(err)
		}
		return c.ConnectionState().DidResume
	}
	if resumed() {
		t.Fatal("the first session is resumed")
	}
	first := w.hold(30)
	tried, stop := w.load()
	out, code, second := w.upgrade("-c", config, "--watch", "1s")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	if !resumed() {
		t.Error("a session of the older process is not resumed at the newer")
	}
	young := w.hold(10)
	first.talk("after the upgrade")
	if out, _ := w.sslgate("doctor", "-c", config); strings.Contains(out, "sslgate0") {
		t.Errorf("doctor looks at the device of the older process:\n%s", out)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "admin.sock.old")); err != nil {
		t.Errorf("the older process has no socket while it drains: %v", err)
	}
	select {
	case <-g.cmd.Done():
		t.Error("the older process has ended before its flows")
	default:
	}
	first.close()
	select {
	case <-g.cmd.Done():
	case <-time.After(testenv.Patience()):
		out, _ := w.sslgate("flows", "--socket", w.socket()+".old")
		t.Fatalf("the older process does not end with its last flow:\n%s", out)
	}
	if code := g.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the older process ends with %d", code)
	}
	young.talk("after the end of the older process")

	out, code, third := w.upgrade("-c", config, "--watch", "1s")
	if code != 0 {
		t.Fatalf("the way back: exit code %d:\n%s", code, out)
	}
	young.talk("after the second upgrade")
	young.close()
	w.gone(second)
	stop()
	if all := tried(); failed(all) > 0 || len(all) < 20 {
		t.Errorf("%d of %d new flows failed", failed(all), len(all))
	}
	testenv.Eventually(t, "the host is as after the first start", func() bool { return w.host() == before }, func() any { return difference(before, w.host()) })
	for _, name := range []string{"admin.sock.old", "admin.sock.new"} {
		if _, err := os.Stat(filepath.Join(w.dir, name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	w.nothingLeaked(s, "after two upgrades")
	w.end(third, syscall.SIGTERM)

	ids := map[string]bool{}
	for _, r := range w.records(1) {
		if id := r.str("id"); ids[id] {
			t.Errorf("two records have the id %s", id)
		} else {
			ids[id] = true
		}
	}
	w.nothingLeaked(s, "after the stop")
}

// The new process is killed when it stays already, while the older one drains. The older one
// takes everything back, until the next start takes over from it, though it was not told to.
// Then the older one is killed: its flows are reset at their next packet, and no other.
func TestUpgradeCrash(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	g := w.start(config)
	before := w.host()
	s := w.leak()
	first := w.hold(10)
	out, code, second := w.upgrade("-c", config, "--watch", "0s")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	dead := w.hold(4)
	w.end(second, syscall.SIGKILL)
	w.knock(42000)
	w.nothingLeaked(s, "the new process is dead")
	g.says("this one takes new flows again")
	first.talk("the new process is dead")
	testenv.Eventually(t, "the old process is ready", func() bool { return w.asked("/v1/ready") == http.StatusOK })
	w.echo("the new process is dead")
	next := w.start(config)
	next.says("new flows begin here")
	first.talk("a process has started beside the old one")
	dead.reset("of the dead process")
	young := w.hold(10)
	g.stop(syscall.SIGKILL)
	young.talk("the old process is dead")
	first.reset("of the old process")
	next.stop(syscall.SIGTERM)
	last := w.start(config)
	defer last.stop(syscall.SIGTERM)
	testenv.Eventually(t, "the host is as after the first start", func() bool { return w.host() == before }, func() any { return difference(before, w.host()) })
	w.nothingLeaked(s, "at the end")
}

// reset sends a word through each, which must end it.
func (h *held) reset(what string) {
	h.t.Helper()
	for _, c := range h.conns {
		_ = c.SetDeadline(testenv.Deadline())
		_, err := c.Write([]byte("word"))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 4))
		}
		if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
			h.t.Errorf("a flow %s: %v, want a reset", what, err)
		}
	}
}

// What fails before the new process has taken over changes nothing.
func TestUpgradeRefused(t *testing.T) {
	w, config := upgradeWorld(t)
	w.patient()
	g := w.start(config)
	before := w.host()
	good := w.read("sslgate.yaml")
	flows := w.hold(10)
	tried, stop := w.load()
	broken := func(name, old, replacement string) string {
		t.Helper()
		if !strings.Contains(good, old) {
			t.Fatalf("no %q in\n%s", old, good)
		}
		return w.pem(name, []byte(strings.Replace(good, old, replacement, 1)))
	}
	for want, args := range map[string][]string{
		"exit status 1":              {"-c", config, "--binary", "/bin/false"},
		"no such file":               {"-c", config, "--binary", "/nowhere/sslgate"},
		"did you mean":               {"-c", broken("typo.yaml", "destination:", "destinatoin:")},
		"8443 is not in capture":     {"-c", broken("ports.yaml", "ports: [443, 8443]", "ports: [443]")},
		"capture.mask, capture.pref": {"-c", broken("mask.yaml", "ports: [443, 8443]", "ports: [443, 8443], preference: 77")},
		"no gateway answers":         {"-c", broken("socket.yaml", "admin.sock", "another.sock")},
		"capture.mark, capture.tab":  {"-c", broken("mark.yaml", "ports: [443, 8443]", "ports: [443, 8443], mark: 0x20")},
		"are 0x10 and 7777":          {"-c", broken("table.yaml", "ports: [443, 8443]", "ports: [443, 8443], table: 7777")},
		"upgrade.ct_mask are shared": {"-c", broken("ctmask.yaml", "version: 1", "version: 1\nupgrade: {ct_mask: 0x300}")},
		"neither tun.name nor":       {"-c", broken("tun.yaml", "sslgate0", "other0")},
		"no mark left":               {"-c", broken("marks.yaml", "ports: [443, 8443]", "ports: [443, 8443], mask: 0x30, mark: 0x30}\ndial: {mark: 0x10")},
	} {
		out, code, _ := w.upgrade(args...)
		if code != 1 || !strings.Contains(out, want) || !strings.Contains(out, "goes on") {
			t.Errorf("%v: exit code %d, want 1 and %q:\n%s", args, code, want, out)
		}
		flows.talk(want)
	}
	stop()
	if all := tried(); failed(all) > 0 {
		t.Errorf("%d of %d new flows failed", failed(all), len(all))
	}
	if now := w.host(); now != before {
		t.Errorf("the host has changed:\n%s", difference(before, now))
	}
	if out, err := w.sslgate("run", "-c", config); err == nil {
		t.Errorf("a second gateway has started, and nobody asked it to take over:\n%s", out)
	}
	flows.talk("after a second gateway was started")
	if n := g.stderr.count("another process takes over"); n > 0 {
		t.Errorf("it has agreed to hand over %d times, to processes that do not agree", n)
	}
}

// The new process is killed while it is watched: the older one takes new flows again, and has
// lost none.
func TestUpgradeRolledBack(t *testing.T) {
	w, config := upgradeWorld(t)
	w.patient()
	w.rewrite("drain: 3s", "drain: 60s") // flows end by themselves, however slow the machine is
	g := w.start(config)
	before := w.host()
	s := w.leak()
	flows := w.hold(20)
	for i, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		tried, stop := w.load()
		next := w.taking(config)
		flows.talk("while the new process is watched")
		w.echo("while the new process is watched")
		next.stop(sig)
		g.saysTimes(i+1, "this one goes on")
		w.echo("rolled back")
		flows.talk("rolled back")
		stop()
		all := tried()
		t.Logf("%v: %d of %d new flows failed", sig, failed(all), len(all))
		if sig == syscall.SIGTERM && failed(all) > 0 {
			t.Errorf("%d of %d new flows failed though nobody was killed", failed(all), len(all))
		}
		testenv.Eventually(t, "the host is as before", func() bool { return w.host() == before }, func() any { return difference(before, w.host()) })
		if out, err := w.sslgate("status", "--socket", w.socket()); err != nil {
			t.Errorf("status: %v\n%s", err, out)
		}
	}
	w.nothingLeaked(s, "after two ways back")
}
