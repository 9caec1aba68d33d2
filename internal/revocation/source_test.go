package revocation

import (
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/reason"
)

// publisher is an HTTP server that hands out a list.
type publisher struct {
	*httptest.Server
	mu       sync.Mutex
	data     []byte
	etag     string
	handle   http.HandlerFunc // instead of data
	requests []http.Header
	served   int // 200
}

func publish(t testing.TB, data []byte) *publisher {
	t.Helper()
	p := &publisher{data: data}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) set(data []byte, etag string, handle http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.data, p.etag, p.handle = data, etag, handle
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	data, etag, handle := p.data, p.etag, p.handle
	p.requests = append(p.requests, r.Header.Clone())
	p.mu.Unlock()
	switch {
	case handle != nil:
		handle(w, r)
	case etag != "" && r.Header.Get("If-None-Match") == etag:
		w.WriteHeader(http.StatusNotModified)
	default:
		if etag != "" {
			w.Header().Set("ETag", etag)
		}
		p.mu.Lock()
		p.served++
		p.mu.Unlock()
		_, _ = w.Write(data)
	}
}

func (p *publisher) count() (requests, served int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.requests), p.served
}

func logged() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.InfoLevel)
	return zap.New(core), logs
}

// A file that is exchanged is loaded within seconds. One that is broken, older or gone is
// logged once, and the last good list stays.
func TestFileIsWatched(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	path := file(t, dir, "staff.crl", w.crl(t, w.root, crl{number: 2}))
	log, logs := logged()
	k := checker(t, Options{Log: log, Poll: 10 * time.Millisecond}, w.authority(Hard, path))
	status := func() Status { return k.Check(t.Context(), peerOf(w.direct, w.root), w.now).Status }
	if status() != Good {
		t.Fatal("the first list was not read")
	}
	running(t, k)
	complaints := func() int { return logs.FilterMessage("revocation list not taken").Len() }
	for i, bad := range [][]byte{[]byte("broken"), w.crl(t, w.root, crl{number: 1, revoked: []*x509.Certificate{w.direct.Cert}})} {
		file(t, dir, "staff.crl", bad)
		testenv.Eventually(t, "a complaint", func() bool { return complaints() == i+1 })
		time.Sleep(50 * time.Millisecond)
		if n := complaints(); n != i+1 {
			t.Errorf("said %d times", n)
		}
		if status() != Good {
			t.Error("the last good list did not stay")
		}
	}
	file(t, dir, "staff.crl", w.crl(t, w.root, crl{number: 3, revoked: []*x509.Certificate{w.direct.Cert}}))
	testenv.Eventually(t, "the new list", func() bool { return status() == Revoked })
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "a complaint that it is gone", func() bool { return complaints() == 3 })
	file(t, dir, "staff.crl", w.crl(t, w.root, crl{number: 4}))
	testenv.Eventually(t, "the list that came back", func() bool { return status() == Good })
	if a := k.Stats().Authorities["staff"]; a.Loaded != 2 || a.Failures != 3 || a.Lists[0].Error != "" {
		t.Errorf("%+v", a)
	}
}

func TestFileThatIsNone(t *testing.T) {
	w := newWorld(t)
	if _, err := readLists(t.TempDir(), w.cas()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	sparse := filepath.Join(t.TempDir(), "huge.crl")
	f, err := os.Create(sparse)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(MaxListBytes + 1); err != nil {
		t.Fatal(err)
	}
	if _, err := readLists(sparse, w.cas()); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a huge file: %v", err)
	}
	if _, err := readfile.From(t.Context(), zeros{}, 100, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an answer without end: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// The whole life of a fetched list: fetched, asked for conditionally, taken
// when new, kept when the server fails, found again after a restart.
func TestFetch(t *testing.T) {
	w := newWorld(t)
	p := publish(t, w.crl(t, w.root, crl{number: 1, to: 1000 * time.Hour}))
	p.set(p.data, `"one"`, nil)
	state := filepath.Join(t.TempDir(), "state")
	clk := &clock{now: w.now}
	log, _ := logged()
	a := w.authority(Hard, p.URL+"/staff.crl")
	a.Refresh = time.Hour
	o := Options{Log: log, Poll: 5 * time.Millisecond, Now: clk.Now, State: state}
	k := checker(t, o, a)
	status := func(k *Checker) Status { return k.Check(t.Context(), peerOf(w.direct, w.root), clk.Now()).Status }
	if r := k.Check(t.Context(), peerOf(w.direct, w.root), w.now); r.Code != reason.RevocationUnknown {
		t.Fatalf("before anything was fetched: %+v", r)
	}
	k.Prime(t.Context())
	if status(k) != Good {
		t.Fatal("not fetched")
	}
	running(t, k)

	// Not before its time, and then conditionally.
	time.Sleep(50 * time.Millisecond)
	if n, _ := p.count(); n != 1 {
		t.Errorf("%d requests within the hour", n)
	}
	clk.add(67 * time.Minute)
	testenv.Eventually(t, "a second request", func() bool { n, _ := p.count(); return n == 2 })
	testenv.Eventually(t, "304", func() bool { return k.Stats().Authorities["staff"].NotModified == 1 })
	if _, served := p.count(); served != 1 {
		t.Errorf("served %d times", served)
	}
	h := p.requests[1]
	if h.Get("If-None-Match") != `"one"` || h.Get("Accept-Encoding") != "" {
		t.Errorf("headers %v", h)
	}

	// A newer one.
	newer := w.crl(t, w.root, crl{number: 2, to: 1000 * time.Hour, revoked: []*x509.Certificate{w.direct.Cert}})
	p.set(newer, `"two"`, nil)
	epoch := k.Epoch()
	clk.add(67 * time.Minute)
	testenv.Eventually(t, "the new list", func() bool { return status(k) == Revoked })
	if k.Epoch() == epoch {
		t.Error("the epoch stands still")
	}
	testenv.Eventually(t, "the copy", func() bool {
		names, _ := filepath.Glob(filepath.Join(state, "*.json"))
		if len(names) != 1 {
			return false
		}
		text, _ := os.ReadFile(names[0])
		return strings.Contains(string(text), `\"two\"`)
	})

	// The server serves the old one again, then nothing useful: the new stays,
	// and it is tried again sooner than after an hour.
	for _, bad := range []http.HandlerFunc{
		func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = rw.Write(w.crl(t, w.root, crl{number: 1, to: 1000 * time.Hour}))
		},
		func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusServiceUnavailable) },
		func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "<html>maintenance</html>") },
		func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(w.crl(t, w.inter, crl{number: 9})) },
	} {
		p.set(nil, "", bad)
		failures := k.Stats().Authorities["staff"].Failures
		clk.add(67 * time.Minute)
		testenv.Eventually(t, "a failure", func() bool { return k.Stats().Authorities["staff"].Failures > failures })
		if status(k) != Revoked {
			t.Error("the good list was given up")
		}
	}
	n, _ := p.count()
	clk.add(16 * time.Minute * 11 / 10)
	testenv.Eventually(t, "another try", func() bool { m, _ := p.count(); return m > n })

	// After a restart with the server down the copy is there, and its number.
	p.set(nil, "", func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusBadGateway) })
	again := checker(t, o, a)
	if status(again) != Revoked {
		t.Error("the copy was not found")
	}
	p.set(nil, "", func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = rw.Write(w.crl(t, w.root, crl{number: 1, to: 1000 * time.Hour}))
	})
	running(t, again)
	testenv.Eventually(t, "a refusal of the older list", func() bool {
		return strings.Contains(again.Stats().Authorities["staff"].Lists[0].Error, "number 1 after number 2")
	})
}

// Copies on disk are trusted no more than the network.
func TestStateIsNotTrusted(t *testing.T) {
	w := newWorld(t)
	good := w.crl(t, w.root, crl{number: 1})
	p := publish(t, good)
	p.set(good, `"x"`, nil)
	state := t.TempDir()
	a := w.authority(Hard, p.URL)
	checker(t, Options{State: state}, a).Prime(t.Context())
	copies, err := filepath.Glob(filepath.Join(state, "*.crl"))
	if err != nil || len(copies) != 1 {
		t.Fatalf("%v, %v", copies, err)
	}
	if info, err := os.Stat(copies[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	status := func() Status {
		return checker(t, Options{State: state}, a).Check(t.Context(), peerOf(w.direct, w.root), w.now).Status
	}
	if status() != Good {
		t.Fatal("the copy is of no use")
	}
	// Tags that belong to another copy are not sent: 304 would be taken for it.
	if err := os.WriteFile(copies[0], pemOf(good), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("fetched whole", func(t *testing.T) { // ends before the copy is changed again
		running(t, checker(t, Options{State: state, Poll: 5 * time.Millisecond}, a))
		testenv.Eventually(t, "a fetch", func() bool { n, _ := p.count(); return n == 2 })
	})
	if got := p.requests[1].Get("If-None-Match"); got != "" {
		t.Errorf("sent If-None-Match %s", got)
	}
	for _, bad := range [][]byte{nil, []byte("x"), good[:50], w.crl(t, newWorld(t).root, crl{number: 9})} {
		if err := os.WriteFile(copies[0], bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(state, copiesDir)); err != nil { // they are copies too: TestCopies*
			t.Fatal(err)
		}
		if status() != Unknown {
			t.Errorf("taken: %q", bad)
		}
	}
	if _, err := New(nil, Options{State: copies[0]}); err == nil {
		t.Error("a file was taken for the state directory")
	}
}

// Servers that are slow, endless or lead elsewhere.
func TestFetchBounds(t *testing.T) {
	w := newWorld(t)
	good := w.crl(t, w.root, crl{number: 1})
	hold := make(chan struct{})
	elsewhere := publish(t, good)
	_, port, err := net.SplitHostPort(elsewhere.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		handle http.HandlerFunc
		says   string // "" is good
	}{
		{"silent", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}, "deadline exceeded"},
		{"drips", func(rw http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := rw.Write([]byte{0x30}); err != nil {
					return
				}
				rw.(http.Flusher).Flush()
				time.Sleep(10 * time.Millisecond)
			}
		}, "deadline exceeded"},
		{"says it is huge", func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("Content-Length", "1000000000") }, "too large"},
		{"cut short", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "5000")
			_, _ = rw.Write(good)
		}, "EOF"},
		{"304 without being asked", func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNotModified) }, "HTTP status 304"},
		{"404", http.NotFound, "HTTP status 404"},
		{"redirect on the same host", func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/new" {
				http.Redirect(rw, r, "/new", http.StatusFound)
				return
			}
			_, _ = rw.Write(good)
		}, ""},
		{"redirect without end", func(rw http.ResponseWriter, r *http.Request) { http.Redirect(rw, r, r.URL.Path+"x", http.StatusFound) }, "another place"},
		{"redirect to another port", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, elsewhere.URL, http.StatusFound)
		}, "another place"},
		{"redirect to another host", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "http://localhost:"+port+"/", http.StatusMovedPermanently)
		}, "another place"},
		{"redirect to https", func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://"+r.Host+"/", http.StatusFound)
		}, "another place"},
		{"huge header", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("X", strings.Repeat("x", 1<<20))
			_, _ = rw.Write(good)
		}, "header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := publish(t, nil)
			p.set(nil, "", c.handle)
			timeout := testenv.Patience()
			if strings.Contains(c.says, "deadline") {
				timeout = 300 * time.Millisecond
			}
			k := checker(t, Options{FetchTimeout: timeout}, w.authority(Hard, p.URL+"/old"))
			from := time.Now()
			k.Prime(t.Context())
			if d := time.Since(from); d > testenv.Patience() {
				t.Errorf("took %s", d)
			}
			l := k.Stats().Authorities["staff"].Lists[0]
			if c.says == "" != (l.Error == "") || !strings.Contains(l.Error, c.says) {
				t.Errorf("error %q, want %q", l.Error, c.says)
			}
		})
	}
	close(hold)
	if n, _ := elsewhere.count(); n != 0 {
		t.Errorf("the other place was asked %d times", n)
	}
}

// A proxy of the environment is not used.
func TestNoProxyOfTheEnvironment(t *testing.T) {
	proxy := publish(t, nil)
	t.Setenv("HTTP_PROXY", proxy.URL)
	t.Setenv("http_proxy", proxy.URL)
	tr, ok := newClient(0).Transport.(*http.Transport)
	if !ok {
		t.Fatal("another transport")
	}
	if tr.Proxy != nil {
		u, err := tr.Proxy(&http.Request{URL: &url.URL{Scheme: "http", Host: "crl.example"}})
		t.Errorf("goes by %v, %v", u, err)
	}
}
