package gateway

import (
	"context"
	"crypto"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/signer"
	"github.com/sslgate/sslgate/policy"
)

// slowKey signs only while it is let.
type slowKey struct {
	crypto.Signer
	hangs atomic.Bool
	asked atomic.Int64
	over  chan struct{}
}

func (k *slowKey) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	k.asked.Add(1)
	if k.hangs.Load() {
		<-k.over
	}
	return k.Signer.Sign(r, digest, opts)
}

// signs moves the key of a certificate into a signer.
func signs(t *testing.T, c *tls.Certificate, timeout time.Duration) *slowKey {
	t.Helper()
	key := &slowKey{Signer: c.PrivateKey.(crypto.Signer), over: make(chan struct{})}
	dir := testpki.Must(os.MkdirTemp("", "signer"))
	path := filepath.Join(dir, "s.sock")
	ln := testpki.Must(net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}))
	server := testpki.Must(signer.NewServer([]signer.Key{{Signer: key}}))
	ctx, cancel := context.WithCancel(context.Background())
	var run sync.WaitGroup
	run.Go(func() {
		if err := server.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	})
	client := signer.New(path, timeout)
	c.PrivateKey = testpki.Must(client.Remote(key.Public()))
	t.Cleanup(func() {
		client.Close()
		cancel()
		close(key.over)
		run.Wait()
		_ = os.RemoveAll(dir)
	})
	return key
}

// With the key in another process handshakes end as ever. One that hangs fails those that
// need it, in time and with its own reason, and holds up nobody else, though there is one turn.
func TestSignerThatHangs(t *testing.T) {
	for _, version := range versions {
		h := newHouse(t, mtls(), nil, func(c *Config) { c.Limits.Handshakes = 1 })
		setTickets(h.gw, &Tickets{})
		local := h.server
		key := signs(t, &h.server, testenv.Scaled(time.Second))
		put := func(spec policy.Spec) {
			s := settingsOf(h.gw)
			s.Policy = h.compile(spec)
			h.gw.Put(s)
		}
		put(mtls())
		alice, cache := h.alice(), tls.NewLRUClientSessionCache(1)
		with := func(cache tls.ClientSessionCache) func(*tls.Config) {
			return func(c *tls.Config) { c.MinVersion, c.MaxVersion, c.ClientSessionCache = version, version, cache }
		}
		try := func(cache tls.ClientSessionCache) error { return h.tryWith(alice, with(cache)) }
		if err := try(cache); err != nil || key.asked.Load() != 1 {
			t.Fatalf("%x: %v, asked %d times", version, err, key.asked.Load())
		}
		live, err := h.tlsClient(server4, alice, with(nil))
		if err != nil {
			t.Fatal(err)
		}
		key.hangs.Store(true)
		done := make(chan error, 1)
		go func() { done <- try(nil) }()
		testenv.Eventually(t, "the signer is asked", func() bool { return key.asked.Load() == 3 })
		if err := try(cache); err != nil { // asks for no signature
			t.Errorf("%x: a resumption beside a hanging signer: %v", version, err)
		}
		err = testenv.Receive(t, "the handshake ends", done)
		// Of TLS 1.2 crypto/tls says handshake_failure.
		if err == nil || !strings.Contains(err.Error(), "internal error") && !strings.Contains(err.Error(), "handshake failure") {
			t.Errorf("%x: without a signature: %v", version, err)
		}
		r := h.recordOf(reason.SignerFailed)
		if !strings.Contains(r.str("detail"), "no answer within") {
			t.Errorf("%x: detail %q", version, r.str("detail"))
		}
		h.wantsAlert(r)
		echo(t, live) // a live flow has no need of it
		_ = live.Close()
		h.server = local
		put(mtls())
		if err := try(nil); err != nil {
			t.Errorf("%x: another identity: %v", version, err)
		}
		h.stop()
	}
}

// recordOf waits for a record with a reason.
func (h *house) recordOf(code reason.Code) (found rec) {
	h.t.Helper()
	testenv.Eventually(h.t, "a record with reason "+string(code), func() bool {
		for _, r := range h.records.all(h.t) {
			if found = r; r.str("reason") == string(code) {
				return true
			}
		}
		return false
	}, func() any { return h.records.all(h.t) })
	return found
}

// wantsAlert compares the alert that a record wants with that of the list of reasons: these are
// reasons that no client of e2e's TestAlertTable can provoke.
func (h *house) wantsAlert(r rec) {
	h.t.Helper()
	want := handshake.AlertOf(reason.Code(r.str("reason"))).String()
	if got := r.str("alert_wanted"); got != want {
		h.t.Errorf("%s wants alert %q, not %q", r.str("reason"), got, want)
	}
}

// Once our own certificate has ended nobody is shown it: the flow ends with its own reason.
func TestIdentityThatHasEnded(t *testing.T) {
	for _, version := range versions {
		h := newHouse(t, mtls(), nil)
		h.server = testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(-time.Minute)})).TLS()
		s := settingsOf(h.gw)
		s.Policy = h.compile(mtls())
		h.gw.Put(s)
		err := h.tryWith(h.alice(), func(c *tls.Config) { c.MinVersion, c.MaxVersion = version, version })
		if err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("%x: %v", version, err)
		}
		h.wantsAlert(h.recordOf(reason.IdentityEnded))
		h.stop()
	}
}
