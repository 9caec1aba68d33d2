package service

import (
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/pebble"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// busyCA is a CA that answers every request in the same way, and the file with its CA.
func busyCA(t *testing.T, answer http.HandlerFunc) (directory, roots string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		answer(w, r)
	}))
	t.Cleanup(s.Close)
	roots = t.TempDir() + "/roots.pem"
	if err := os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o644); err != nil {
		t.Fatal(err)
	}
	return s.URL, roots, asked
}

// acmeIdentity is the configuration of an identity that is ordered.
func acmeIdentity(directory, roots, names string) string {
	return fmt.Sprintf("acme: {directory: %q, names: [%s], agree_terms: true, roots: %q}", directory, names, roots)
}

// withIdentities is the configuration of the house with these identities: the first is that of its
// rule.
func withIdentities(all ...string) string {
	var lines []string
	for i, id := range all {
		name := "pay"
		if i > 0 {
			name = fmt.Sprint("more", i)
		}
		lines = append(lines, "  "+name+": {"+id+"}")
	}
	return strings.Replace(houseConfig, "  pay: {certificate: srv.pem, key: srv.key}", strings.Join(lines, "\n"), 1)
}

// A CA that hangs holds up no order of another CA, also of an identity that comes later.
func TestCAThatHangsHoldsUpNoOther(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	hanging, hangingRoots, asked := busyCA(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	port, begin := byBridge(t)
	ca := pebble.Start(t, pebble.Options{TLSPort: port})
	one := acmeIdentity(hanging, hangingRoots, "pay.example")
	h := newHouse(t, func(h *house) { h.put("sslgate.yaml", 0o644, []byte(withIdentities(one))) })
	begin(h)
	testenv.Eventually(t, "the CA that hangs is asked", func() bool { return asked.Load() > 0 })
	h.put("sslgate.yaml", 0o644, []byte(withIdentities(one, acmeIdentity(ca.Directory, ca.Roots, "shop.example"),
		acmeIdentity(hanging, hangingRoots, "a.example"))))
	h.asWritten("")
	h.reload(true, "")
	own := func(name string) int {
		for i, o := range h.s.runtime().Own {
			if o.Name == name {
				return i
			}
		}
		t.Fatalf("no identity %s", name)
		return 0
	}
	shop := h.s.runtime().Own[own("more1")]
	testenv.Eventually(t, "the other CA's certificate has come", func() bool {
		// A validator has no patience. An order that is under way may bring it yet.
		if err := shop.Failed(); err != nil && strings.Contains(err.Error(), "ACME") && unlocked(shop) {
			forget(t, shop)
			h.s.obtain(t.Context(), shop, &ordering{})
		}
		return shop.Leaf() != nil
	}, func() any { return shop.Failed() })
}

// No more than some orders are under way with one CA, and one for each identity; another CA has
// places of its own. One under way of what is not wanted any more is cancelled.
func TestOrdersAtOnce(t *testing.T) {
	dir := t.TempDir()
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	load := func(names ...string) map[string]*config.Own {
		t.Helper()
		text := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: ca.pem}}\nstate: state\nidentities:\n"
		for _, name := range names {
			directory, _, _ := strings.Cut(name, ".")
			text += fmt.Sprintf("  %s: {%s}\n", strings.ReplaceAll(name, ".", "-"), acmeIdentity("https://"+directory+".example/dir", "ca.pem", name+".example"))
		}
		text += "policy:\n  rules:\n    - {name: r, to: ['10.0.0.0/8:443'], action: deny}\n"
		if err := errors.Join(os.WriteFile(dir+"/ca.pem", ca.PEM(), 0o644), os.WriteFile(dir+"/sslgate.yaml", []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
		rt, found := config.Check(dir+"/sslgate.yaml", stdtls.New())
		if rt == nil {
			t.Fatal(found)
		}
		all := map[string]*config.Own{}
		for _, o := range rt.Own {
			all[o.Name] = o
		}
		return all
	}
	own, seen, svc := load("a.one", "a.two", "a.three", "b.one"), &orders{}, &Service{log: zap.NewNop()}
	begin := func(name string, want bool) *begun {
		t.Helper()
		b := seen.begin(t.Context(), svc, own[name])
		if (b != nil) != want {
			t.Errorf("%s is ordered: %v", name, b != nil)
		}
		return b
	}
	first := begin("a-one", true)
	begin("a-one", false)
	second := begin("a-two", true)
	begin("a-three", false)
	begin("b-one", true).end()
	first.end()
	third := begin("a-three", true)
	own = load("b.two") // another configuration, with a file of the same name
	own["a-two"] = own["b-two"]
	own["a-two"].Order().File = second.file(t, seen)
	begin("a-two", false)
	if second.ctx.Err() == nil {
		t.Error("an order of what is not wanted any more goes on")
	}
	if third.ctx.Err() != nil {
		t.Error("another order was cancelled")
	}
	second.end()
	third.end()
	begin("a-two", true).end()
}

// file is that of the order under way.
func (b *begun) file(t *testing.T, seen *orders) string {
	t.Helper()
	for file, v := range seen.by {
		if v == b.v {
			return file
		}
	}
	t.Fatal("it is not under way")
	return ""
}

// How long a CA wants to be left alone outlives a restart, and what it says too. What is remembered
// and cannot be used delays an order, once. Another process that orders is left alone, and what it
// has brought is taken in the place of an order.
func TestOrdersOverARestart(t *testing.T) {
	directory, roots, asked := busyCA(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7200")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	h := newHouse(t, func(h *house) {
		h.put("sslgate.yaml", 0o644, []byte(withIdentities(acmeIdentity(directory, roots, "pay.example"))))
	})
	own := h.s.runtime().Own[0]
	testenv.Eventually(t, "the CA is asked", func() bool { return asked.Load() > 0 })
	testenv.Eventually(t, "it is remembered", func() bool {
		_, err := os.Stat(memoryOf(own))
		return err == nil
	})
	testenv.Eventually(t, "nobody orders", func() bool { return unlocked(own) })
	if n := asked.Load(); n != 1 {
		t.Errorf("a CA that limits was asked %d times", n)
	}
	restarted := &ordering{}
	if h.s.isDue(own, restarted, time.Now()) || restarted.err == nil || !strings.Contains(restarted.err.Error(), "429") {
		t.Errorf("after a restart: due %v, %v", restarted.due, restarted.err)
	}
	if wait := time.Until(restarted.due); wait < time.Hour || wait > 2*time.Hour*5/4 {
		t.Errorf("after a restart it is asked in %s", wait)
	}
	restarted.due = time.Unix(1, 0)
	h.s.obtain(t.Context(), own, restarted)
	if n := asked.Load(); n != 1 {
		t.Errorf("after a restart it was asked again: %d times", n)
	}

	h.put("state/acme/pay.order/memory.json", 0o600, []byte("half of i"))
	corrupt := &ordering{}
	if h.s.isDue(own, corrupt, time.Now()) || time.Until(corrupt.due) > orderFirst {
		t.Errorf("with a memory that cannot be used: due %v", corrupt.due)
	}
	release, err := own.Order().Lock()
	if err != nil {
		t.Fatal(err)
	}
	corrupt.due = time.Unix(1, 0)
	h.s.obtain(t.Context(), own, corrupt)
	if n := asked.Load(); n != 1 || !corrupt.other {
		t.Errorf("beside another process that orders it was asked: %d times", n)
	}
	release()
	h.s.obtain(t.Context(), own, corrupt)
	if n := asked.Load(); n != 2 {
		t.Errorf("after the delay it was asked %d times", n)
	}

	// One that cannot remember does not order.
	forgotten(t, own)
	if err := os.Mkdir(memoryOf(own), 0o700); err != nil {
		t.Fatal(err)
	}
	full := &ordering{unknown: true, due: time.Unix(1, 0)}
	h.s.obtain(t.Context(), own, full)
	if n := asked.Load(); n != 2 || full.err == nil || !full.due.After(time.Now()) {
		t.Errorf("without a memory it was asked %d times: %v", n, full.err)
	}
	// One that was not finished is not begun again at once.
	forgotten(t, own)
	if err := own.Order().Remember((&ordering{}).begins(time.Now(), 0)); err != nil {
		t.Fatal(err)
	}
	if crashed := (&ordering{}); h.s.isDue(own, crashed, time.Now()) || crashed.err == nil || !strings.Contains(crashed.err.Error(), "not finished") {
		t.Errorf("after a crash: due %v, %v", crashed.due, crashed.err)
	}

	// Another process was quicker.
	forgotten(t, own)
	c := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
	chain, key, err := c.PEM()
	if err != nil {
		t.Fatal(err)
	}
	late := &ordering{due: time.Unix(1, 0)}
	h.put("state/acme/pay.pem", 0o600, append(key, chain...))
	h.s.obtain(t.Context(), own, late)
	if n := asked.Load(); n != 2 {
		t.Errorf("what another process has ordered was ordered again: asked %d times", n)
	}
	if !c.Cert.Equal(own.Leaf()) {
		t.Error("what another process has ordered is not taken")
	}
}
