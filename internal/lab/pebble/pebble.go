// Package pebble runs Let's Encrypt's small ACME server, pebble, for tests: a real CA that
// validates, on loopback.
package pebble

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Server is a running pebble with the DNS that it asks.
type Server struct {
	// Directory is the URL for configurations; Roots the file with the CA of its web server.
	Directory, Roots string
	// DNS is what its validators find.
	DNS *DNS

	stop func()
}

// Options of a Server. The zero value validates in the DNS alone.
type Options struct {
	// TLSPort is where its validators of tls-alpn-01 go, at whatever address DNS has.
	TLSPort int
	// Accounts are the external accounts that it asks for (RFC 8555, section 7.3.4), with their
	// keys in base64url; nil: it asks for none.
	Accounts map[string]string
	// NoReuse has every order prove its names anew; else what was proven stays proven.
	NoReuse bool
	// RejectNonces is how many of a hundred good nonces are refused (RFC 8555, section 6.5).
	RejectNonces int
}

// Start runs a pebble until the test ends.
func Start(t testing.TB, o Options) *Server {
	t.Helper()
	program := testenv.Tool(t, "pebble")
	dir := t.TempDir()
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "pebble's web server"}))
	web := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"localhost"}, IPs: []string{"127.0.0.1"}}))
	cert, key, err := web.WritePEM(dir, "web")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{Roots: filepath.Join(dir, "roots.pem"), DNS: startDNS(t)}
	if err := os.WriteFile(s.Roots, ca.PEM(), 0o644); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": "127.0.0.1:0", "certificate": cert, "privateKey": key, "httpPort": 1, "tlsPort": max(o.TLSPort, 1),
		"ocspResponderURL": "", "externalAccountBindingRequired": o.Accounts != nil, "externalAccountMACKeys": o.Accounts,
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, config, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-strict", "-config", file, "-dnsserver", s.DNS.Addr)
	// No pauses, and nothing by chance that no test asks for.
	reuse := 100
	if o.NoReuse {
		reuse = 0
	}
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT="+strconv.Itoa(o.RejectNonces), "PEBBLE_AUTHZREUSE="+strconv.Itoa(reuse))
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	t.Cleanup(func() {
		s.stop()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("pebble said:\n%s", said)
		}
	})
	testenv.Eventually(t, "pebble listens", func() bool {
		port := listens(cmd.Process.Pid)
		s.Directory = "https://127.0.0.1:" + strconv.Itoa(port) + "/dir"
		return port != 0
	}, func() any { said, _ := os.ReadFile(log.Name()); return string(said) })
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true}}
	testenv.Eventually(t, "pebble answers", func() bool {
		res, err := client.Get(s.Directory)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == http.StatusOK
	}, func() any { said, _ := os.ReadFile(log.Name()); return string(said) })
	return s
}

// Stop ends the server: an outage.
func (s *Server) Stop() { s.stop() }

// listens is the port of TCP on which a process listens; 0 while there is none.
func listens(pid int) int {
	sockets := map[string]bool{}
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, _ := os.ReadDir(dir) // it may have ended
	for _, e := range entries {
		if to, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			sockets[strings.TrimSuffix(strings.TrimPrefix(to, "socket:["), "]")] = true
		}
	}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", pid))
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 10 || f[3] != "0A" || !sockets[f[9]] { // TCP_LISTEN
			continue
		}
		_, port, _ := strings.Cut(f[1], ":")
		if n, err := strconv.ParseUint(port, 16, 16); err == nil {
			return int(n)
		}
	}
	return 0
}
