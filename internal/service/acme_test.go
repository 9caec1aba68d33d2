package service

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/pebble"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// byBridge leads connections to a port of loopback into the network of the house, as a
// validator's would come. Until h is set they wait.
func byBridge(t *testing.T) (port int, begin func(*house)) {
	t.Helper()
	ln := testpki.Must(net.Listen("tcp", "127.0.0.1:0"))
	ready := make(chan *house, 1)
	var run sync.WaitGroup
	run.Go(func() {
		h, ok := <-ready
		if !ok {
			return
		}
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			run.Go(func() {
				defer func() { _ = near.Close() }()
				far, err := h.client.Dial(testenv.Context(t), houseServer)
				if err != nil {
					return
				}
				defer func() { _ = far.Close() }()
				run.Go(func() { _, _ = io.Copy(far, near) })
				_, _ = io.Copy(near, far)
			})
		}
	})
	t.Cleanup(func() {
		close(ready)
		_ = ln.Close()
		run.Wait()
	})
	return ln.Addr().(*net.TCPAddr).Port, func(h *house) { ready <- h }
}

// unlocked says whether nobody orders the certificate: then the order before is remembered too.
func unlocked(own *config.Own) bool {
	release, err := own.Order().Lock()
	if err != nil {
		return false
	}
	release()
	return true
}

// forgotten has nothing remembered of an order, once nobody orders.
func forgotten(t *testing.T, own *config.Own) {
	t.Helper()
	testenv.Eventually(t, "nobody orders", func() bool { return unlocked(own) })
	forget(t, own)
}

// forget has nothing remembered of an order.
func forget(t *testing.T, own *config.Own) {
	t.Helper()
	if err := os.Remove(memoryOf(own)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

func memoryOf(own *config.Own) string {
	return filepath.Join(strings.TrimSuffix(own.Order().File, ".pem")+".order", "memory.json")
}

// The gateway orders the certificate of an identity from a real CA, and answers its validator by
// itself, though no rule lets it pass. Until the certificate is there handshakes fail for that
// reason. It is renewed with the same policy; with the CA gone that is said, nothing else
// happens, and the certificate lives on over a restart.
func TestACME(t *testing.T) {
	port, begin := byBridge(t)
	ca := pebble.Start(t, pebble.Options{TLSPort: port})
	var dir string
	h := newHouse(t, func(h *house) {
		dir = h.dir
		text := strings.Replace(houseConfig, "certificate: srv.pem, key: srv.key", fmt.Sprintf(
			"acme: {directory: %q, names: [pay.example], agree_terms: true, roots: %q}", ca.Directory, ca.Roots), 1)
		h.put("sslgate.yaml", 0o644, []byte(text))
	})
	policy, own := h.s.policyID(), h.s.runtime().Own[0]
	begin(h)
	shown := func() []byte {
		t.Helper()
		raw, err := h.client.Dial(testenv.Context(t), houseServer)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = raw.Close() }()
		_ = raw.SetDeadline(testenv.Deadline())
		alice := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "alice", DNS: []string{"alice.example"}})).TLS()
		conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, ServerName: "pay.example", Certificates: []tls.Certificate{alice}})
		if _, err := conn.Write([]byte("x")); err != nil {
			return nil
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			return nil
		}
		return conn.ConnectionState().PeerCertificates[0].Raw
	}
	first, v := []byte(nil), &ordering{}
	// again orders at once, whatever is remembered, unless somebody else does.
	again := func() {
		t.Helper()
		forget(t, own)
		*v = ordering{of: own.Leaf(), due: time.Unix(1, 0)}
		h.s.obtain(t.Context(), own, v)
	}
	testenv.Eventually(t, "the ordered certificate is shown", func() bool {
		// A validator has no patience. An order that is under way may bring it yet.
		if err := own.Failed(); err != nil && strings.Contains(err.Error(), "ACME") && unlocked(own) {
			again()
		}
		first = shown()
		return first != nil
	}, func() any { return own.Failed() })
	testenv.Eventually(t, "the renewal is logged", func() bool { return h.seen.FilterMessage("identity renewed").Len() > 0 })
	file := filepath.Join(dir, "state", "acme", "pay.pem")
	if info := testpki.Must(os.Stat(file)); info.Mode().Perm() != 0o600 {
		t.Errorf("%s has mode %04o", file, info.Mode().Perm())
	}

	// Another one is ordered once it is due, and not before: nor so soon after the last one.
	testenv.Eventually(t, "nobody orders", func() bool { return unlocked(own) })
	*v = ordering{}
	h.s.obtain(t.Context(), own, v)
	v.due = time.Unix(1, 0)
	h.s.obtain(t.Context(), own, v)
	if second := shown(); !bytes.Equal(first, second) {
		t.Error("a certificate was ordered before it was due")
	}
	if wait := time.Until(v.due); wait > orderLeast || wait < orderLeast/2 {
		t.Errorf("the next one may be ordered in %s", wait)
	}
	testenv.Eventually(t, "nobody orders", func() bool { return unlocked(own) })
	again()
	second := shown()
	if second == nil || bytes.Equal(first, second) {
		t.Error("the certificate was not renewed")
	}
	if h.s.policyID() != policy {
		t.Error("a renewal made another policy")
	}

	ca.Stop()
	testenv.Eventually(t, "nobody orders", func() bool { return unlocked(own) })
	again()
	if v.wait != orderFirst {
		t.Errorf("after an outage the next order is in %s", v.wait)
	}
	testenv.Eventually(t, "the outage is said", func() bool {
		own.Ordered(v.err) // the service's own orders say now and then that theirs went well
		err := own.Failed()
		return err != nil && strings.Contains(err.Error(), "connection refused") &&
			strings.Contains(strings.Join(h.s.Readiness().Reasons, "\n"), "hours left") &&
			strings.Contains(h.metrics(), `sslgate_identity_source_failed{name="pay"} 1`)
	}, func() any { return fmt.Sprint(own.Failed(), h.s.Readiness()) })
	if !bytes.Equal(shown(), second) {
		t.Error("an outage has an effect on handshakes")
	}
	// A reload, as a restart, reads what is on the disk.
	h.asWritten("")
	h.reload(true, "")
	if !bytes.Equal(shown(), second) || h.s.policyID() != policy {
		t.Error("after a reload another certificate is shown, or the policy is another one")
	}
	testenv.Eventually(t, "a flow has ended with the validator's reason", func() bool {
		return strings.Contains(h.metrics(), fmt.Sprintf("reason=%q", string(reason.ACMEChallenge)))
	})
}

// A certificate is renewed at two thirds of its life, some earlier by chance, and one that is
// missing at once. A CA that cannot be asked is asked again ever less often, and in time.
func TestWhenOrdersAreDue(t *testing.T) {
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	to := from.AddDate(0, 0, 90)
	for chance, want := range map[float64]time.Duration{0: 60 * 24 * time.Hour, 1: (60*24 - 180) * time.Hour} {
		if got := renewAt(&x509.Certificate{NotBefore: from, NotAfter: to}, chance).Sub(from); got != want {
			t.Errorf("chance %v: %s, want %s", chance, got, want)
		}
	}
	if due := renewAt(nil, 0.5); due.After(from) {
		t.Errorf("what is missing is due at %s", due)
	}
	var v ordering
	var waits []time.Duration
	for range 12 {
		v.failed(io.EOF, from, to.Sub(from))
		waits = append(waits, v.wait)
		if d := v.due.Sub(from); d < v.wait || d > v.wait*5/4 {
			t.Errorf("due after %s with a wait of %s", d, v.wait)
		}
	}
	if waits[0] != orderFirst || waits[1] != 2*orderFirst || waits[11] != orderMost {
		t.Errorf("%v", waits)
	}
	var limited ordering
	for i, want := range []time.Duration{limitedFirst, 2 * limitedFirst, 4 * limitedFirst, 8 * limitedFirst, 16 * limitedFirst, orderRest, orderRest} {
		limited.failed(&acmeclient.RetryAfter{}, from, to.Sub(from))
		if d := limited.due.Sub(from); d < want || d > want*5/4 {
			t.Errorf("limited for the %dth time: due after %s, want %s", i+1, d, want)
		}
	}
	said := ordering{}
	said.failed(&acmeclient.RetryAfter{For: 3 * time.Hour}, from, time.Hour)
	if d := said.due.Sub(from); d < 3*time.Hour {
		t.Errorf("limited for three hours: due after %s", d)
	}
	short := ordering{}
	for range 12 {
		short.failed(io.EOF, from, time.Hour)
	}
	if short.wait != 5*time.Minute {
		t.Errorf("of a life of an hour: %s", short.wait)
	}
}
