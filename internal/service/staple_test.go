package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// A staple is read again when its file has changed, once; that it ends and has
// ended is said, once each, and what is no staple changes nothing.
func TestStapleIsWatched(t *testing.T) {
	dir := t.TempDir()
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "CA", NotAfter: time.Now().AddDate(1, 0, 0)}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}, NotAfter: time.Now().AddDate(0, 6, 0)}))
	if _, _, err := leaf.WritePEM(dir, "pay"); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	put := func(name string, data []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	answer := func(until time.Duration) {
		t.Helper()
		put("pay.ocsp", testpki.Must(ocsp.CreateResponse(ca.Cert, ca.Cert, ocsp.Response{
			SerialNumber: leaf.Cert.SerialNumber, ThisUpdate: begin.Add(-time.Minute), NextUpdate: begin.Add(until),
		}, ca.Key)))
	}
	answer(100 * time.Minute)
	put("ca.pem", ca.PEM())
	put("gateway.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: ca.pem}}\n"+
		"identities: {pay: {certificate: pay.pem, key: pay.key, ocsp: pay.ocsp}}\npolicy:\n  rules:\n"+
		"    - {name: r, to: ['10.0.0.0/8:443'], identity: pay, client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}\n"))
	rt, found := config.Check(filepath.Join(dir, "gateway.yaml"), stdtls.New())
	if rt == nil {
		t.Fatal(found)
	}
	core, logs := observer.New(zap.InfoLevel)
	w := stapleWatch{log: zap.New(core), seen: map[*config.Staple]*stapleSeen{}}
	shown := rt.Staples()[0].Shown
	look := func(after time.Duration, want ...string) {
		t.Helper()
		w.look(rt.Staples(), begin.Add(after))
		var got []string
		for _, e := range logs.TakeAll() {
			got = append(got, e.Message)
		}
		if len(got) != len(want) {
			t.Errorf("after %s the log has %q, not %q", after, got, want)
			return
		}
		for i := range want {
			if !strings.Contains(got[i], want[i]) {
				t.Errorf("after %s the log has %q, not %q", after, got, want)
			}
		}
	}
	look(0)
	look(time.Minute)
	look(80*time.Minute, "of identity pay ends in 20m0s")
	look(81 * time.Minute)
	put("pay.ocsp", []byte("half of one"))
	look(82*time.Minute, "not taken")
	look(83 * time.Minute)
	if shown.At(begin.Add(83*time.Minute)) == nil {
		t.Error("what was good is not shown any more")
	}
	look(101*time.Minute, "has ended and is not shown")
	look(102 * time.Minute)
	if shown.At(begin.Add(102*time.Minute)) != nil {
		t.Error("it is shown past its end")
	}
	answer(1000 * time.Minute)
	look(103*time.Minute, "read again")
	if shown.At(begin.Add(103*time.Minute)) == nil {
		t.Error("the new one is not shown")
	}
	s := &Service{rt: rt}
	if got := s.staleStaples(begin.Add(900 * time.Minute)); len(got) != 1 || !strings.Contains(got[0], "ends in") {
		t.Errorf("readiness says %q", got)
	}
	if got := s.stapleMetrics(); len(got) != 1 || got[0].Name != "pay" || got[0].Until.Sub(begin) < 999*time.Minute {
		t.Errorf("metrics have %v", got)
	}
}
