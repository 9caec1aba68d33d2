package config

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/readfile"
)

// written is a source of files that somebody writes while one of them is read.
type written struct {
	fileset.Source
	after string // the file after whose reading
	write func()
}

func (w *written) Read(ctx context.Context, path string, limit int64, room readfile.Room) (fileset.File, error) {
	f, err := w.Source.Read(ctx, path, limit, room)
	if write := w.write; path == w.after && write != nil {
		w.write = nil
		write()
	}
	return f, err
}

// Files that are written over while they are read are not used, whole as what was read may look,
// and are looked at again. Nor is half a chain: one that leads elsewhere than the chain before is
// taken once it was the same at two looks. What was in use stays in use until then.
func TestFilesThatAreBeingWritten(t *testing.T) {
	dir := t.TempDir()
	root := testpki.Must(testpki.NewCA(testpki.Options{CN: "root"}))
	middle := testpki.Must(root.Intermediate(testpki.Options{CN: "middle"}))
	put := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issue := func(ca *testpki.CA) (c *testpki.Cert, chain []byte) {
		t.Helper()
		c = testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
		chain, key, err := c.PEM()
		if err != nil {
			t.Fatal(err)
		}
		put("pay.key", key)
		put("pay.pem", chain)
		return c, chain
	}
	first, firstChain := issue(middle)
	put("ca.pem", root.PEM())
	put("gateway.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443]}\nauthorities: {staff: {roots: ca.pem}}\n"+
		"identities: {pay: {certificate: pay.pem, key: pay.key}}\npolicy:\n  rules:\n"+
		"    - {name: r, to: ['10.0.0.0/8:443'], identity: pay, alpn: [], client: {certificate: required, authorities: [staff]}, destination: {tls: plain}}\n"))
	rt, found := Check(filepath.Join(dir, "gateway.yaml"), stdtls.New())
	if rt == nil {
		t.Fatal(messages(found))
	}
	own, trusted := rt.Own[0], rt.Trusted[0]
	if n := len(own.source.Certificates()[0].Certificate); n != 2 {
		t.Fatalf("a chain of %d certificates", n)
	}
	renew := func(when string, want error, shown *testpki.Cert, chain int) {
		t.Helper()
		if _, err := own.Renew(time.Now()); !errors.Is(err, want) || !errors.Is(own.Failed(), want) {
			t.Errorf("%s: %v, want %v", when, err, want)
		}
		if c := own.source.Certificates()[0]; !c.Leaf.Equal(shown.Cert) || len(c.Certificate) != chain {
			t.Errorf("%s: a chain of %d certificates is shown, want %d", when, len(c.Certificate), chain)
		}
	}
	disk := own.from
	room := bytes.Repeat([]byte("\n"), 100) // another length is another stamp, also within one tick of the file system's clock
	second, chain := issue(middle)
	own.from = &written{Source: disk, after: filepath.Join(dir, "pay.pem"), write: func() { put("pay.pem", append(chain, '\n')) }}
	renew("written after it was read", errChanging, first, 2)
	renew("at the next look", nil, second, 2)
	own.from = &written{Source: disk, after: filepath.Join(dir, "pay.key"), write: func() { put("pay.pem", append(firstChain, room...)) }}
	third, chain := issue(middle)
	renew("the certificate of before comes while the key is read", errChanging, second, 2)
	own.from = disk
	put("pay.pem", chain[:len(leafOnly(chain))])
	renew("half a chain", errHalf, second, 2)
	put("pay.pem", chain)
	renew("all of it", nil, third, 2)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other"}))
	fourth, _ := issue(other)
	renew("another issuer", errHalf, third, 2)
	renew("another issuer, at the next look", nil, fourth, 1)

	both := append(root.PEM(), other.PEM()...)
	before := trusted.Current()
	put("ca.pem", root.PEM()[:len(root.PEM())-1])
	trusted.from = &written{Source: trusted.from, after: filepath.Join(dir, "ca.pem"), write: func() { put("ca.pem", both) }}
	if changed, err := trusted.Renew(time.Now()); changed || !errors.Is(err, errChanging) || trusted.Current() != before {
		t.Errorf("a bundle that is written while it is read: %v, %v", changed, err)
	}
	if _, err := trusted.Renew(time.Now()); !errors.Is(err, ErrNewRoot) {
		t.Errorf("at the next look: %v", err)
	}
}

// leafOnly is the first certificate of a chain in PEM.
func leafOnly(chain []byte) []byte {
	const end = "-----END CERTIFICATE-----\n"
	for i := range chain {
		if i >= len(end) && string(chain[i-len(end):i]) == end {
			return chain[:i]
		}
	}
	return chain
}
