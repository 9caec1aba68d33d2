package config

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/signer"
)

// A renewed certificate whose key another process has waits until that process has said that
// it has the key, and is then signed with: a signer that is silent, or has the key of before
// alone, changes nothing. A certificate that is in use needs nobody to be asked.
func TestRenewalWithASigner(t *testing.T) {
	dir := testpki.Must(os.MkdirTemp("", "signer")) // a short path: that of a socket has at most 108 bytes
	defer func() { _ = os.RemoveAll(dir) }()
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	put := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	issue := func() *testpki.Cert {
		t.Helper()
		c := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
		chain, _, err := c.PEM()
		if err != nil {
			t.Fatal(err)
		}
		put("pay.pem", chain)
		return c
	}
	socket := filepath.Join(dir, "s.sock")
	serve := func(certs ...*testpki.Cert) (stop func()) {
		t.Helper()
		var keys []signer.Key
		for _, c := range certs {
			keys = append(keys, signer.Key{Signer: c.Key})
		}
		s, ln := testpki.Must(signer.NewServer(keys)), testpki.Must(signer.Listen(socket))
		ctx, cancel := context.WithCancel(context.Background())
		var run sync.WaitGroup
		run.Go(func() {
			if err := s.Serve(ctx, ln); err != nil {
				t.Error(err)
			}
		})
		return func() { cancel(); run.Wait() }
	}
	first := issue()
	put("ca.pem", ca.PEM())
	put("gateway.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: ca.pem}}\n"+
		"identities: {pay: {certificate: pay.pem, key: 'signer:s.sock'}}\npolicy:\n  rules:\n"+
		"    - {name: r, to: ['10.0.0.0/8:443'], identity: pay, client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}\n"))
	stop := serve(first)
	rt, found := Check(filepath.Join(dir, "gateway.yaml"), stdtls.New())
	if rt == nil {
		t.Fatal(messages(found))
	}
	own := rt.Own[0]
	defer own.Close()
	stop()
	renew := func(when string, changed bool, said string, shown *testpki.Cert) {
		t.Helper()
		got, err := own.Renew(time.Now())
		if got != changed || (err == nil) != (said == "") || err != nil && !strings.Contains(err.Error(), said) {
			t.Errorf("%s: changed %v, %v", when, got, err)
		}
		if c := own.source.Certificates()[0]; !c.Leaf.Equal(shown.Cert) {
			t.Errorf("%s: %s is shown", when, c.Leaf.Subject)
		}
	}
	renew("nothing is new, and nobody asked", false, "", first)
	second := issue()
	renew("a silent signer", false, "the new certificate waits until it answers", first)
	stop = serve(first)
	renew("the key of before", false, signer.ErrNoKey.Error(), first)
	stop()
	stop = serve(first, second)
	renew("both keys", true, "", second)
	digest := sha256.Sum256([]byte("what is signed"))
	if _, err := own.source.Certificates()[0].PrivateKey.(crypto.Signer).Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Error(err)
	}
	own.Ask(t.Context())
	if err := own.Failed(); err != nil {
		t.Error(err)
	}
	stop()
	own.Ask(t.Context())
	if err := own.Failed(); err == nil {
		t.Error("a silent signer is not said")
	}
	renew("in use, and nobody asked", false, "", second)

	// One that was silent at the load says later what it can.
	late, found := Check(filepath.Join(dir, "gateway.yaml"), stdtls.New())
	if late == nil {
		t.Fatal(messages(found))
	}
	defer late.Own[0].Close()
	only := []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}
	for _, schemes := range [][]tls.SignatureScheme{only, nil} {
		server := testpki.Must(signer.NewServer([]signer.Key{{Signer: second.Key, Schemes: schemes}}))
		ln := testpki.Must(signer.Listen(socket))
		ctx, cancel := context.WithCancel(context.Background())
		var run sync.WaitGroup
		run.Go(func() { _ = server.Serve(ctx, ln) })
		late.Own[0].Ask(t.Context())
		if got := late.Own[0].source.Certificates()[0].SupportedSignatureAlgorithms; !slices.Equal(got, schemes) || late.Own[0].Failed() != nil {
			t.Errorf("it signs with %v, want %v: %v", got, schemes, late.Own[0].Failed())
		}
		cancel()
		run.Wait()
	}
}
