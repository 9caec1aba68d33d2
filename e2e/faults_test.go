package e2e

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// What happens when something around the gateway goes away. docs/operating.md
// has the table; each row is a test here or is named there.

// The audit file is deleted: it is created again for the next record. Its directory is
// deleted: no flow begins that cannot be recorded, and everything works again once the
// directory is back.
func TestAuditFileGone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.config(payRule, "admin: {socket: admin.sock}\n")
	dir, file := filepath.Join(w.dir, "log"), filepath.Join(w.dir, "log", "audit.jsonl")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	g := w.start(w.rewrite("audit: {file: audit.jsonl}", "audit: {file: log/audit.jsonl}"))
	lines := func() int {
		b, err := os.ReadFile(file)
		if err != nil {
			return -1
		}
		return strings.Count(string(b), "\n")
	}
	w.echo("at first")
	testenv.Eventually(w.t, "the first record", func() bool { return lines() == 1 })
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	w.echo("after the file was deleted")
	testenv.Eventually(w.t, "a record in a file made anew", func() bool { return lines() == 1 })

	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	// The record of the last flow before the loss is known waits. The gateway may know of the
	// loss already: it checks after a write whether the file is still there.
	waits := 0
	if c, err := w.dialTLS(false, nil); err == nil {
		_ = c.Close()
		waits = 1
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
	if !g.stderr.wait("audit records cannot be written", g.cmd.Done()) {
		t.Fatalf("never said:\n%s", g.stderr.String())
	}
	if c, err := w.dialTLS(false, nil); err == nil {
		_ = c.Close()
		t.Error("a flow began that cannot be recorded")
	}
	if out, err := w.sslgate("status", "--socket", w.socket()); err != nil || !strings.Contains(out, "no such file or directory") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if !g.stderr.wait("audit records are written again", g.cmd.Done()) {
		t.Fatalf("never said:\n%s", g.stderr.String())
	}
	w.echo("after the directory came back")
	testenv.Eventually(w.t, "the records that waited, and the new one", func() bool {
		b, err := os.ReadFile(file)
		n := strings.Count(string(b), `"reason":"verified"`)
		return err == nil && (n == waits+1 || n == waits+2) // the second's is written again if its file went too soon
	})
}

// crlServer serves a list in the server's namespace, while it is up.
func (w *world) crlServer(at netip.AddrPort, list *atomic.Pointer[[]byte]) (stop func()) {
	w.t.Helper()
	ln, err := w.lab.Listen(lab.Server, "tcp", at.String())
	if err != nil {
		w.t.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(*list.Load()) })}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	return func() { _ = srv.Close(); <-done }
}

// The CRL server is down at the start. Under hard no client of its authority passes; the
// reason and the status name what is missing. It comes up: all pass within one retry. It goes
// down again: the list is good until its end, also over a restart.
func TestCRLServerDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	at := netip.AddrPortFrom(lab.ServerAddr(0, false), 8000)
	var list atomic.Pointer[[]byte]
	pem := testpki.CRLPEM(testpki.Must(w.ca.CRL(1, time.Now().Add(time.Hour))))
	list.Store(&pem)
	w.config(payRule, "admin: {socket: admin.sock}\nstate: state\n")
	config := w.rewrite("staff: {roots: ca.pem}", `staff: {roots: ca.pem, crl: ["http://`+at.String()+`/a.crl"], revocation: hard}`)

	g := w.start(config)
	if s := g.stderr.String(); !strings.Contains(s, "revocation list not taken") || !strings.Contains(s, "connection refused") {
		t.Errorf("the log does not say that the list could not be fetched:\n%s", g.stderr.String())
	}
	if c, err := w.dialTLS(false, nil); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("let in without a list, under hard")
		}
		_ = c.Close()
	}
	if r := w.last(1); r.str("reason") != "revocation_unknown" {
		t.Errorf("reason %s, want revocation_unknown: %s", r.str("reason"), r.str("detail"))
	}
	if out, err := w.sslgate("status", "--socket", w.socket()); err != nil || !strings.Contains(out, "connection refused") {
		t.Errorf("status does not say why: %v\n%s", err, out)
	}

	stop := w.crlServer(at, &list)
	if !g.stderr.wait("revocation list taken", g.cmd.Done()) {
		t.Fatalf("not fetched although the server is up:\n%s", g.stderr.String())
	}
	w.echo("with a list")
	stop()
	w.echo("the server is down again")
	g.stop(syscall.SIGTERM)
	w.start(config)
	w.echo("the server is down, and the gateway was restarted")
}

// Without DNS, lists that are named by a host name cannot be fetched. That is reported, and
// nothing else suffers: destinations need no names, as a client names an address.
func TestNoDNS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "named CA"}))
	w.pem("named.pem", other.PEM())
	carol := testpki.Must(other.Issue(testpki.Leaf{CN: "carol"}))
	w.config(strings.Replace(payRule, "[staff]", "[staff, named]", 1), "admin: {socket: admin.sock}\nstate: state\n")
	config := w.rewrite("  staff: {roots: ca.pem}\n", "  staff: {roots: ca.pem}\n  named: {roots: named.pem, crl: [\"http://crl.example.test/a.crl\"], revocation: hard}\n")
	g := w.start(config)
	if s := g.stderr.String(); !strings.Contains(s, "crl.example.test") || !strings.Contains(s, "lookup") {
		t.Errorf("the log does not say that the name cannot be resolved:\n%s", s)
	}
	w.echo("a client of another authority")
	c, err := w.dialTLS(false, &tls.Config{Certificates: []tls.Certificate{carol.TLS()}})
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		_ = c.Close()
	}
	if err == nil {
		t.Error("let in without a list, under hard")
	}
	if r := w.last(2); r.str("reason") != "revocation_unknown" {
		t.Errorf("reason %s, want revocation_unknown", r.str("reason"))
	}
	if out, err := w.sslgate("status", "--socket", w.socket()); err != nil || !strings.Contains(out, "lookup crl.example.test") {
		t.Errorf("status does not say why: %v\n%s", err, out)
	}
}

// A destination that swallows packets: after dial.timeout the client gets a
// RST, without a byte, and the record says destination_timeout. One that goes
// silent in its TLS handshake has as long again.
func TestUpstreamBlackHoled(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "nft")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	const silent = `
    - {name: silent, to: ["*:8443"], identity: pay, client: {certificate: required, authorities: [staff]}, destination: {tls: verify, authorities: [staff], name: pay.example}}
`
	g := w.start(w.config(payRule+silent, "dial: {timeout: 1s}\n"))
	w.echo("at first")
	hole := w.lab.Command(lab.Server, "nft", "add table inet hole; add chain inet hole in { type filter hook input priority 0; }; add rule inet hole in tcp dport 443 drop")
	if out, err := hole.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	begin := time.Now()
	c, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err) // the client's handshake comes first
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %v, want a reset", err)
	}
	if took := time.Since(begin); took < 900*time.Millisecond || took > testenv.Scaled(8*time.Second) {
		t.Errorf("after %v, dial.timeout is 1s", took)
	}
	if r := w.last(2); r.str("reason") != "destination_timeout" || r.str("verdict") != "failed" {
		t.Errorf("record: %s %s", r.str("verdict"), r.str("reason"))
	}
	if out, err := w.lab.Command(lab.Server, "nft", "delete table inet hole").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.echo("the hole is closed")

	heard := make(chan int, 1)
	at := netip.AddrPortFrom(lab.ServerAddr(0, false), 8443).String()
	w.origin(at, func(c net.Conn) { // reads the hello and all that comes, and says nothing
		n, _ := io.Copy(io.Discard, c)
		heard <- int(n)
	})
	begin = time.Now()
	if c, err = w.dialTLSTo(at, nil); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the destination is silent in its handshake: the client sees %d bytes, %v, want a reset", n, err)
	}
	if took := time.Since(begin); took < 900*time.Millisecond || took > testenv.Scaled(8*time.Second) {
		t.Errorf("after %v, dial.timeout is 1s", took)
	}
	if n := <-heard; n == 0 {
		t.Error("no hello reached the destination")
	}
	if r := w.last(4); r.str("reason") != "destination_handshake_timeout" || r.str("verdict") != "failed" {
		t.Errorf("record: %s %s", r.str("verdict"), r.str("reason"))
	}
	if strings.Contains(g.stderr.String(), "\terror\t") {
		t.Errorf("a destination's failure is no error of the gateway:\n%s", g.stderr.String())
	}
}

// The TUN is deleted under the gateway. The gateway reports it and ends, so that a supervisor
// starts it again; meanwhile nothing passes.
func TestTUNDeleted(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ip")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	config := w.config(payRule, "")
	g := w.start(config)
	s := w.leak()
	live, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	w.sh("ip link del sslgate0")
	select {
	case <-g.cmd.Done():
	case <-time.After(testenv.Patience()):
		t.Fatalf("the gateway runs on without its TUN:\n%s", g.stderr.String())
	}
	// The reader of the device or the watch over rules and routes sees it first.
	said := g.stderr.String()
	if err := g.cmd.Wait(); err == nil || !strings.Contains(said, "the TUN device is gone") && !strings.Contains(said, "the TUN device was deleted") {
		t.Errorf("%v\n%s", err, said)
	}
	w.knock(40000)
	w.nothingLeaked(s, "after the TUN was deleted")
	w.start(config)
	w.echo("started again")
	w.knock(40001)
	w.nothingLeaked(s, "started again")
}

// The captured interface goes down and up, is renamed and renamed back, is deleted and
// created again. Live flows go on where TCP can wait for the interface, new ones as soon as
// it is there, and nothing passes uninspected meanwhile.
func TestIngressGoesAndComes(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ip")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	g := w.start(w.config(payRule, ""))
	s := w.leak()
	live, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	goesOn := func(when string) {
		t.Helper()
		if _, err := live.Write([]byte("x")); err != nil {
			t.Fatalf("%s: the live flow: %v", when, err)
		}
		if _, err := io.ReadFull(live, make([]byte, 1)); err != nil {
			t.Fatalf("%s: the live flow: %v", when, err)
		}
		w.echo(when + ", a new flow")
	}
	goesOn("at first")
	sh := func(line string) func() { return func() { w.sh(line) } }
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, said string
		down, up   func()
	}{
		{"down and up", "down", sh("ip link set lan0 down"), sh("ip link set lan0 up")},
		{
			"renamed and back", "missing", sh("ip link set lan0 down; ip link set lan0 name other0; ip link set other0 up"),
			sh("ip link set other0 down; ip link set other0 name lan0; ip link set lan0 up"),
		},
		{
			"deleted and made anew", "missing", func() { must(w.lab.Unlink(lab.LANIface)) },
			func() { must(w.lab.Relink(lab.LANIface)) },
		},
	} {
		said := strings.Count(g.stderr.String(), "a captured interface is "+c.said)
		c.down()
		if c.name != "deleted and made anew" { // then the client has no interface either
			w.knock(43000)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		if conn, err := w.lab.Dial(ctx, lab.Client, "tcp", server(false)); err == nil && c.name != "renamed and back" {
			_ = conn.Close()
			t.Errorf("%s: connected over an interface that is not there", c.name)
		}
		cancel()
		testenv.Eventually(w.t, c.name+": the log says so", func() bool {
			return strings.Count(g.stderr.String(), "a captured interface is "+c.said) > said
		})
		const back = "a captured interface is up again"
		were := strings.Count(g.stderr.String(), back)
		c.up()
		goesOn(c.name)
		// Only what is up can be said to be missing the next time.
		testenv.Eventually(t, c.name+": the log says that it is back", func() bool { return strings.Count(g.stderr.String(), back) > were })
		w.knock(43001)
		w.nothingLeaked(s, c.name)
	}
	select {
	case <-g.cmd.Done():
		t.Errorf("the gateway ended:\n%s", g.stderr.String())
	default:
	}
}

// The interface towards the destinations goes down and up. Live flows go on where TCP can
// wait for it. New ones are told that there is no route, and are served at once when there is
// one again.
func TestEgressGoesAndComes(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ip")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	g := w.start(w.config(payRule, "dial: {timeout: 1s}\n"))
	s := w.leak()
	live, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	w.echo("at first")
	w.sh("ip link set " + lab.WANIface + " down")
	if _, err := live.Write([]byte("sent while it is down")); err != nil {
		t.Fatal(err)
	}
	c, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err) // the client's handshake comes first
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the client sees %d bytes, %v, want a reset", n, err)
	}
	_ = c.Close()
	if r := w.last(2); r.str("reason") != "destination_unreachable" || r.str("verdict") != "failed" {
		t.Errorf("record: %s %s, %s", r.str("verdict"), r.str("reason"), r.str("detail"))
	}
	w.sh("ip link set " + lab.WANIface + " up")
	w.echo("it is up")
	_ = live.SetReadDeadline(testenv.Deadline())
	back := make([]byte, len("sent while it is down"))
	if _, err := io.ReadFull(live, back); err != nil || string(back) != "sent while it is down" {
		t.Errorf("the live flow: %q, %v", back, err)
	}
	w.nothingLeaked(s, "the interface was down")
	select {
	case <-g.cmd.Done():
		t.Errorf("the gateway ended:\n%s", g.stderr.String())
	default:
	}
}
