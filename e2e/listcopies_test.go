package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// An older list that is put in place while the gateway is down lets nobody in: the state
// directory has copies of the list that was in force.
func TestOlderListOverARestart(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	alice := w.issue("alice", testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})
	until := time.Now().Add(time.Hour)
	before := testpki.CRLPEM(testpki.Must(w.ca.CRL(7, until)))
	w.replace("staff.crl", testpki.CRLPEM(testpki.Must(w.ca.CRL(8, until, alice.Cert))))
	w.config(payRule, "admin: {socket: admin.sock}\nstate: state")
	config := w.rewrite("roots: ca.pem", "roots: ca.pem, crl: [staff.crl], revocation: soft")
	g := w.start(config)
	testenv.Eventually(w.t, "a copy", func() bool {
		all, _ := filepath.Glob(filepath.Join(w.dir, "state", "lists", "*.crl"))
		return len(all) == 1
	})
	g.stop(syscall.SIGTERM)
	w.replace("staff.crl", before)
	w.start(config)
	if out, err := w.curl("--cert", "alice.pem", "--key", "alice.key"); err == nil || !strings.Contains(strings.ToLower(out), "revoked") {
		t.Errorf("the revoked one after a restart with an older list: %v %q", err, out)
	}
	if out, err := w.sslgate("status", "--socket", w.socket()); err != nil || !strings.Contains(out, "number 7 after number 8") || !strings.Contains(out, "not ready") {
		t.Errorf("status: %v\n%s", err, out)
	}
	info, err := os.Stat(filepath.Join(w.dir, "state"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
}
