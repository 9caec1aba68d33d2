package member

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/writefile"
)

// An sslgate that is older than the one before does not use a bundle that is not for it.
func TestMinVersionAtARestart(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	o.publish(1, func(m *bundle.Manifest) { m.MinVersion = "1.2.0" })
	g.looks(1)
	g.opt.Version = "1.1.9"
	g.start()
	if _, v, err := g.Good(); seal.ReasonOf(err) != seal.TooNew || v != nil {
		t.Errorf("%+v, %v", v, err)
	}
	g.opt.Version = "1.2.0"
	g.start()
	if _, v, err := g.Good(); err != nil || v == nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// A manifest of the form before says so, from the source and from the state directory.
func TestNumericRollback(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	o.publish(1)
	g.looks(1)
	body := []byte(strings.Replace(string(testpki.Must(seal.Canonical(o.manifest(2)))), `"rollback_to":[]`, `"rollback_to":[1]`, 1))
	o.put(bundle.HeadName, o.sign(seal.NewEnvelope(seal.TypePolicy, body), o.policy[:2]...))
	g.refuses("numbers alone", seal.Unreadable)
	if said := g.Status().Last.Detail; !strings.Contains(said, "epoch 2") || !strings.Contains(said, "Sign the configuration anew") {
		t.Errorf("%s", said)
	}
}

// What a crash has left half written goes once nobody can be writing it any more.
func TestHalvesAreSwept(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	g.Close()
	old, young := filepath.Join(g.state, blobsDir, writefile.TempPrefix+"1"), filepath.Join(g.state, writefile.TempPrefix+"2")
	old2 := filepath.Join(g.state, writefile.TempPrefix+"3")
	for _, name := range []string{old, old2, young} {
		if err := os.WriteFile(name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * halfAfter)
	for _, name := range []string{old, old2} {
		if err := os.Chtimes(name, long, long); err != nil {
			t.Fatal(err)
		}
	}
	g.Member = nil
	g.start()
	for name, want := range map[string]bool{old: false, old2: false, young: true} {
		if _, err := os.Lstat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An unchanged list is not sent again, and a CA that was replaced counts without a restart.
func TestListByETagAndANewCA(t *testing.T) {
	o, _, list := revokes(t)
	old, now := testpki.Must(testpki.NewCA(testpki.Options{})), testpki.Must(testpki.NewCA(testpki.Options{}))
	var asked, bodies atomic.Int64
	files := http.FileServer(http.Dir(o.dir))
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, err := os.ReadFile(filepath.Join(o.dir, filepath.FromSlash(r.URL.Path))); err == nil && r.URL.Path == "/"+bundle.RevokedName {
			asked.Add(1)
			w.Header().Set("ETag", fmt.Sprintf("%q", bundle.Sum(text)))
			if r.Header.Get("If-None-Match") != fmt.Sprintf("%q", bundle.Sum(text)) {
				bodies.Add(1)
			}
		}
		files.ServeHTTP(w, r)
	})
	var shown atomic.Pointer[tls.Certificate]
	serve := func(ca *testpki.CA) {
		pair := testpki.Must(ca.Issue(testpki.Leaf{IPs: []string{"127.0.0.1"}})).TLS()
		shown.Store(&pair)
	}
	serve(old)
	srv := httptest.NewUnstartedServer(handler)
	srv.Config.SetKeepAlivesEnabled(false) // each look is a handshake
	srv.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*shown.Load()}, MinVersion: tls.VersionTLS13}, nil
	}}
	srv.StartTLS()
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "ca.pem")
	write := func(ca *testpki.CA) {
		t.Helper()
		_, _, err := ca.WritePEM(filepath.Dir(file), "ca")
		if err != nil {
			t.Fatal(err)
		}
	}
	write(old)
	cred, err := ReadCredentials(Files{CA: file})
	if err != nil {
		t.Fatal(err)
	}
	o.publish(1)
	g := o.gate("berlin", func(opt *Options) { opt.Source, opt.Credentials = srv.URL, cred })
	g.looks(1)
	o.put(bundle.RevokedName, list(1, "", "a"))
	for range 3 {
		g.LookForRevoked(t.Context())
	}
	if asked.Load() != 3 || bodies.Load() != 1 || g.Revoked() == nil || g.Status().LastRevoked != nil {
		t.Errorf("asked %d times, sent %d times: %+v", asked.Load(), bodies.Load(), g.Status())
	}
	o.put(bundle.RevokedName, list(2, "", "a", "b"))
	g.LookForRevoked(t.Context())
	if r := g.Revoked(); r == nil || r.Number != 2 {
		t.Errorf("%+v", r)
	}
	serve(now)
	o.publish(2)
	g.refuses("a server of a CA that is not known yet", seal.Unreachable)
	write(now)
	g.looks(2)
	serve(old)
	o.publish(3)
	g.refuses("a server of the CA that was replaced", seal.Unreachable)
}
