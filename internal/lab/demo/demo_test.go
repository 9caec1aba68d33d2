package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// build makes the real gateway, in a folder that every user may enter.
func build(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sslgate-demo-test-") // t.TempDir is for its owner only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sslgate")
	out, err := exec.Command("go", "build", "-race", "-o", path, "github.com/sslgate/sslgate/cmd/sslgate").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func TestRun(t *testing.T) {
	testenv.TUN(t)
	binary := build(t) // may take minutes itself
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	ran, failed, err := Run(ctx, Options{
		Binary: binary, JSON: true, Stdout: &out, Progress: io.Discard,
		Only: []string{"good-tls13", "good-ipv6", "thief-tls12", "bypass", "default-deny", "two-gateways", "killed"},
	})
	if err != nil || ran != 7 || failed != 0 {
		t.Fatalf("%d ran, %d failed: %v\n%s", ran, failed, err, &out)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 8 {
		t.Fatalf("%d lines", len(lines))
	}
	var thief struct {
		OK     bool
		Record struct {
			Peer struct{ Proven bool }
		}
	}
	if err := json.Unmarshal([]byte(lines[2]), &thief); err != nil || !thief.OK || thief.Record.Peer.Proven {
		t.Errorf("%v: %s", err, lines[2])
	}
}

// What cannot start says why, and leaves nothing running.
func TestRunWithoutAGateway(t *testing.T) {
	testenv.TUN(t)
	for _, tc := range []struct{ binary, want string }{
		{"/nonexistent/sslgate", "start the gateway"},
		{"/bin/false", "ended before it was ready"},
	} {
		ran, _, err := Run(context.Background(), Options{Binary: tc.binary, Stdout: io.Discard, Progress: io.Discard})
		if ran != 0 || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %d ran, %v", tc.binary, ran, err)
		}
	}
}

// A normal user gets the demo where the TUN device may be used, and one
// sentence where it may not.
func TestAsANormalUser(t *testing.T) {
	testenv.TUN(t)
	unshare, setpriv := testenv.Tool(t, "unshare"), testenv.Tool(t, "setpriv")
	sslgate := build(t)
	node := filepath.Join(filepath.Dir(sslgate), "tun")
	// The node of this machine stays as it is: another one is put in its
	// place in a mount namespace that ends with the command.
	const script = `mknod "$1" c 10 200 && chmod "$2" "$1" && mount --bind "$1" /dev/net/tun && rm "$1"
		exec "$3" --reuid 65534 --regid 65534 --clear-groups "$4" demo --json --only good-tls13 --only fragments-ipv6`
	run := func(mode string) (string, string, error) {
		var out, errOut bytes.Buffer
		cmd := exec.Command(unshare, "-m", "sh", "-c", script, "sh", node, mode, setpriv, sslgate)
		cmd.Stdout, cmd.Stderr = &out, &errOut
		cmd.Dir = "/"
		err := cmd.Run()
		return out.String(), errOut.String(), err
	}
	if out, errOut, err := run("0666"); err != nil || !strings.HasSuffix(out, `{"scenarios":2,"failed":0}`+"\n") {
		t.Errorf("%v\n%s%s", err, out, errOut)
	}
	out, errOut, err := run("0600")
	if err == nil || out != "" || strings.Count(errOut, "\n") != 1 || !strings.Contains(errOut, "sudo scripts/demo") {
		t.Errorf("%v\n%s%s", err, out, errOut)
	}
}
