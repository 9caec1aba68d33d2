package revocation

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/memory"
)

// drip sends a byte now and then, after what begin sends.
func drip(begin func(http.ResponseWriter)) http.HandlerFunc {
	return func(rw http.ResponseWriter, r *http.Request) {
		begin(rw)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			rw.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-tick.C:
			}
			if _, err := rw.Write([]byte{0x30}); err != nil {
				return
			}
		}
	}
}

// More slow servers than fetches allowed at once hold up neither files nor other servers
// nor a start, and each is cut off with a reason.
func TestSlowServersHoldNobodyUp(t *testing.T) {
	w := newWorld(t)
	slow := publish(t, nil)
	slow.set(nil, "", drip(func(rw http.ResponseWriter) { rw.Header().Set("Content-Length", "267386880") }))
	good := publish(t, w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}}))
	path := file(t, t.TempDir(), "root.crl", w.crl(t, w.root, crl{number: 1}))
	var places []string
	for i := range maxFetches + 6 {
		places = append(places, fmt.Sprintf("%s/%d", slow.URL, i))
	}
	k := checker(t, Options{Poll: 2 * time.Millisecond, pace: time.Second}, w.authority(Hard, append(places, good.URL, path)...))
	running(t, k)
	file(t, filepath.Dir(path), "root.crl", w.crl(t, w.root, crl{number: 2, revoked: []*x509.Certificate{w.direct.Cert}}))
	status := func(c *testpki.Cert) Status { return k.Check(t.Context(), peerOf(c, w.root), w.now).Status }
	testenv.Eventually(t, "the file", func() bool { return status(w.direct) == Revoked })
	testenv.Eventually(t, "the good server's list", func() bool { return status(w.client) == Revoked })
	testenv.Eventually(t, "the reason", func() bool {
		n := 0
		for _, l := range k.Stats().Authorities["staff"].Lists {
			if strings.Contains(l.Error, "sends less than") {
				n++
			}
		}
		return n == len(places)
	})
}

// Servers that announce or send too much cost what they have sent, at most the bound, and
// no known list is lost.
func TestHostileAnswers(t *testing.T) {
	w := newWorld(t)
	known := w.crl(t, w.root, crl{number: 1, revoked: []*x509.Certificate{w.direct.Cert}})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(make([]byte, 64<<20))
	_ = z.Close()
	const bound = 1 << 20
	for name, c := range map[string]struct {
		handle http.HandlerFunc
		says   string
		lost   bool
	}{
		"a claim, and nothing": {func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", "267386880")
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "too large: 267386880 bytes, at most 1048576", false},
		"a claim below the bound, and nothing": {func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Content-Length", fmt.Sprint(bound-1))
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "sends less than", false},
		"chunks without end": {func(rw http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := rw.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		}, "too large: more than 1048576 bytes", false},
		"a compressed answer": {func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Encoding", "gzip")
			_, _ = rw.Write(zipped.Bytes())
		}, "not a revocation list", true},
		"drips from the first byte": {drip(func(http.ResponseWriter) {}), "sends less than", false},
		"stops in the middle": {func(rw http.ResponseWriter, r *http.Request) {
			_, _ = rw.Write(make([]byte, bound/2))
			rw.(http.Flusher).Flush()
			<-r.Context().Done()
		}, "sends less than", false},
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, known)
			k := checker(t, Options{MaxBytes: bound, pace: time.Second}, w.authority(Soft, p.URL))
			k.Prime(t.Context())
			p.set(nil, "", c.handle)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			k.claim(func(*source) bool { return true })
			k.load(t.Context(), k.sources[0])
			runtime.ReadMemStats(&after)
			l := k.Stats().Authorities["staff"].Lists[0]
			if !strings.Contains(l.Error, c.says) || (l.State == missing) != c.lost {
				t.Errorf("%q, %s", l.Error, l.State)
			}
			if k.Check(t.Context(), peerOf(w.direct, w.root), w.now).Status != Revoked {
				t.Error("the revoked client is let in")
			}
			// The server runs in this process, too.
			if d := after.TotalAlloc - before.TotalAlloc; d > 16*bound {
				t.Errorf("%d bytes allocated", d)
			}
		})
	}
}

// budget is a real Budget. The test itself takes what it wants to be in use.
func budget(t *testing.T) *memory.Budget {
	t.Helper()
	b, undo, err := memory.Start(memory.Config{Ceiling: 1 << 30, Log: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(undo)
	return b
}

// fill takes all that may be lent, except less than one piece.
func fill(t *testing.T, b *memory.Budget) *memory.Loan {
	t.Helper()
	_, l := b.Borrow(context.Background())
	t.Cleanup(l.Return)
	for n := int64(1 << 30); n >= 64; n /= 2 {
		for l.Take(n) == nil {
		}
	}
	return l
}

// A list for which there is no memory is not loaded, whatever its source. That is logged,
// the previous list stays and has not vanished, and once there is memory the list is
// loaded without any other change.
func TestNoRoomForAList(t *testing.T) {
	w := newWorld(t)
	for name, place := range map[string]func(t *testing.T, data []byte) (location string, change func([]byte)){
		"file": func(t *testing.T, data []byte) (string, func([]byte)) {
			path := file(t, t.TempDir(), "x.crl", data)
			return path, func(data []byte) { file(t, filepath.Dir(path), "x.crl", data) }
		},
		"URL": func(t *testing.T, data []byte) (string, func([]byte)) {
			p := publish(t, data)
			return p.URL, func(data []byte) { p.set(data, "", nil) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, clk := budget(t), &clock{now: w.now}
			log, logs := logged()
			location, change := place(t, w.crl(t, w.root, crl{number: 1, to: 1000 * time.Hour, revoked: []*x509.Certificate{w.direct.Cert}}))
			k := checker(t, Options{Log: log, Poll: 2 * time.Millisecond, Now: clk.Now, Memory: b}, w.authority(Soft, location))
			k.Prime(t.Context())
			status := func() Status { return k.Check(t.Context(), peerOf(w.direct, w.root), clk.Now()).Status }
			if status() != Revoked {
				t.Fatal("the first list was not taken")
			}
			running(t, k)
			all := fill(t, b)
			change(w.crl(t, w.root, crl{number: 2, to: 1000 * time.Hour}))
			clk.add(70 * time.Minute)
			testenv.Eventually(t, "a complaint", func() bool { return logs.FilterMessage("revocation list not taken").Len() == 1 })
			a := k.Stats().Authorities["staff"]
			if l := a.Lists[0]; !strings.Contains(l.Error, "limits.memory has no room") || l.State != "fresh" || a.Failures != 1 {
				t.Errorf("%+v", a)
			}
			if status() != Revoked {
				t.Error("the list of before did not stay")
			}
			// A reload that also trusts others reads it again, and keeps the old one.
			wider := w.authority(Soft, location)
			wider.Roots = append(wider.Roots[:1:1], testpki.Must(testpki.NewCA(testpki.Options{CN: "another"})).Cert)
			k.Reload([]Authority{wider})
			if l := k.Stats().Authorities["staff"].Lists[0]; status() != Revoked || l.State != "fresh" || missingOf(k) != 0 {
				t.Errorf("after a reload without room: %s, %+v", status(), l)
			}
			all.Return()
			testenv.Eventually(t, "the list", func() bool { clk.add(time.Minute); return status() == Good })
			testenv.Eventually(t, "all returned", func() bool { return b.Stats().Lent == 0 })
		})
	}
}

// A load that is called back ends at once with that reason, and returns what it has
// taken.
func TestLoadIsCalledBack(t *testing.T) {
	w := newWorld(t)
	ctx, stop := context.WithCancelCause(t.Context())
	begun := make(chan struct{})
	p := publish(t, nil)
	p.set(nil, "", drip(func(rw http.ResponseWriter) { _, _ = rw.Write(make([]byte, 100<<10)); close(begun) }))
	b := budget(t)
	k := checker(t, Options{Memory: b}, w.authority(Soft, p.URL))
	k.claim(func(*source) bool { return true })
	go func() {
		<-begun
		stop(memory.ErrNoRoom)
	}()
	in, loan := b.Borrow(ctx)
	_, err := k.read(in, loan, k.sources[0])
	if !errors.Is(err, memory.ErrNoRoom) || !errors.Is(err, errUnreachable) {
		t.Errorf("%v", err)
	}
	loan.Return()
	der, _ := bigCRL(t, w, 20_000)
	for _, data := range [][]byte{der, pemOf(der)} {
		if _, err := parseTaken(ctx, nil, data, w.cas()); !errors.Is(err, memory.ErrNoRoom) {
			t.Errorf("parsed on: %v", err)
		}
	}
	if st := b.Stats(); st.Lent != 0 {
		t.Errorf("%+v", st)
	}
}

// A load that is called back while it waits for a slot has learned nothing about the
// source, whichever slot that is.
func TestWaitIsCalledBack(t *testing.T) {
	w := newWorld(t)
	data := w.crl(t, w.root, crl{number: 1})
	path, p := file(t, t.TempDir(), "x.crl", data), publish(t, data)
	for name, c := range map[string]struct {
		place string
		slots func(slots) chan struct{}
	}{
		"file":  {path, func(s slots) chan struct{} { return s.files }},
		"fetch": {p.URL, func(s slots) chan struct{} { return s.fetches }},
		"parse": {p.URL, func(s slots) chan struct{} { return s.parses }},
	} {
		t.Run(name, func(t *testing.T) {
			k := checker(t, Options{Memory: budget(t)}, w.authority(Soft, c.place))
			taken := c.slots(k.slots)
			for range cap(taken) {
				taken <- struct{}{}
			}
			src := k.claim(func(*source) bool { return true })[0]
			ctx, recall := context.WithCancelCause(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := k.read(ctx, nil, src)
				done <- err
			}()
			if name == "parse" { // the answer is there first
				testenv.Eventually(t, "the fetch", func() bool { return len(k.slots.fetches) == 0 && k.Stats().Authorities["staff"].Fetches == 1 })
			}
			recall(memory.ErrNoRoom)
			if err := <-done; !errors.Is(err, memory.ErrNoRoom) || !errors.Is(err, errUnreachable) {
				t.Errorf("%v", err)
			}
		})
	}
}

// The loan covers what loading allocates, except the pieces in which a file arrives.
func TestLoanCoversALoad(t *testing.T) {
	w := newWorld(t)
	long, _ := bigCRL(t, w, 30_000)
	short := &x509.RevocationList{Number: testpki.Must(w.root.CRL(1, w.now.Add(time.Hour))).Number, ThisUpdate: w.now, NextUpdate: w.now.Add(time.Hour)}
	for i := range 30_000 {
		short.RevokedCertificateEntries = append(short.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: newInt(i + 1), RevocationTime: w.now})
	}
	for name, data := range map[string][]byte{"DER": long, "PEM": pemOf(long), "short numbers": mustCRL(t, w, short)} {
		t.Run(name, func(t *testing.T) {
			path := file(t, t.TempDir(), "x.crl", data)
			b := budget(t)
			ctx, loan := b.Borrow(t.Context())
			defer loan.Return()
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			lists, _, err := readFile(ctx, loan, fileset.Disk{}, path, MaxListBytes, w.cas())
			if err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			lent, took, n := b.Stats().Lent, int64(after.TotalAlloc-before.TotalAlloc), int64(len(data))
			if lists[0].Entries != 30_000 || lent < n {
				t.Fatalf("%d entries, %d bytes lent", lists[0].Entries, lent)
			}
			t.Logf("%d bytes: %d lent (%.2f), %d allocated", n, lent, float64(lent)/float64(n), took)
			// 1 MiB is for pieces, certificates of signatures and the index of numbers.
			if took-n > lent+1<<20 {
				t.Errorf("%d bytes lent, %d allocated", lent, took-n)
			}
			if lent > n*13/4 {
				t.Errorf("%d bytes lent for %d: more than is said", lent, n)
			}
		})
	}
}

// Many files in one loan together need only the room of the largest one and of what stays
// of all; a refused file leaves nothing.
func TestFilesShareALoan(t *testing.T) {
	w := newWorld(t)
	long, _ := bigCRL(t, w, 30_000) // 20 bytes of each entry stay, and an index
	const stays, files = 30_000*20 + 4<<16 + 2<<10, 12
	cut := long[:len(long)-1]
	for name, c := range map[string]struct {
		data []byte
		says error
	}{
		"DER": {long, nil}, "PEM": {pemOf(long), nil},
		"cut off": {cut, ErrNotCRL}, "a PEM block cut off": {pemOf(cut), ErrNotCRL},
	} {
		t.Run(name, func(t *testing.T) {
			path := file(t, t.TempDir(), "x.crl", c.data)
			b := budget(t)
			fill(t, b).Give(int64(files*stays + 13*len(long)/4 + 1<<20)) // what From takes in advance, and the rest of fill
			filled := b.Stats().Lent
			ctx, loan := b.Borrow(t.Context())
			defer loan.Return()
			most := int64(0)
			for i := range files {
				src, err := ReadFile(ctx, loan, fileset.New(fileset.Disk{}, fileset.MaxBytes), path, MaxListBytes, w.cas())
				if !errors.Is(err, c.says) || c.says == nil && src.Lists[0].Entries != 30_000 {
					t.Fatalf("file %d: %v", i+1, err)
				}
				if c.says == nil {
					most += stays
				}
				if lent := b.Stats().Lent - filled; lent > most || c.says == nil && lent < int64(i+1)*30_000*16 {
					t.Errorf("after file %d %d bytes are lent, at most %d stay", i+1, lent, most)
				}
			}
		})
	}
}

func TestListBytes(t *testing.T) {
	for ceiling, want := range map[int64]int64{0: MaxListBytes, 128 << 20: 8 << 20, 1 << 40: MaxListBytes, 1 << 20: minListBytes, 1 << 30: 64 << 20} {
		if got := ListBytes(ceiling); got != want {
			t.Errorf("%d: %d, want %d", ceiling, got, want)
		}
	}
}
