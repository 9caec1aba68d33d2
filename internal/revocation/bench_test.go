package revocation

import (
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// bigCRL is a list of n random serials of 16 octets, with a reason each.
func bigCRL(t testing.TB, w *world, n int) (der []byte, some []*x509.Certificate) {
	t.Helper()
	rng := mrand.New(mrand.NewPCG(1, 2))
	l := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: w.now.Add(-time.Hour), NextUpdate: w.now.Add(24 * time.Hour)}
	l.RevokedCertificateEntries = make([]x509.RevocationListEntry, n)
	for i := range l.RevokedCertificateEntries {
		var b [16]byte
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		b[0] |= 0x40 // all of one length, and positive
		b[0] &= 0x7f
		l.RevokedCertificateEntries[i] = x509.RevocationListEntry{SerialNumber: new(big.Int).SetBytes(b[:]), RevocationTime: w.now.Add(-time.Hour), ReasonCode: 1}
	}
	der, err := x509.CreateRevocationList(rand.Reader, l, w.root.Cert, w.root.Key)
	if err != nil {
		t.Fatal(err)
	}
	for range 1024 {
		some = append(some, &x509.Certificate{SerialNumber: l.RevokedCertificateEntries[rng.IntN(n)].SerialNumber})
	}
	return der, some
}

// Many entries load in bounded memory, and all of them are found. The same for
// a million is BenchmarkLoad.
func TestLargeList(t *testing.T) {
	const n = 30_000
	w := newWorld(t)
	der, some := bigCRL(t, w, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	l := testpki.Must(ParseLists(der, w.cas()))[0]
	runtime.ReadMemStats(&after)
	if l.Entries != n || len(l.revoked.flat) != 16*n {
		t.Errorf("%d entries, %d bytes", l.Entries, len(l.revoked.flat))
	}
	// Of each entry 20 octets in a slice that grows by doubling, and 16 in the end.
	// crypto/x509 takes some 400 bytes.
	if d := (after.TotalAlloc - before.TotalAlloc) / uint64(n); d > 120 {
		t.Errorf("%d bytes allocated an entry", d)
	}
	for _, c := range some {
		if !l.Has(c) {
			t.Fatalf("%x is lost", c.SerialNumber)
		}
	}
	if l.Has(w.direct.Cert) {
		t.Error("one that is not in it")
	}
}

// Checks go on while a large list loads: none takes longer than a scheduler's slice,
// though the load takes a hundred times that.
func TestNoStallWhileLoading(t *testing.T) {
	w := newWorld(t)
	der, _ := bigCRL(t, w, 60_000)
	dir := t.TempDir()
	path := file(t, dir, "x.crl", w.crl(t, w.root, crl{number: 1}))
	k := checker(t, Options{Poll: 2 * time.Millisecond}, w.authority(Hard, path))
	running(t, k)
	var loaded atomic.Bool
	k.OnChange(func() { loaded.Store(true) })
	// Number 1 again, but with a later thisUpdate it replaces the first.
	file(t, dir, "x.crl", der)
	peer, worst, n := peerOf(w.direct, w.root), time.Duration(0), 0
	for deadline := time.Now().Add(30 * time.Second); !loaded.Load() && time.Now().Before(deadline); n++ {
		from := time.Now()
		if r := k.Check(t.Context(), peer, w.now); r.Status != Good {
			t.Fatalf("%+v", r)
		}
		worst = max(worst, time.Since(from))
		time.Sleep(100 * time.Microsecond)
	}
	if !loaded.Load() {
		t.Fatalf("never loaded: %+v", k.Stats())
	}
	t.Logf("%d checks while it loaded, the longest %s", n, worst)
	if worst > 500*time.Millisecond { // a busy machine; a lock held over the load would be more
		t.Errorf("a check took %s", worst)
	}
}

func BenchmarkLoad(b *testing.B) {
	w := newWorld(b)
	for _, n := range []int{1000, 1_000_000} {
		der, _ := bigCRL(b, w, n)
		b.Run(fmt.Sprintf("ours/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(der)))
			var l *List
			for b.Loop() {
				l = testpki.Must(ParseLists(der, w.cas()))[0]
			}
			b.ReportMetric(float64(len(l.revoked.flat))/float64(n), "bytes/serial")
		})
		b.Run(fmt.Sprintf("crypto-x509/%d", n), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(der)))
			for b.Loop() {
				l := testpki.Must(x509.ParseRevocationList(der))
				if err := l.CheckSignatureFrom(w.root.Cert); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	w := newWorld(b)
	for _, n := range []int{1000, 1_000_000} {
		der, some := bigCRL(b, w, n)
		l := testpki.Must(ParseLists(der, w.cas()))[0]
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if !l.Has(some[i&1023]) {
					b.Fatal("lost")
				}
				i++
			}
		})
	}
}

// A whole Check of a chain of three certificates, by lists.
func BenchmarkCheck(b *testing.B) {
	w := newWorld(b)
	der, _ := bigCRL(b, w, 1_000_000)
	a := w.authority(Hard)
	a.Sources = []Source{{Location: "/in/memory", Lists: testpki.Must(ParseLists(pemOf(der, w.crl(b, w.inter, crl{number: 1})), w.cas()))}}
	k := checker(b, Options{}, a)
	p := peerOf(w.client, w.root)
	b.Run("check", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if r := k.Check(b.Context(), p, w.now); r.Status != Good {
				b.Fatal(r)
			}
		}
	})
	b.Run("ended", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if end, _ := k.Ended(p, w.now); end != "" {
				b.Fatal(end)
			}
		}
	})
}
