package service

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// renewed is a house whose identity stands in a directory as Kubernetes mounts a secret: each
// version in a directory of its own, ..data a link to it that is swapped.
type renewed struct {
	*house
	t       *testing.T
	version int
	issued  map[string]bool // the leaves that were put whole, in DER
	mu      sync.Mutex
}

func newRenewed(t *testing.T, engine string) *renewed {
	r := &renewed{t: t, issued: map[string]bool{}}
	r.house = newHouse(t, func(h *house) {
		r.house = h
		if err := os.MkdirAll(r.at("tls"), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"tls.crt", "tls.key"} {
			if err := os.Symlink(filepath.Join("..data", name), r.at("tls", name)); err != nil {
				t.Fatal(err)
			}
		}
		r.swap(r.leaf(testpki.Leaf{}))
		text := strings.Replace(houseConfig, "certificate: srv.pem, key: srv.key", "certificate: tls/tls.crt, key: tls/tls.key", 1)
		if err := os.WriteFile(r.at("sslgate.yaml"), []byte(lab.WithEngine(text, engine)), 0o644); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

func (r *renewed) at(parts ...string) string {
	return filepath.Join(append([]string{r.dir}, parts...)...)
}

// leaf issues a certificate of the identity, which may be shown from now on.
func (r *renewed) leaf(l testpki.Leaf) *testpki.Cert {
	r.t.Helper()
	if l.DNS == nil {
		l.DNS = []string{"pay.example"}
	}
	c := testpki.Must(r.ca.Issue(l))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.issued[string(c.Cert.Raw)] = true
	return c
}

func (r *renewed) known(raw []byte) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.issued[string(raw)]
}

func (r *renewed) write(path string, mode os.FileMode, text []byte) {
	r.t.Helper()
	if err := os.WriteFile(path, text, mode); err != nil {
		r.t.Fatal(err)
	}
}

// rename replaces a file as careful programs do.
func (r *renewed) rename(name string, text []byte) {
	r.t.Helper()
	r.write(r.at("next"), 0o600, text)
	if err := os.Rename(r.at("next"), name); err != nil {
		r.t.Fatal(err)
	}
}

// swap puts a whole version in place, at one moment.
func (r *renewed) swap(c *testpki.Cert) {
	r.t.Helper()
	r.version++
	dir := fmt.Sprintf("..%d", r.version)
	if err := os.Mkdir(r.at("tls", dir), 0o755); err != nil {
		r.t.Fatal(err)
	}
	chain, key, err := c.PEM()
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(r.at("tls", dir, "tls.crt"), 0o644, chain)
	r.write(r.at("tls", dir, "tls.key"), 0o600, key)
	if err := os.Symlink(dir, r.at("tls", "..data_tmp")); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.at("tls", "..data_tmp"), r.at("tls", "..data")); err != nil {
		r.t.Fatal(err)
	}
}

// byHalves puts a version in place file by file, the gateway looking after each, and before
// that half a file.
func (r *renewed) byHalves(c *testpki.Cert, keyFirst bool) {
	r.t.Helper()
	chain, key, err := c.PEM()
	if err != nil {
		r.t.Fatal(err)
	}
	dir := r.at("tls", fmt.Sprintf("..%d", r.version))
	first, second := func() { r.rename(filepath.Join(dir, "tls.crt"), chain) }, func() { r.rename(filepath.Join(dir, "tls.key"), key) }
	if keyFirst {
		first, second = second, first
	}
	r.write(filepath.Join(dir, "tls.crt"), 0o644, chain[:len(chain)/2])
	r.s.renew(r.t.Context(), time.Now())
	if r.s.runtime().Own[0].Failed() == nil {
		r.t.Error("half a certificate is taken for one")
	}
	first()
	r.s.renew(r.t.Context(), time.Now())
	second()
}

// shown does a handshake and returns what was shown, and whether it was a resumption.
func (r *renewed) shown(cache tls.ClientSessionCache, version uint16) (leaf *x509.Certificate, resumed bool, err error) {
	raw, err := r.client.Dial(testenv.Context(r.t), houseServer)
	if err != nil {
		return nil, false, err
	}
	defer raw.Close()
	_ = raw.SetDeadline(testenv.Deadline())
	alice := r.alice()
	conn := tls.Client(raw, &tls.Config{
		RootCAs: r.ca.Pool(), ServerName: "pay.example", ClientSessionCache: cache, MinVersion: version, MaxVersion: version,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return alice, nil },
	})
	if _, err = conn.Write([]byte("hello")); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 5))
	}
	if err != nil {
		return nil, false, err
	}
	s := conn.ConnectionState()
	return s.PeerCertificates[0], s.DidResume, nil
}

func (r *renewed) alice() *tls.Certificate {
	cert := testpki.Must(r.ca.Issue(testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})).TLS()
	return &cert
}

// Files that renew, in each way that files are replaced, under load and with both engines: no
// handshake fails, none is shown half of a pair, the policy stays the same and so do tickets of
// before; and what is shown, listed and measured is the newest certificate.
func TestRenewalUnderLoad(t *testing.T) {
	for _, engine := range []string{"std", "native"} {
		t.Run(engine, func(t *testing.T) {
			r := newRenewed(t, engine)
			policy := r.s.policyID()
			old := tls.NewLRUClientSessionCache(1)
			if _, resumed, err := r.shown(old, tls.VersionTLS12); err != nil || resumed {
				t.Fatal(resumed, err)
			}
			var stop atomic.Bool
			var load sync.WaitGroup
			var handshakes, resumptions atomic.Int64
			for i := range 4 {
				version := []uint16{tls.VersionTLS12, tls.VersionTLS13}[i%2]
				load.Go(func() {
					var cache tls.ClientSessionCache
					if i >= 2 {
						cache = tls.NewLRUClientSessionCache(1)
					}
					for !stop.Load() {
						leaf, resumed, err := r.shown(cache, version)
						if err != nil {
							t.Errorf("a handshake failed: %v", err)
							return
						}
						if !resumed && !r.known(leaf.Raw) {
							t.Errorf("a certificate was shown that nobody issued: %s", leaf.Subject)
						}
						if handshakes.Add(1); resumed {
							resumptions.Add(1)
						}
					}
				})
			}
			var last *testpki.Cert
			for i := range 12 {
				begun := handshakes.Load()
				last = r.leaf(testpki.Leaf{CN: fmt.Sprint("renewed ", i), NotAfter: time.Now().Add(time.Duration(i+1) * time.Hour)})
				switch i % 3 {
				case 0:
					r.swap(last)
				case 1:
					r.byHalves(last, false)
				case 2:
					r.byHalves(last, true)
				}
				r.s.renew(r.t.Context(), time.Now())
				if err := r.s.runtime().Own[0].Failed(); err != nil {
					t.Fatalf("renewal %d: %v", i, err)
				}
				testenv.Eventually(t, "handshakes go on", func() bool { return t.Failed() || handshakes.Load() > begun+4 })
				// A look of the gateway's own that began before the renewal stands in the way of this one's.
				testenv.Eventually(t, "the change is logged", func() bool {
					r.s.lookForChanges()
					return r.seen.FilterMessage("certificate changed").Len() == i+1
				})
			}
			stop.Store(true)
			load.Wait()
			if resumptions.Load() == 0 {
				t.Error("nobody resumed")
			}
			leaf, _, err := r.shown(nil, tls.VersionTLS13)
			if err != nil || !bytes.Equal(leaf.Raw, last.Cert.Raw) {
				t.Errorf("the newest certificate is not shown: %v", err)
			}
			if _, resumed, err := r.shown(old, tls.VersionTLS12); err != nil || !resumed {
				t.Errorf("a ticket from before twelve renewals: resumed %v, %v", resumed, err)
			}
			if r.s.policyID() != policy {
				t.Error("a renewal made another policy")
			}
			want := fmt.Sprintf(`sslgate_certificate_expiry_timestamp_seconds{kind="identity",name="pay"} %v`, float64(last.Cert.NotAfter.Unix()))
			if text := r.metrics(); !strings.Contains(text, want) || !strings.Contains(text, `sslgate_identity_source_failed{name="pay"} 0`) {
				t.Errorf("the metrics lack %s", want)
			}
			if logged := r.seen.FilterMessage("certificate changed").Len(); logged != 12 {
				t.Errorf("%d changes are logged", logged)
			}
		})
	}
}

func (h *house) metrics() string {
	h.t.Helper()
	_, body := h.ask("GET", "/metrics", "", nil)
	return string(body)
}

// What stands in the files and cannot be used is said, with the hours left: in the readiness,
// the metric and the log, there once an hour near the end. The certificate before stays. What a
// renewal may not change waits for a reload, and the watch over all files asks for one.
func TestRenewalThatFails(t *testing.T) {
	r := newRenewed(t, "std")
	first := r.leaf(testpki.Leaf{CN: "first", NotAfter: time.Now().Add(30*time.Hour + 41*time.Minute)}) // within an hour of the log for the half hour below
	r.swap(first)
	r.s.renew(r.t.Context(), time.Now())
	r.seen.TakeAll()
	own := r.s.runtime().Own[0]
	thief := testpki.Must(testpki.NewKey(testpki.P256))
	for what, c := range map[string]struct {
		cert *testpki.Cert
		said string
	}{
		"another key":         {&testpki.Cert{Cert: first.Cert, Chain: r.leaf(testpki.Leaf{}).Chain, Key: thief}, "does not belong to"},
		"one that has ended":  {testpki.Must(r.ca.Expired(testpki.Leaf{DNS: []string{"pay.example"}})), "expired on"},
		"one of the future":   {testpki.Must(r.ca.NotYetValid(testpki.Leaf{DNS: []string{"pay.example"}})), "not valid before"},
		"another name":        {r.leaf(testpki.Leaf{DNS: []string{"pay.example", "more.example"}}), "another kind of certificate: ECDSA P-256 for dns:more.example, dns:pay.example instead of ECDSA P-256 for dns:pay.example"},
		"another kind of key": {r.leaf(testpki.Leaf{Key: testpki.P384}), "another kind of certificate: ECDSA P-384"},
	} {
		r.swap(c.cert)
		r.s.renew(r.t.Context(), time.Now())
		if err := own.Failed(); err == nil || !strings.Contains(err.Error(), c.said) {
			t.Errorf("%s: %v", what, err)
		}
		if leaf, _, err := r.shown(nil, tls.VersionTLS13); err != nil || !bytes.Equal(leaf.Raw, first.Cert.Raw) {
			t.Errorf("%s: the certificate before is not shown: %v", what, err)
		}
		ready := strings.Join(r.s.Readiness().Reasons, "\n")
		if !strings.Contains(ready, "the source of identity pay fails: ") || !strings.Contains(ready, "the certificate in use has 30.6 hours left") {
			t.Errorf("%s: readiness says %q", what, ready)
		}
		if !strings.Contains(r.metrics(), `sslgate_identity_source_failed{name="pay"} 1`) {
			t.Errorf("%s: the metric does not say so", what)
		}
		if ids := r.s.Status().Identities; len(ids) != 1 || ids[0].Name != "pay" || ids[0].Source != "files" || ids[0].HoursLeft != 30.6 || !strings.Contains(ids[0].Error, c.said) {
			t.Errorf("%s: the status says %+v", what, ids)
		}
		// The gateway looks too, and may do so while the files change: that is another error.
		warned := r.seen.FilterMessageSnippet("the source of an identity fails").Filter(func(e observer.LoggedEntry) bool {
			said, _ := e.ContextMap()["error"].(string)
			return strings.Contains(said, c.said)
		}).All()
		if len(warned) != 1 || warned[0].Level != zap.WarnLevel || warned[0].ContextMap()["hours_left"] == nil {
			t.Errorf("%s: logged %v", what, warned)
		}
		r.seen.TakeAll()
		files := strings.Join(r.s.runtime().Watched(), " ")
		if other := strings.HasPrefix(c.said, "another kind"); strings.Contains(files, "tls.crt") != other {
			t.Errorf("%s: the watch over all files looks at %s", what, files)
		}
	}
	r.swap(r.leaf(testpki.Leaf{Key: testpki.P384})) // of no use at any hour
	r.s.renew(r.t.Context(), time.Now())
	r.seen.TakeAll()
	for i := range 4 {
		r.s.renew(r.t.Context(), time.Now().Add(time.Duration(i)*10*time.Minute))
	}
	if n := r.seen.FilterMessageSnippet("the source of an identity fails").Len(); n > 0 {
		t.Errorf("half an hour has %d warnings", n)
	}
	r.s.renew(r.t.Context(), time.Now().Add(time.Hour))
	if r.seen.FilterMessageSnippet("the source of an identity fails").Len() == 0 {
		t.Error("an hour later it is not said again")
	}
	r.swap(first)
	r.s.renew(r.t.Context(), time.Now())
	testenv.Eventually(t, "good files are used again", func() bool {
		r.s.renew(r.t.Context(), time.Now())
		return !strings.Contains(strings.Join(r.s.Readiness().Reasons, "\n"), "of identity pay fails")
	})
}
