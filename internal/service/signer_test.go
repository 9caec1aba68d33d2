package service

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/signer"
)

// signs starts a signer, and returns what ends it.
func (h *house) signs(key signer.Key) (stop func()) {
	h.t.Helper()
	ln := testpki.Must(net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(h.dir, "s.sock"), Net: "unix"}))
	s := testpki.Must(signer.NewServer([]signer.Key{key}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := testenv.Receive(h.t, "the end of the signer", ended); err != nil {
			h.t.Error(err)
		}
	})
}

// A signer that does not answer twice in a row is a reason not to be ready, of a kind of its own:
// whether another host would help depends on where its keys are. One late answer is none.
func TestSilentSigner(t *testing.T) {
	var key signer.Key
	stop := func() {}
	h := newHouse(t, func(h *house) {
		srv := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
		chain, _, err := srv.PEM()
		if err != nil {
			t.Fatal(err)
		}
		key = signer.Key{Signer: srv.Key}
		stop = h.signs(key)
		h.put("srv.pem", 0o644, chain)
		h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "key: srv.key", `key: "signer:s.sock"`, 1)))
	})
	t.Cleanup(func() { stop() })
	_ = h.good().Close()
	alone, found := config.Check(filepath.Join(h.dir, "sslgate.yaml"), engines.New())
	if alone == nil {
		t.Fatal(found)
	}
	own := alone.Own[0] // nobody else asks its signer
	defer own.Close()
	asked := func(failed, silent bool) {
		t.Helper()
		own.Ask(t.Context())
		if (own.Failed() != nil) != failed || (own.Silent() != nil) != silent {
			t.Errorf("fails: %v, silent: %v", own.Failed(), own.Silent())
		}
	}
	asked(false, false)
	stop()
	asked(true, false)
	asked(true, true)
	causes := func() []admin.Cause {
		h.s.renew(t.Context(), time.Now())
		return h.s.Readiness().Causes
	}
	testenv.Eventually(t, "the gateway is not ready", func() bool {
		all := causes()
		return len(all) == 1 && all[0].Kind == admin.ReadyIdentity && strings.Contains(all[0].Text, "the signer of identity pay does not sign")
	}, func() any { return h.s.Readiness() })
	stop = h.signs(key)
	asked(false, false)
	testenv.Eventually(t, "it is ready again", func() bool { return len(causes()) == 0 && h.s.Readiness().Ready })
	_ = h.good().Close()
}
