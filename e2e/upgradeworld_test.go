package e2e

import (
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// upgradeMore is what a configuration must have, so that another process can take over.
const upgradeMore = "admin: {socket: admin.sock}\nstate: state\n"

// upgradeWorld has origins that echo, over IPv4 and IPv6, and the configuration of a gateway
// that another process can take over from.
func upgradeWorld(t *testing.T) (w *world, config string) {
	t.Helper()
	w = newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	return w, w.config(payRule, upgradeMore)
}

// takeOver is the command of a process that takes over from the one that runs, and is watched
// for so long.
func (w *world) takeOver(config, watch string) *lab.Cmd {
	w.t.Helper()
	return w.command("run", "-c", config, "--take-over", "--watch", watch)
}

// taking is a process that has the steering and is watched.
func (w *world) taking(config string) *gateway {
	w.t.Helper()
	next := w.launch(w.takeOver(config, "1h"))
	if !next.stderr.wait("new flows begin here", next.cmd.Done()) {
		w.t.Fatalf("not taken over:\n%s", next.stderr.String())
	}
	return next
}

// drains starts a process that takes over from g, and waits until g drains.
func (g *gateway) drains(by *lab.Cmd) *gateway {
	g.w.t.Helper()
	const said = "another process takes the new flows"
	before := g.stderr.count(said)
	next := g.w.launch(by)
	if !g.stderr.waitFor(before+1, said, g.cmd.Done()) {
		g.w.t.Fatalf("it does not drain:\n%s", g.stderr.String())
	}
	return next
}

// says waits until the process has said the words.
func (g *gateway) says(words string) {
	g.w.t.Helper()
	g.saysTimes(1, words)
}

// saysTimes waits until the process has said the words n times.
func (g *gateway) saysTimes(n int, words string) {
	g.w.t.Helper()
	if !g.stderr.waitFor(n, words, g.cmd.Done()) {
		g.w.t.Fatalf("it does not say %q %d times:\n%s", words, n, g.stderr.String())
	}
}

// ends waits until the process has ended, and returns its exit code.
func (g *gateway) ends() int {
	g.w.t.Helper()
	select {
	case <-g.cmd.Done():
	case <-time.After(testenv.Patience()):
		g.w.t.Fatalf("it does not end:\n%s", g.stderr.String())
	}
	return g.cmd.ProcessState.ExitCode()
}
