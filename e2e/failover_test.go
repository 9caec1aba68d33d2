package e2e

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// host is one of two hosts with a gateway and keepalived.
type host struct {
	*world
	config  string
	gateway *gateway
	vrrp    *lab.Cmd
	said    *logBuffer // by keepalived
}

// second is the other host: the same files in a directory of its own.
func (w *world) second() *world {
	w.t.Helper()
	other := *w
	other.dir, other.ns = w.t.TempDir(), lab.Standby
	for _, name := range []string{"sslgate.yaml", "ca.pem", "pay.pem", "pay.key", "alice.pem", "alice.key", "tickets.keys"} {
		other.pem(name, []byte(w.read(name)))
	}
	return &other
}

// keepalived runs the shipped example, with this lab's names, addresses and paths. The checks
// call the program of that path.
func (h *host) keepalived(example, path string) {
	h.t.Helper()
	const dir = "../docs/examples/keepalived/"
	adapt := func(name, to string, mode os.FileMode, words ...string) string {
		text, err := os.ReadFile(dir + name)
		if err != nil {
			h.t.Fatal(err)
		}
		for i := 0; i < len(words); i += 2 {
			if !strings.Contains(string(text), words[i]) {
				h.t.Fatalf("no %q in %s", words[i], name)
			}
		}
		to = filepath.Join(h.dir, to)
		if err := os.WriteFile(to, []byte(strings.NewReplacer(words...).Replace(string(text))), mode); err != nil {
			h.t.Fatal(err)
		}
		return to
	}
	check := adapt("check-sslgate", "check-sslgate", 0o755, "exec sslgate", "exec "+path, "/run/sslgate/admin.sock", h.socket())
	conf := adapt(example, "keepalived.conf", 0o600, "/etc/keepalived/check-sslgate", check,
		"timeout 2", "timeout 60", // a busy machine starts programs late
		"enable_script_security", "", "script_user sslgate", "script_user root", // the test's directory is below /tmp
		"interface eth1", "interface "+lab.LANIface, "interface eth2", "interface "+lab.WANIface,
		"10.1.0.1/24", "10.77.1.1/24", "fd00:1::1/64", "fd77:1::1/64", "10.20.0.1/24", "10.77.2.1/24", "fd00:20::1/64", "fd77:2::1/64")
	pid := func(of string) string { return filepath.Join(h.dir, of+".pid") }
	h.said = newLogBuffer()
	h.vrrp = h.lab.Command(h.ns, testenv.Tool(h.t, "keepalived"), "--dont-fork", "--log-console", "--log-detail", "--vrrp",
		"--use-file", conf, "--pid", pid("keepalived"), "--vrrp_pid", pid("vrrp"))
	h.vrrp.Dir, h.vrrp.Stdout, h.vrrp.Stderr = h.dir, h.said, h.said
	if err := h.vrrp.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		h.end9() // its own child ends with it
		if h.t.Failed() {
			h.t.Logf("keepalived of %s said:\n%s", h.ns, h.said.String())
		}
	})
}

// end9 ends keepalived as the death of its host does: it tells nobody.
func (h *host) end9() {
	select {
	case <-h.vrrp.Done():
		return
	default:
	}
	for _, name := range []string{"vrrp.pid", "keepalived.pid"} { // the child first: it would say goodbye
		if b, err := os.ReadFile(filepath.Join(h.dir, name)); err == nil {
			if pid := number(strings.TrimSpace(string(b))); pid > 1 {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
		}
	}
	_ = h.vrrp.Process.Kill()
	<-h.vrrp.Done()
}

func number(s string) int {
	n := 0
	for _, r := range s {
		if r < '0' || r > '9' {
			return 0
		}
		n = 10*n + int(r-'0')
	}
	return n
}

// becomes waits until keepalived has entered the state for the n-th time, on both sides.
func (h *host) becomes(state string, n int) {
	h.t.Helper()
	for _, side := range []string{"clients", "servers"} {
		if !h.said.waitFor(n, "("+side+") Entering "+state+" STATE", h.vrrp.Done()) {
			h.t.Fatalf("%s does not become %s on the side of the %s:\n%s", h.ns, state, side, h.said.String())
		}
	}
}

// cost is what a move of the addresses cost clients.
type cost struct {
	outage        time.Duration // from the event to the begin of the last new flow that failed; 0: none
	tried, failed int           // new flows
	held, lost    int           // flows that were there before
}

// moved runs an event that moves the addresses, under a load of new flows and with held ones.
func (h *host) moved(t *testing.T, name string, to *host, masters int, event func()) cost {
	t.Helper()
	flows := h.hold(10)
	tried, stop := h.tries()
	stop = sync.OnceFunc(stop)
	defer stop()
	succeeds := func(when string) {
		from := time.Now()
		testenv.Eventually(t, name+": a new flow succeeds "+when, func() bool {
			return slices.ContainsFunc(tried(), func(a attempt) bool { return a.ok && a.at.After(from) })
		}, func() any { return h.said.String() + to.said.String() })
	}
	succeeds("before")
	began := time.Now()
	event()
	to.becomes("MASTER", masters)
	at := time.Now()
	succeeds("after")
	stop()
	var c cost
	for _, a := range tried() {
		if c.tried++; !a.ok {
			c.failed++
			c.outage = max(c.outage, a.at.Sub(began))
		}
	}
	c.held = len(flows.conns)
	for _, conn := range flows.conns {
		_ = conn.SetDeadline(testenv.Deadline())
		_, err := conn.Write([]byte("word"))
		if err == nil {
			_, err = io.ReadFull(conn, make([]byte, 4))
		}
		if err != nil {
			c.lost++
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%s: a held flow ends with %v, want a reset: it must not hang", name, err)
			}
		}
	}
	t.Logf("%s: the other host has the addresses after %v; %d of %d new flows failed, the last of them began after %v; %d of %d held flows lost",
		name, at.Sub(began).Round(10*time.Millisecond), c.failed, c.tried, c.outage.Round(10*time.Millisecond), c.lost, c.held)
	flows.close()
	// Two to five seconds on an idle machine (docs/failover.md).
	if most := testenv.Scaled(20 * time.Second); at.Sub(began) > most || c.outage > most {
		t.Errorf("%s takes more than %v", name, most)
	}
	if c.lost != c.held { // else the addresses have not moved, or a flow came along
		t.Errorf("%s: %d of %d held flows go on", name, c.held-c.lost, c.held)
	}
	return c
}

// Two hosts with keepalived, as docs/examples/keepalived has them, and shared ticket keys: what
// a drain, a dead gateway and a dead host cost, and that sessions are resumed at the other
// host.
func TestFailOver(t *testing.T) {
	testenv.Tool(t, "keepalived")
	plain := plainBinary(t) // starts in time, twice a second
	w := newWorld(t, lab.Options{Standby: true})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	w.pem("tickets.keys", fmt.Appendf(nil, "%x\n", key))
	config := w.config(payRule, "admin: {socket: admin.sock}\nstate: state\ntickets: {keys: tickets.keys}\n")
	w.patient()
	w.rewrite("drain: 3s", "drain: 1h, shutdown_delay: 5s")
	other := w.second()
	a := &host{world: w, config: config}
	b := &host{world: other, config: filepath.Join(other.dir, "sslgate.yaml")}
	a.gateway, b.gateway = a.start(a.config), b.start(b.config)
	leaks := w.leak()
	a.keepalived("keepalived-a.conf", plain)
	a.becomes("MASTER", 1)
	b.keepalived("keepalived-b.conf", plain)
	b.becomes("BACKUP", 1)

	session := &tls.Config{ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	resumed := func(want bool, when string) {
		t.Helper()
		c, err := w.dialTLS(false, session)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("word")); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil { // the ticket comes before it
			t.Fatalf("%s: %v", when, err)
		}
		if got := c.ConnectionState().DidResume; got != want {
			t.Errorf("%s: resumed: %v", when, got)
		}
	}
	resumed(false, "at the first host")

	// The first host drains: the other one has the addresses before new flows are refused.
	drained := a.moved(t, "a drain", b, 1, func() {
		if out, err := a.sslgate("drain", "--socket", a.socket()); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	})
	if a.gateway.stderr.count("\tdraining\t") > 0 {
		t.Logf("this machine is slow: the delay of 5 s was over before the addresses had moved")
	} else if drained.failed > 16 { // as many as are under way at the moment of the move
		t.Errorf("%d new flows failed at a drain", drained.failed)
	}
	resumed(true, "after the drain, at the other host")

	// Back again, the first host takes nothing away from the other.
	a.gateway.stop(syscall.SIGTERM) // the second signal ends the drain
	a.gateway = a.start(a.config)
	a.becomes("BACKUP", 2)
	resumed(true, "the first host is back")

	// The other host's gateway dies, and nothing starts it again.
	b.moved(t, "a dead gateway", a, 2, func() { b.gateway.stop(syscall.SIGKILL) })
	resumed(true, "after the death of a gateway")
	b.gateway = b.start(b.config)
	b.becomes("BACKUP", 2)

	// The first host dies: nobody answers there, and nobody says goodbye.
	a.moved(t, "a dead host", b, 2, func() {
		if err := w.lab.CutOff(lab.Gateway); err != nil {
			t.Fatal(err)
		}
		a.gateway.stop(syscall.SIGKILL)
		a.end9()
	})
	resumed(true, "after the death of a host")
	w.nothingLeaked(leaks, "whichever host has the addresses")
}
