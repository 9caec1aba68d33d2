package spire

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// SPIRE is a running server of SPIRE with one agent, which knows the workloads of this user.
type SPIRE struct {
	// Socket is that of the agent's Workload API.
	Socket string

	t      testing.TB
	dir    string
	parent string
	stop   func() // the agent
}

// StartSPIRE runs SPIRE's own server and agent of a trust domain until the test ends. It skips
// unless `scripts/deps spire` has built them, which takes a quarter of an hour of a processor.
func StartSPIRE(t testing.TB, domain string) *SPIRE {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no place for SPIRE: %v", err)
	}
	bin := filepath.Join(cache, "sslgate-test", "spire-1.13.3")
	if _, err := os.Stat(filepath.Join(bin, "spire-server")); err != nil {
		t.Skipf("needs SPIRE: scripts/deps spire builds it: %v", err)
	}
	dir, err := os.MkdirTemp("", "spire") // a short path: that of a socket has at most 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &SPIRE{t: t, dir: dir, Socket: filepath.Join(dir, "agent.sock")}
	port := freePort(t)
	s.put("server.conf", fmt.Sprintf(`
server { bind_address = "127.0.0.1" bind_port = "%d" trust_domain = %q data_dir = %q socket_path = %q }
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = %q } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
`, port, domain, dir, filepath.Join(dir, "server.sock"), filepath.Join(dir, "data.sqlite3")))
	s.put("agent.conf", fmt.Sprintf(`
agent { data_dir = %q server_address = "127.0.0.1" server_port = "%d" socket_path = %q trust_domain = %q insecure_bootstrap = true }
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "unix" { plugin_data {} }
}
`, filepath.Join(dir, "agent"), port, s.Socket, domain))
	s.program(filepath.Join(bin, "spire-server"), "run", "-config", filepath.Join(dir, "server.conf"))
	testenv.Eventually(t, "the server answers", func() bool { _, err := s.ask("healthcheck"); return err == nil }, s.log("spire-server"))
	_, token, _ := strings.Cut(s.must("token", "generate"), "Token: ")
	token, _, _ = strings.Cut(token, "\n")
	s.parent = "spiffe://" + domain + "/spire/agent/join_token/" + token
	s.stop = s.program(filepath.Join(bin, "spire-agent"), "run", "-config", filepath.Join(dir, "agent.conf"), "-joinToken", token)
	testenv.Eventually(t, "the agent listens", func() bool {
		c, err := net.Dial("unix", s.Socket)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, s.log("spire-agent"))
	return s
}

// Entry registers an SPIFFE ID for the processes of this user, with SVIDs that live some seconds.
func (s *SPIRE) Entry(id string, seconds int) {
	s.t.Helper()
	s.must("entry", "create", "-parentID", s.parent, "-spiffeID", id, "-selector", fmt.Sprint("unix:uid:", os.Getuid()), "-x509SVIDTTL", fmt.Sprint(seconds))
}

// StopAgent kills the agent: an outage.
func (s *SPIRE) StopAgent() { s.stop() }

func (s *SPIRE) must(args ...string) string {
	s.t.Helper()
	out, err := s.ask(args...)
	if err != nil {
		s.t.Fatalf("spire-server %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return out
}

// ask runs a command of the server's.
func (s *SPIRE) ask(args ...string) (string, error) {
	cache, _ := os.UserCacheDir()
	cmd := exec.Command(filepath.Join(cache, "sslgate-test", "spire-1.13.3", "spire-server"), append(args, "-socketPath", filepath.Join(s.dir, "server.sock"))...)
	var why bytes.Buffer
	cmd.Stderr = &why
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, why.Bytes())
	}
	return string(out), err
}

func (s *SPIRE) put(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *SPIRE) log(program string) func() any {
	return func() any {
		said, _ := os.ReadFile(filepath.Join(s.dir, program+".log"))
		return string(said[max(0, len(said)-4000):])
	}
}

// program runs until the test ends, or until it is stopped.
func (s *SPIRE) program(path string, args ...string) (stop func()) {
	s.t.Helper()
	log, err := os.Create(filepath.Join(s.dir, filepath.Base(path)+".log"))
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = log.Close()
	})
	s.t.Cleanup(func() {
		stop()
		if s.t.Failed() {
			said, _ := os.ReadFile(log.Name())
			s.t.Logf("%s said:\n%s", filepath.Base(path), bytes.ToValidUTF8(said, nil))
		}
	})
	return stop
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}
