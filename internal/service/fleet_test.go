package service

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/fleet/author"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/member"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// ownConfig is the part of houseConfig that stays with the gateway.
const ownConfig = `version: 1
tun: {name: test0}
capture: {interfaces: [eth1], ports: [443]}
state: state
admin: {socket: a.sock, http: "127.0.0.1:9440", token_file: token}
fleet: {root: root.json, certificate: gw.pem, source: "file:DIR/fleet", state: fleetstate, poll: 100ms}
`

// bundleConfig is the other part.
func (h *house) bundleConfig() string {
	_, rest, _ := strings.Cut(houseConfig, "authorities:")
	text := "version: 1\nauthorities:" + rest
	text = strings.Replace(text, "state: state\nadmin: {socket: a.sock, http: \"127.0.0.1:9440\", token_file: token}\n", "", 1)
	return strings.Replace(text, "key: srv.key", "key: "+filepath.Join(h.dir, "srv.key"), 1)
}

// sign publishes a configuration as the fleet's next epoch.
func (h *house) sign(text string) {
	h.t.Helper()
	file := filepath.Join(h.dir, "policy", "sslgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		h.t.Fatal(err)
	}
	_, err := author.Sign(context.Background(), filepath.Join(h.dir, "fleet"), author.SignOptions{
		Config: file, Sites: []author.Site{{Name: "berlin"}}, Keys: []string{filepath.Join(h.dir, "keys", "policy-1.key")},
		Gateway: config.StandInHost(), Engine: stdtls.New(), Now: time.Now(),
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// joinFleet makes a fleet, and the house a member of it, whose source has no bundle yet. It
// returns the house's own configuration.
func (h *house) joinFleet() *config.Config {
	t := h.t
	t.Helper()
	dir := func(name string) string { return filepath.Join(h.dir, name) }
	if err := os.Mkdir(dir("policy"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.pem", "staff.crl", "srv.pem"} {
		if err := os.Link(dir(name), dir(filepath.Join("policy", name))); err != nil {
			t.Fatal(err)
		}
	}
	testpki.Must(author.Init(dir("fleet"), author.InitOptions{Fleet: "acme", Root: author.Quorum{K: 1, N: 1}, Policy: author.Quorum{K: 1, N: 1}, Revoke: author.Quorum{K: 1, N: 1}, Kind: seal.Ed25519, KeyDir: dir("keys")}))
	h.put("root.json", 0o644, testpki.Must(os.ReadFile(dir("fleet/root/1.json"))))
	leaf := testpki.Must(h.ca.Issue(testpki.Leaf{URIs: []string{"spiffe://acme/gw/berlin/one"}}))
	chain, _, err := leaf.PEM()
	if err != nil {
		t.Fatal(err)
	}
	h.put("gw.pem", 0o644, chain)
	h.put("own.yaml", 0o644, []byte(strings.Replace(ownConfig, "DIR", h.dir, 1)))
	own, found := config.InFleet(dir("own.yaml"))
	if own == nil || config.Failed(found) {
		t.Fatalf("%v", found)
	}
	h.fleet = testpki.Must(member.OpenFiles(member.Files{Root: own.Fleet.Root, Certificate: own.Fleet.Certificate}, 0, member.Options{
		Source: own.Fleet.Source, State: own.Fleet.State, Poll: own.Fleet.Poll.Std(), Log: zaptest.NewLogger(t),
	}))
	t.Cleanup(h.fleet.Close)
	return own
}

// A signed bundle is put in force by itself, all of it or nothing; what it changes is what new flows
// meet, and what cannot be taken leaves everything as it is and says why.
func TestFleetsBundleIsPutInForce(t *testing.T) {
	var own *config.Config
	h := newHouse(t, func(h *house) { own = h.joinFleet() })
	h.put("sslgate.yaml", 0o644, []byte(strings.Replace(ownConfig, "DIR", h.dir, 1)))
	h.s.mu.Lock()
	h.s.rt.Config.Admin.HTTP, h.s.rt.Config.Fleet = "127.0.0.1:9440", own.Fleet // as if it had started so
	h.s.mu.Unlock()
	m := h.fleet
	h.sign(h.bundleConfig())
	inForce := func(epoch int64) {
		t.Helper()
		testenv.Eventually(t, "the epoch is in force", func() bool { return m.Status().Epoch == epoch }, func() any { return m.Status() })
	}
	refused := func(why seal.Reason, word string) {
		t.Helper()
		testenv.Eventually(t, "it is refused", func() bool {
			last := m.Status().Last
			return last != nil && last.Reason == why && strings.Contains(last.Detail, word)
		}, func() any { return m.Status() })
	}
	inForce(1)
	_ = h.good().Close()

	h.sign(strings.Replace(h.bundleConfig(), "    - name: pay\n", "    - name: shut\n      from: [192.0.2.1]\n      to: [\"203.0.113.0/24:443\"]\n      action: deny\n    - name: pay\n", 1))
	inForce(2)
	if c, err := h.connect("pay.example", true); err == nil {
		_ = c.Close()
		t.Error("the second epoch is in force, and a client that it denies is let in")
	}

	policy := h.s.policyID()
	h.sign(strings.Replace(h.bundleConfig(), "srv.key", "another.key", 1))
	refused(seal.RefusedCheck, "fleet:/sslgate.yaml:")
	h.sign(strings.Replace(h.bundleConfig(), "limits: {drain: 2s}", "limits: {drain: 2s, flows: 7}", 1))
	refused(seal.NeedsRestart, "limits.flows")
	if s := m.Status(); s.Epoch != 2 || s.Seen != 4 || s.Pending != 4 || h.s.policyID() != policy {
		t.Errorf("%+v", s)
	}
	said := strings.Join(h.s.Readiness().Reasons, "\n")
	for _, want := range []string{"epoch 4 of fleet acme waits for a restart", "epoch 2 of fleet acme stays in force, what its source has is refused: needs_restart: "} {
		if !strings.Contains(said, want) {
			t.Errorf("readiness does not say %q, but\n%s", want, said)
		}
	}
	if f := h.s.Status().Fleet; f == nil || f.Epoch != 2 || f.Offered != 4 || f.Pending != 4 || f.Site != "berlin" || !f.Fresh || f.Refused == "" {
		t.Errorf("%+v", f)
	}
	if f := h.s.fleetMetrics()(); f.InForce != 2 || f.Offered != 4 || f.Refused["refused_by_check"] == 0 {
		t.Errorf("%+v", f)
	}
	if _, v, err := m.Good(); err != nil || v.Manifest.Epoch != 2 {
		t.Errorf("the last good one is %+v, %v", v, err)
	}
	h.sign(h.bundleConfig())
	inForce(5)
	_ = h.good().Close()
}

// What the fleet revokes ends live flows and refuses new ones; nobody else is touched.
func TestFleetRevokes(t *testing.T) {
	h := newHouse(t, func(h *house) { h.joinFleet() })
	alice := h.good()
	r := &bundle.Revoked{Fleet: "acme", Number: 1, Serials: []string{}, Keys: []string{}, Subjects: []string{}}
	if err := r.Add("CN=bob"); err != nil {
		t.Fatal(err)
	}
	h.s.deny(&bundle.SignedRevoked{Revoked: r})
	_ = h.good().Close()
	if _, err := alice.Write([]byte("x")); err != nil {
		t.Errorf("the flow of another client has ended: %v", err)
	}
	if _, err := io.ReadFull(alice, make([]byte, 1)); err != nil {
		t.Errorf("the flow of another client has ended: %v", err)
	}
	dir := filepath.Join(h.dir, "fleet")
	testpki.Must(author.Revoke(dir, author.RevokeOptions{Entries: []string{"CN=alice"}, Keys: []string{filepath.Join(h.dir, "keys", "revoke-1.key")}}))
	if _, err := alice.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a live flow of a revoked client goes on: %v", err)
	}
	testenv.Eventually(t, "it is logged", func() bool {
		return h.seen.FilterField(zap.String("reason", "client_certificate_revoked")).Len() == 1
	})
	c, err := h.connect("pay.example", true, true)
	if err == nil {
		_, err = c.Read(make([]byte, 1)) // TLS 1.3: the refusal comes with the first read
		_ = c.Close()
	}
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a revoked client is not refused: %v", err)
	}
	testenv.Eventually(t, "there is a record of the refusal", func() bool {
		f := adminAll
		f.Reason = reason.Revoked
		return len(h.s.hub.Recent(f, 10)) == 1
	})
}
