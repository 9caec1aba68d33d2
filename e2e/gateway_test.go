// Package e2e runs the real binary between real clients and servers, in namespaces of its
// own. Each file tests one promise.
//
// A test that says t.Parallel runs beside others: it looks at what happens, and most of its
// time it waits. A test whose result depends on how fast the machine is (attacks, memory,
// load, clocks, moments of a kill) does not say it, so it has the machine for itself.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// built is the directory of the binary, "" as long as no test has asked for it.
var built string

// binary is built once, with the race detector.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "sslgate-e2e-")
	if err != nil {
		return "", err
	}
	built = dir
	path := filepath.Join(dir, "sslgate")
	if ready := os.Getenv("SSLGATE_BINARY"); ready != "" { // to measure, without the race detector
		b, err := os.ReadFile(ready)
		if err != nil {
			return "", err
		}
		return path, os.WriteFile(path, b, 0o755)
	}
	out, err := exec.Command("go", "build", "-race", "-o", path, "github.com/sslgate/sslgate/cmd/sslgate").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if job := os.Getenv(assaultEnv); job != "" {
		os.Exit(assaultMain(job))
	}
	testenv.Lanes(3)
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built)
	}
	os.Exit(code)
}

// world is a lab with a PKI, an origin server and files on disk.
type world struct {
	t   *testing.T
	lab *lab.Lab
	dir string
	ca  *testpki.CA // signs clients and servers
	pay *testpki.Cert

	ns lab.NS // of the gateway
}

// port is where the origin listens and clients connect.
const port = 443

func newWorld(t *testing.T, opt lab.Options) *world {
	t.Helper()
	testenv.TUN(t)
	testenv.Tool(t, "openssl")
	l, err := lab.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("taking the lab down: %v", err)
		}
	})
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "e2e CA"}))
	w := &world{t: t, lab: l, dir: t.TempDir(), ca: ca, ns: lab.Gateway}
	w.pem("ca.pem", ca.PEM())
	w.pay = w.issue("pay", testpki.Leaf{DNS: []string{"pay.example"}})
	w.issue("alice", testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})
	return w
}

func (w *world) pem(name string, data []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// issue makes NAME.pem and NAME.key.
func (w *world) issue(name string, l testpki.Leaf) *testpki.Cert {
	w.t.Helper()
	c := testpki.Must(w.ca.Issue(l))
	if _, _, err := c.WritePEM(w.dir, name); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// config is a whole sslgate.yaml around the given rules.
func (w *world) config(rules, more string) string {
	w.t.Helper()
	if !strings.Contains(more, "admin:") {
		more += "\nadmin: {socket: off}" // the default is one path for all that run beside each other
	}
	text := `version: 1
tun: {name: sslgate0}
capture: {interfaces: [` + lab.LANIface + `], ports: [443, 8443]}
authorities:
  staff: {roots: ca.pem}
identities:
  pay: {certificate: pay.pem, key: pay.key}
audit: {file: audit.jsonl}
limits: {handshake: 3s, drain: 3s}
` + more + `
policy:
  rules:
` + rules
	return w.pem("sslgate.yaml", []byte(lab.WithEngine(text, testenv.Engine())))
}

// payRule terminates everything on 443, mutual TLS required.
const payRule = `
    - name: pay
      to: ["*:443"]
      identity: pay
      client: {certificate: required, authorities: [staff]}
      destination: {tls: plain}
`

// gateway is a running `sslgate run`.
type gateway struct {
	w      *world
	cmd    *lab.Cmd
	stderr *logBuffer
}

func (w *world) command(args ...string) *lab.Cmd {
	w.t.Helper()
	return w.commandIn(w.ns, args...)
}

// commandIn is sslgate in a namespace.
func (w *world) commandIn(ns lab.NS, args ...string) *lab.Cmd {
	w.t.Helper()
	path, err := binary()
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := w.lab.Command(ns, path, args...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1", "COLUMNS=5000") // sentences stay whole for those who look for them
	return cmd
}

// start runs the gateway and waits until it is ready.
func (w *world) start(config string) *gateway {
	w.t.Helper()
	return w.launch(w.command("run", "-c", config))
}

// launch is start for a command of the caller's.
func (w *world) launch(cmd *lab.Cmd) *gateway {
	w.t.Helper()
	g := &gateway{w: w, cmd: cmd, stderr: newLogBuffer()}
	g.cmd.Stderr, g.cmd.Stdout = g.stderr, g.stderr
	if err := g.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		g.stop(syscall.SIGTERM)
		if s := g.stderr.String(); strings.Contains(s, "DATA RACE") || w.t.Failed() {
			w.t.Logf("gateway said:\n%s", s)
			if strings.Contains(s, "DATA RACE") {
				w.t.Error("data race in the gateway")
			}
		}
	})
	if !g.stderr.wait("ready", g.cmd.Done()) {
		w.t.Fatalf("the gateway did not become ready:\n%s", g.stderr.String())
	}
	return g
}

// stop sends the signal and waits for the end.
func (g *gateway) stop(sig syscall.Signal) {
	g.w.t.Helper()
	select {
	case <-g.cmd.Done():
		return
	default:
	}
	if err := g.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		g.w.t.Error(err)
	}
	select {
	case <-g.cmd.Done():
	case <-time.After(testenv.Patience()):
		g.w.t.Errorf("the gateway did not end on %v:\n%s", sig, g.stderr.String())
		_ = g.cmd.Process.Kill()
		<-g.cmd.Done()
	}
}

// logBuffer collects output and lets a test wait for a word.
type logBuffer struct {
	mu   sync.Mutex
	buf  bytes.Buffer
	more chan struct{}
}

func newLogBuffer() *logBuffer { return &logBuffer{more: make(chan struct{})} }

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.more)
	b.more = make(chan struct{})
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// count returns how often a word was said.
func (b *logBuffer) count(word string) int { return strings.Count(b.String(), word) }

func (b *logBuffer) wait(word string, gone <-chan struct{}) bool { return b.waitFor(1, word, gone) }

// waitFor waits until a word was said n times. False: it was not.
func (b *logBuffer) waitFor(n int, word string, gone <-chan struct{}) bool {
	deadline := time.After(testenv.Patience())
	for {
		b.mu.Lock()
		found, more := strings.Count(b.buf.String(), word) >= n, b.more
		b.mu.Unlock()
		if found {
			return true
		}
		select {
		case <-more:
		case <-gone:
			return b.count(word) >= n
		case <-deadline:
			return false
		}
	}
}

// record is an audit record as it stands in the file.
type record map[string]any

func (r record) str(key string) string { s, _ := r[key].(string); return s }

func (r record) peer(key string) any {
	p, _ := r["peer"].(map[string]any)
	return p[key]
}

// records waits until at least n records are there.
func (w *world) records(n int) []record {
	w.t.Helper()
	return w.recordsOf("audit.jsonl", n)
}

// recordsOf is records of another gateway's file.
func (w *world) recordsOf(file string, n int) []record {
	w.t.Helper()
	deadline := testenv.Deadline()
	for {
		var all []record
		if b, err := os.ReadFile(filepath.Join(w.dir, file)); err == nil {
			for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
				var r record
				if err := json.Unmarshal(sc.Bytes(), &r); err == nil {
					all = append(all, r)
				}
			}
		}
		if len(all) >= n {
			return all
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("%d audit records, want %d: %v", len(all), n, all)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// last waits for the n-th record and returns it.
func (w *world) last(n int) record {
	w.t.Helper()
	return w.records(n)[n-1]
}

// origin serves every connection to addr in the server's namespace.
func (w *world) origin(addr string, serve func(net.Conn)) {
	w.t.Helper()
	ln, err := w.lab.Listen(lab.Server, "tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.serveOn(ln, serve)
}

// serveOn serves every connection to ln until the test ends. Then it closes what is left: a host
// that was cut off has said nothing, and the kernel would wait for it for minutes.
func (w *world) serveOn(ln net.Listener, serve func(net.Conn)) {
	var wg sync.WaitGroup
	over, end := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				defer context.AfterFunc(over, func() { _ = c.Close() })()
				serve(c)
			})
		}
	})
	w.t.Cleanup(func() { _ = ln.Close(); end(); wg.Wait() })
}

// serveHTTP answers one request with a fixed page, for curl and openssl.
func serveHTTP(c net.Conn) {
	_ = c.SetDeadline(testenv.Deadline())
	br := bufio.NewReader(c)
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		if line == "\r\n" || line == "\n" {
			break
		}
	}
	_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\nContent-Length: 12\r\nConnection: close\r\n\r\norigin says\n")
}

// serveEcho sends back what it reads.
func serveEcho(c net.Conn) {
	// Only so that nothing is left behind: some tests hold a connection as long as they run,
	// which takes more than a minute on a busy machine.
	_ = c.SetDeadline(time.Now().Add(10 * time.Minute))
	_, _ = io.Copy(c, c)
	_ = c.(*net.TCPConn).CloseWrite()
}

// server is the origin's address.
func server(six bool) string {
	return netip.AddrPortFrom(lab.ServerAddr(0, six), port).String()
}

// client runs a program in the client's namespace and returns what it said.
func (w *world) client(stdin string, name string, args ...string) (string, error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	cmd := w.lab.Command(lab.Client, name, args...)
	cmd.Dir = w.dir
	cmd.Stdin = strings.NewReader(stdin)
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
