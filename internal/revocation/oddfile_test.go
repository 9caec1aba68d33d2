package revocation

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"golang.org/x/sys/unix"
)

// Named pipes, a socket and a directory in the place of lists: each is logged once, the
// last good lists stay, the other lists are loaded, and Run ends.
func TestOddFilesHoldNobodyUp(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	var places []string
	for _, name := range []string{"a.crl", "b.crl", "c.crl", "d.crl"} {
		places = append(places, file(t, dir, name, w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}})))
	}
	good := file(t, dir, "good.crl", w.crl(t, w.root, crl{number: 1}))
	log, logs := logged()
	k := checker(t, Options{Log: log, Poll: 5 * time.Millisecond}, w.authority(Soft, append(places, good)...))
	running(t, k)
	odd := func(path string, make func() error) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range places[:2] {
		odd(p, func() error { return unix.Mkfifo(p, 0o600) })
	}
	odd(places[2], func() error { return unix.Mknod(places[2], unix.S_IFSOCK|0o600, 0) })
	odd(places[3], func() error { return os.Mkdir(places[3], 0o700) })
	said := func() int {
		n := 0
		for _, e := range logs.FilterMessage("revocation list not taken").All() {
			if strings.Contains(e.ContextMap()["error"].(string), "is not a regular file") {
				n++
			}
		}
		return n
	}
	testenv.Eventually(t, "a complaint of each", func() bool { return said() == 4 })
	file(t, filepath.Dir(good), "good.crl", w.crl(t, w.root, crl{number: 2, revoked: []*x509.Certificate{w.direct.Cert}}))
	testenv.Eventually(t, "the other list", func() bool {
		return k.Check(t.Context(), peerOf(w.direct, w.root), w.now).Status == Revoked
	})
	if k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status != Revoked {
		t.Error("the lists before the pipes were forgotten")
	}
	if said() != 4 {
		t.Errorf("said %d times", said())
	}
	// A reload beside them ends, too.
	k.Reload([]Authority{w.authority(Soft, append(places, good)...)})
	if k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status != Revoked {
		t.Error("a reload forgot them")
	}
}
