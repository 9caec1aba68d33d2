package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// trustsAlone is houseConfig without a revocation list, for another CA would need one too.
func trustsAlone(more string) string {
	text := strings.Replace(houseConfig, "roots: ca.pem, crl: [staff.crl]", "roots: ca.pem", 1)
	return strings.Replace(text, "policy:", more+"\npolicy:", 1)
}

// The CAs of an authority are renewed without a reload and without another policy: clients of
// a new one get in, those of one that is gone do not and their live flows end under `reload:
// {live: reevaluate}`. What cannot be used changes nothing, and is said.
func TestAuthorityRenews(t *testing.T) {
	h := newHouse(t, func(h *house) {
		h.put("sslgate.yaml", 0o644, []byte(trustsAlone("reload: {live: reevaluate, add_roots: true}")))
	})
	trusted, policy := h.s.runtime().Trusted[0], h.s.policyID()
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA"}))
	alice, bob := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "alice"})), testpki.Must(other.Issue(testpki.Leaf{CN: "bob"}))
	write := func(text []byte) {
		t.Helper()
		h.put("next.pem", 0o644, text)
		if err := os.Rename(filepath.Join(h.dir, "next.pem"), filepath.Join(h.dir, "ca.pem")); err != nil {
			t.Fatal(err)
		}
	}
	until := func(what string, cond func() bool) {
		t.Helper()
		testenv.Eventually(t, what, func() bool { h.s.renew(t.Context(), time.Now()); return cond() })
	}
	trusts := func(n int) func() bool { return func() bool { return len(trusted.Current().Roots) == n } }
	gets := func(c *testpki.Cert, want bool, when string) {
		t.Helper()
		conn, err := h.flowOf(c)
		if (err == nil) != want {
			t.Errorf("%s: %s: %v", when, c.Cert.Subject, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}
	gets(alice, true, "first")
	gets(bob, false, "first")
	write(append(h.ca.PEM(), other.PEM()...))
	until("both are trusted", trusts(2))
	gets(alice, true, "both")
	gets(bob, true, "both")

	live, err := h.flowOf(alice)
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	for what, text := range map[string][]byte{
		"no CA certificate": testpki.CertsPEM(bob.Cert),
		"has no END line":   []byte("-----BEGIN CERTIFICATE-----\nMIIB"),
		"nobody can be":     testpki.CertsPEM(testpki.Must(testpki.NewCA(testpki.Options{CN: "Old", NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)})).Cert),
	} {
		write(text)
		until(what, func() bool { return trusted.Failed() != nil })
		if err := trusted.Failed(); !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want %q", err, what)
		}
		if ready := strings.Join(h.s.Readiness().Reasons, "\n"); !strings.Contains(ready, "the source of authority staff fails: ") || !trusts(2)() {
			t.Errorf("%s: %d roots, readiness says %q", what, len(trusted.Current().Roots), ready)
		}
		if !strings.Contains(h.metrics(), `sslgate_authority_source_failed{name="staff"} 1`) {
			t.Errorf("%s: the metric does not say so", what)
		}
		write(append(h.ca.PEM(), other.PEM()...))
		until("the files are good again", func() bool { return trusted.Failed() == nil })
	}
	h.says(live, "what cannot be used changes nothing")

	write(other.PEM())
	until("one is trusted", trusts(1))
	testenv.Eventually(t, "the live flow of the other has ended", func() bool { return h.seen.FilterMessage("live flow ended by a reload").Len() > 0 })
	gets(alice, false, "one")
	gets(bob, true, "one")
	if h.s.policyID() != policy {
		t.Error("another policy")
	}
	if files := strings.Join(h.s.runtime().Watched(), " "); strings.Contains(files, "ca.pem") {
		t.Errorf("a change of %s asks for a reload", files)
	}
}

// Half of a bundle of CAs looks like a whole one: it is read once its files are the same at two
// looks. Of the shadow's authorities too; and with `renew: false` by a reload alone.
func TestBundleIsReadOnceSettled(t *testing.T) {
	h := files(t)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA"}))
	h.put("sslgate.yaml", 0o644, []byte(trustsAlone("shadow: shadow.yaml\nreload: {add_roots: true}")))
	h.put("shadow.yaml", 0o644, []byte(trustsAlone("reload: {add_roots: true}")))
	h.put("still.yaml", 0o644, []byte(trustsAlone("reload: {renew: false}")))
	load := func(name string) *config.Runtime {
		t.Helper()
		rt, found := config.Check(filepath.Join(h.dir, name), engines.New())
		if rt == nil {
			t.Fatal(found)
		}
		return rt
	}
	rt, still := load("sslgate.yaml"), load("still.yaml")
	var w, idle renewalWatch
	look := func() (got string) {
		t.Helper()
		w.look(t.Context(), rt, zap.NewNop(), time.Now())
		for _, o := range rt.Trusted {
			got += fmt.Sprintf("%d %v ", len(o.Current().Roots), o.Shadow)
		}
		if idle.look(t.Context(), still, zap.NewNop(), time.Now()) || len(still.Trusted[0].Current().Roots) != 1 {
			t.Error("renewed though that is off")
		}
		return got
	}
	whole := append(h.ca.PEM(), other.PEM()...)
	for i, step := range []struct {
		text []byte
		want string
	}{
		{nil, "1 false 1 true "},
		{nil, "1 false 1 true "},
		{whole, "1 false 1 true "},
		{nil, "2 false 2 true "},
		{h.ca.PEM(), "2 false 2 true "}, // half of what is written now
		{append(whole, testpki.Must(testpki.NewCA(testpki.Options{CN: "Third"})).PEM()...), "2 false 2 true "},
		{nil, "3 false 3 true "},
	} {
		if step.text != nil {
			h.put("ca.pem", 0o644, step.text)
		}
		if got := look(); got != step.want {
			t.Errorf("look %d: %q, want %q", i, got, step.want)
		}
	}
	if len(rt.Trusted) != 2 || rt.Trusted[0].Shadow || !rt.Trusted[1].Shadow {
		t.Errorf("%d authorities", len(rt.Trusted))
	}
}

// A root whose key was not trusted before takes a reload, for which the watch over all files asks
// then. One that is taken out, or renewed for the same key, does not.
func TestNewRootTakesAReload(t *testing.T) {
	h := files(t)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA"}))
	h.put("sslgate.yaml", 0o644, []byte(trustsAlone("")))
	h.put("ca.pem", 0o644, append(h.ca.PEM(), other.PEM()...))
	rt, found := config.Check(filepath.Join(h.dir, "sslgate.yaml"), engines.New())
	if rt == nil {
		t.Fatal(found)
	}
	third, trusted := testpki.Must(testpki.NewCA(testpki.Options{CN: "Third CA"})), rt.Trusted[0]
	for _, step := range []struct {
		text  []byte
		roots int
		fails bool
	}{
		{append(append(h.ca.PEM(), other.PEM()...), third.PEM()...), 2, true},
		{h.ca.PEM(), 1, false},
		{append(h.ca.PEM(), other.PEM()...), 1, true}, // it was taken out, and is a new one again
	} {
		h.put("ca.pem", 0o644, step.text)
		_, err := trusted.Renew(time.Now())
		if errors.Is(err, config.ErrNewRoot) != step.fails || len(trusted.Current().Roots) != step.roots {
			t.Errorf("%d roots: %v", len(trusted.Current().Roots), err)
		}
		if watched := strings.Contains(strings.Join(rt.Watched(), " "), "ca.pem"); watched != step.fails {
			t.Errorf("the watch over all files looks at it: %v", watched)
		}
	}
}
