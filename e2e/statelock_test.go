package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A second gateway with the state directory of a running one is refused before it changes
// anything, with the other's process. After kill -9 and after a stop the directory is free.
func TestStateDirectoryIsLocked(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveHTTP)
	const state = "admin: {socket: off}\nstate: kept/state"
	first := w.config(payRule, state)
	second := w.pem("second.yaml", []byte(strings.NewReplacer("sslgate0", "sslgate1", "audit.jsonl", "second.jsonl").Replace(w.read("sslgate.yaml"))))
	refused := func(config string, pid int) {
		t.Helper()
		out, err := w.command("run", "-c", config).CombinedOutput()
		var exit *exec.ExitError
		want := fmt.Sprintf("kept/state is in use by another process, number %d: each gateway needs one of its own", pid)
		if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), want) {
			t.Errorf("%s beside the first: %v, want %q in\n%s", config, err, want, out)
		}
	}
	g := w.start(first)
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		refused(first, g.cmd.Process.Pid)
		refused(second, g.cmd.Process.Pid)
		if out, err := w.curl("--cert", "alice.pem", "--key", "alice.key"); err != nil || !strings.Contains(out, "origin says") {
			t.Errorf("the first, beside the refused one: %v %s", err, out)
		}
		g.stop(sig)
		g = w.start(second)
		g.stop(syscall.SIGTERM)
		if sig == syscall.SIGKILL {
			g = w.start(first)
		}
	}
}
