package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func (w *world) gro() bool {
	w.t.Helper()
	out, err := w.lab.Command(lab.Gateway, "ethtool", "-k", lab.LANIface).CombinedOutput()
	if err != nil {
		w.t.Fatalf("%v\n%s", err, out)
	}
	return strings.Contains(string(out), "generic-receive-offload: on")
}

// If receive offload is off, the log says what to type, as doctor does, and that command
// helps. With gro: auto it is switched on, and off by release.
func TestReceiveOffload(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ethtool")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	config := w.config(payRule, "")
	const fix = "ethtool -K " + lab.LANIface + " gro on"
	g := w.start(config)
	if said := g.stderr.String(); !strings.Contains(said, "receive offload (GRO) of a captured interface is off") || !strings.Contains(said, fix) || w.gro() {
		t.Errorf("it is on: %v; the log says:\n%s", w.gro(), said)
	}
	if out, _ := w.sslgate("doctor", "-c", config); !strings.Contains(out, fix) {
		t.Errorf("doctor says:\n%s", out)
	}
	g.stop(syscall.SIGTERM)
	w.rewrite("capture: {", "capture: {gro: auto, ")
	g = w.start(config)
	if said := g.stderr.String(); strings.Contains(said, "captured interface is off") || !strings.Contains(said, "receive offload (GRO) switched") || !w.gro() {
		t.Errorf("it is on: %v; the log says:\n%s", w.gro(), said)
	}
	w.echo("with receive offload")
	g.stop(syscall.SIGKILL)
	g = w.start(config)
	if !w.gro() || strings.Contains(g.stderr.String(), "switched") {
		t.Errorf("it is on: %v after a kill and another start, which says:\n%s", w.gro(), g.stderr.String())
	}
	g.stop(syscall.SIGTERM)
	if out, err := w.sslgate("release", "-c", config, "--yes"); err != nil || w.gro() {
		t.Errorf("released, and it is on: %v, %v\n%s", w.gro(), err, out)
	}
	w.sh(fix)
	g = w.start(config)
	g.stop(syscall.SIGTERM)
	if out, err := w.sslgate("release", "-c", config, "--yes"); err != nil || !w.gro() {
		t.Errorf("it was on before: now %v, %v\n%s", w.gro(), err, out)
	}
}

// Without offload the gateway works; the log says why there is none and what that costs.
func TestPlainModeIsSaid(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ip")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.config(payRule, "")
	config := w.attached("")
	g := w.start(config)
	for _, want := range []string{"TUN without offload", "0.1 to 0.35 of the speed", "ip tuntap add dev tap9 mode tun multi_queue"} {
		if said := g.stderr.String(); !strings.Contains(said, want) {
			t.Errorf("no %q in the log:\n%s", want, said)
		}
	}
	conn, err := w.dialTLS(false, nil)
	if err != nil {
		t.Fatal(err)
	}
	echo(t, conn, 1<<20)
	_ = conn.Close()
}
