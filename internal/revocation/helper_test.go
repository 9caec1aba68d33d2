package revocation

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// world is a root, an intermediate below it, and a client of each.
type world struct {
	root, inter    *testpki.CA
	direct, client *testpki.Cert // of the root, of the intermediate
	now            time.Time
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{root: testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff Root"})), now: time.Now().Truncate(time.Second)}
	w.inter = testpki.Must(w.root.Intermediate(testpki.Options{CN: "Staff Issuing CA"}))
	w.direct = testpki.Must(w.root.Issue(testpki.Leaf{CN: "direct"}))
	w.client = testpki.Must(w.inter.Issue(testpki.Leaf{CN: "client"}))
	return w
}

func (w *world) cas() []*x509.Certificate { return []*x509.Certificate{w.root.Cert, w.inter.Cert} }

// authority trusts the world, with lists from the places.
func (w *world) authority(mode Mode, places ...string) Authority {
	a := Authority{Name: "staff", Mode: mode, Roots: w.cas()[:1], Intermediates: w.cas()[1:]}
	for _, p := range places {
		a.Sources = append(a.Sources, Source{Location: p})
	}
	return a
}

func peerOf(c *testpki.Cert, root *testpki.CA) *handshake.Peer {
	return &handshake.Peer{Shown: c.Chain, Chain: append(c.Chain[:len(c.Chain):len(c.Chain)], root.Cert), Authority: "staff", Proven: true}
}

// crl describes a list.
type crl struct {
	number   int64         // 0: none
	from, to time.Duration // from now; default an hour ago, in a day
	revoked  []*x509.Certificate
	exts     []pkix.Extension
	entries  []pkix.Extension // of the first entry
	alg      x509.SignatureAlgorithm
}

func (w *world) crl(t testing.TB, ca *testpki.CA, l crl) []byte {
	t.Helper()
	if l.from == 0 {
		l.from = -time.Hour
	}
	if l.to == 0 {
		l.to = 24 * time.Hour
	}
	tmpl := &x509.RevocationList{
		Number: big.NewInt(l.number), ThisUpdate: w.now.Add(l.from), NextUpdate: w.now.Add(l.to),
		ExtraExtensions: l.exts, SignatureAlgorithm: l.alg,
	}
	for i, c := range l.revoked {
		e := x509.RevocationListEntry{SerialNumber: c.SerialNumber, RevocationTime: w.now.Add(-time.Hour), ReasonCode: 1}
		if i == 0 {
			e.ExtraExtensions = l.entries
		}
		tmpl.RevokedCertificateEntries = append(tmpl.RevokedCertificateEntries, e)
	}
	der, err := x509.CreateRevocationList(rand.Reader, tmpl, ca.Cert, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func pemOf(ders ...[]byte) []byte {
	var out []byte
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})...)
	}
	return out
}

// file writes atomically, as an operator should, and returns the path.
func file(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", data, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// readLists is ReadFile with no bound but that of all lists.
func readLists(path string, cas []*x509.Certificate) (Source, error) {
	return ReadFile(context.Background(), nil, fileset.New(fileset.Disk{}, fileset.MaxBytes), path, MaxListBytes, cas)
}

// clock can be moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func checker(t testing.TB, o Options, list ...Authority) *Checker {
	t.Helper()
	c, err := New(list, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.client.CloseIdleConnections)
	t.Cleanup(c.asks.CloseIdleConnections)
	return c
}

// running runs the checker for the time of the test.
func running(t testing.TB, c *Checker) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// reply describes an OCSP answer.
type reply struct {
	status   int
	from, to time.Duration // default an hour ago, in an hour
	noNext   bool
	signer   *testpki.Cert // a delegate; nil: the issuer
	exts     []pkix.Extension
	alg      x509.SignatureAlgorithm
}

// staple makes an OCSP answer without a nonce.
func (w *world) staple(t testing.TB, ca *testpki.CA, c *x509.Certificate, r reply) []byte {
	t.Helper()
	if r.from == 0 {
		r.from = -time.Hour
	}
	if r.to == 0 {
		r.to = time.Hour
	}
	tmpl := ocsp.Response{
		Status: r.status, SerialNumber: c.SerialNumber, ThisUpdate: w.now.Add(r.from), NextUpdate: w.now.Add(r.to),
		RevokedAt: w.now.Add(-time.Hour), ExtraExtensions: r.exts, SignatureAlgorithm: r.alg,
	}
	if r.noNext {
		tmpl.NextUpdate = time.Time{}
	}
	key := ca.Key
	responder := ca.Cert
	if r.signer != nil {
		key, responder, tmpl.Certificate = r.signer.Key, r.signer.Cert, r.signer.Cert
	}
	der, err := ocsp.CreateResponse(ca.Cert, responder, tmpl, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func newInt(n int) *big.Int { return big.NewInt(int64(n)) }

func mustCRL(t testing.TB, w *world, l *x509.RevocationList) []byte {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, l, w.root.Cert, w.root.Key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// plainOrder is the order of lists without copies.
func plainOrder() order { return order{time.Now(), newCopies("").of("")} }
