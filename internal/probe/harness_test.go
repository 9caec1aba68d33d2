package probe_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/probe"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// world is a PKI on files.
type world struct {
	dir        string
	ca         *testpki.CA
	ecdsa, rsa *testpki.Cert
	alice      *testpki.Cert
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), ca: testpki.Must(testpki.NewCA(testpki.Options{CN: "Probe CA"}))}
	issue := func(name string, l testpki.Leaf) *testpki.Cert {
		c := testpki.Must(w.ca.Issue(l))
		if _, _, err := c.WritePEM(w.dir, name); err != nil {
			t.Fatal(err)
		}
		return c
	}
	w.ecdsa = issue("ecdsa", testpki.Leaf{CN: "pay", DNS: []string{"pay.example"}})
	w.rsa = issue("rsa", testpki.Leaf{CN: "pay rsa", DNS: []string{"pay.example"}, Key: testpki.RSA2048})
	w.alice = issue("alice", testpki.Leaf{CN: "alice"})
	w.write(t, "ca.pem", string(w.ca.PEM()))
	return w
}

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// options are those of a probe that trusts the world's CA.
func (w *world) options(addr string) probe.Options {
	return probe.Options{Address: addr, ServerName: "pay.example", Roots: []*x509.Certificate{w.ca.Root}, Timeout: testenv.Scaled(40 * time.Second)}
}

// openssl runs `openssl s_server` until the test ends and returns its address.
func (w *world) openssl(t *testing.T, args ...string) string {
	t.Helper()
	path := testenv.Tool(t, "openssl")
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, path, append([]string{"s_server", "-accept", "127.0.0.1:0", "-www"}, args...)...)
	cmd.Dir, cmd.WaitDelay = w.dir, 5*time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	for sc := bufio.NewScanner(out); sc.Scan(); {
		if addr, ok := strings.CutPrefix(sc.Text(), "ACCEPT "); ok {
			return addr
		}
	}
	cancel()
	_ = cmd.Wait()
	t.Fatalf("openssl s_server did not start: %s", said.String())
	return ""
}

// nginx runs nginx with the given lines in its server block.
func (w *world) nginx(t *testing.T, lines string) string {
	t.Helper()
	path := testenv.Tool(t, "nginx")
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	socket, err := ln.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = socket.Close() }()
	addr := ln.Addr().String()
	w.write(t, "nginx.conf", fmt.Sprintf(`
daemon off; worker_processes 1; pid nginx.pid; error_log stderr error;
events {}
http {
  access_log off;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  server { listen %s ssl; server_name pay.example; %s }
}
`, addr, lines))
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, path, "-p", w.dir, "-c", "nginx.conf", "-e", "stderr")
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	// It gets the socket as from an nginx before it: nobody else can take the port.
	cmd.ExtraFiles, cmd.Env = []*os.File{socket}, append(os.Environ(), "NGINX=3;")
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	for deadline := testenv.Deadline(); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			cancel()
			_ = cmd.Wait()
			t.Fatalf("nginx did not start: %s", said.String())
		}
	}
}

func run(t *testing.T, o probe.Options) *probe.Result {
	t.Helper()
	r, err := probe.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Incomplete != "" {
		t.Fatalf("incomplete: %s", r.Incomplete)
	}
	if r.Connections > probe.MaxConnections {
		t.Errorf("%d connections", r.Connections)
	}
	return r
}

func list(all []probe.Name) string {
	var out []string
	for _, n := range all {
		out = append(out, n.Name)
	}
	return strings.Join(out, " ")
}

func accepted(r *probe.Result) string {
	var out []string
	for _, v := range r.Versions {
		if v.Accepted {
			out = append(out, v.Name.Name)
		}
	}
	return strings.Join(out, " ")
}

func pair(c *testpki.Cert) *tls.Certificate {
	p := c.TLS()
	return &p
}
