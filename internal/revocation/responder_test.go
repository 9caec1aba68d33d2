package revocation

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// withNonce puts a nonce into an answer of the issuer and signs it anew.
func withNonce(t testing.TB, der, nonce []byte, key crypto.Signer) []byte {
	t.Helper()
	fail := func(what string) { t.Fatalf("cannot take the answer apart: %s", what) }
	in := cryptobyte.String(der)
	var resp, wrapped, inner, kind, octets, basic, tbs, ai cryptobyte.String
	var status int
	if !in.ReadASN1(&resp, cbasn1.SEQUENCE) || !resp.ReadASN1Enum(&status) || !resp.ReadASN1(&wrapped, explicit(0)) ||
		!wrapped.ReadASN1(&inner, cbasn1.SEQUENCE) || !inner.ReadASN1Element(&kind, cbasn1.OBJECT_IDENTIFIER) ||
		!inner.ReadASN1(&octets, cbasn1.OCTET_STRING) || !octets.ReadASN1(&basic, cbasn1.SEQUENCE) ||
		!basic.ReadASN1(&tbs, cbasn1.SEQUENCE) || !basic.ReadASN1Element(&ai, cbasn1.SEQUENCE) {
		fail("shape")
	}
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddASN1(explicit(1), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.OBJECT_IDENTIFIER, func(b *cryptobyte.Builder) { b.AddBytes(oidNonce) })
					b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) { b.AddASN1OctetString(nonce) })
				})
			})
		})
	})
	data := b.BytesOrPanic()
	sum := sha256.Sum256(data)
	sig, err := key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	var out cryptobyte.Builder
	out.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Enum(0)
		b.AddASN1(explicit(0), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(kind)
				b.AddASN1(cbasn1.OCTET_STRING, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddBytes(data)
						b.AddBytes(ai)
						b.AddASN1BitString(sig)
					})
				})
			})
		})
	})
	return out.BytesOrPanic()
}

// nonceOf reads the nonce of a request, nil if it has none.
func nonceOf(t testing.TB, req []byte) []byte {
	t.Helper()
	in := cryptobyte.String(req)
	var outer, tbs, exts cryptobyte.String
	var present bool
	if !in.ReadASN1(&outer, cbasn1.SEQUENCE) || !outer.ReadASN1(&tbs, cbasn1.SEQUENCE) || !tbs.SkipASN1(cbasn1.SEQUENCE) ||
		!tbs.ReadOptionalASN1(&exts, &present, explicit(2)) {
		t.Error("the request cannot be decoded")
		return nil
	}
	var nonce cryptobyte.String
	if present && !extensions(exts, func(_, value cryptobyte.String, _ bool) bool { return value.ReadASN1(&nonce, cbasn1.OCTET_STRING) }) {
		t.Error("the extensions of the request cannot be decoded")
	}
	return nonce
}

// oracle is an OCSP responder for the clients of the world's intermediate.
type oracle struct {
	*httptest.Server
	t     testing.TB
	w     *world
	asked atomic.Int32

	mu      sync.Mutex
	reply   reply
	nonce   func(sent []byte) []byte // of the answer; nil: none
	handle  http.HandlerFunc         // instead
	lastReq []byte
}

func newOracle(t testing.TB, w *world) *oracle {
	t.Helper()
	o := &oracle{t: t, w: w, nonce: func(sent []byte) []byte { return sent }}
	o.Server = httptest.NewServer(o)
	t.Cleanup(o.Close)
	return o
}

func (o *oracle) set(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
}

func (o *oracle) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	o.asked.Add(1)
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/ocsp-request" {
		o.t.Errorf("%s %v, %v", r.Method, r.Header, err)
	}
	o.mu.Lock()
	reply, nonce, handle := o.reply, o.nonce, o.handle
	o.lastReq = body
	o.mu.Unlock()
	if handle != nil {
		handle(rw, r)
		return
	}
	req, err := ocsp.ParseRequest(body)
	if err != nil || req.SerialNumber.Cmp(o.w.client.Cert.SerialNumber) != 0 {
		o.t.Errorf("request %+v, %v", req, err)
		return
	}
	der := o.w.staple(o.t, o.w.inter, o.w.client.Cert, reply)
	if sent := nonceOf(o.t, body); sent != nil && nonce(sent) != nil {
		der = withNonce(o.t, der, nonce(sent), o.w.inter.Key)
	}
	_, _ = rw.Write(der)
}

// asking is an authority with the root's list and a responder for the rest.
func asking(t testing.TB, w *world, o *oracle, cfg OCSP) Authority {
	t.Helper()
	a := w.authority(Hard)
	a.Sources = []Source{{Location: "/in/memory", Lists: testpki.Must(ParseLists(w.crl(t, w.root, crl{number: 1, to: 100 * time.Hour}), w.cas()))}}
	cfg.URL = o.URL
	a.OCSP = &cfg
	return a
}

func TestNonce(t *testing.T) {
	w := newWorld(t)
	same := func(sent []byte) []byte { return sent }
	other := func([]byte) []byte { return make([]byte, nonceSize) }
	none := func([]byte) []byte { return nil }
	for _, c := range []struct {
		name  string
		rule  Nonce
		nonce func([]byte) []byte
		good  bool
		size  int
	}{
		{"required, same", NonceRequired, same, true, 32}, {"required, other", NonceRequired, other, false, 32}, {"required, none", NonceRequired, none, false, 32},
		{"optional, same", NonceOptional, same, true, 32}, {"optional, other", NonceOptional, other, false, 32}, {"optional, none", NonceOptional, none, true, 32},
		{"off", NonceOff, none, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOracle(t, w)
			o.set(func() { o.nonce = c.nonce })
			k := checker(t, Options{}, asking(t, w, o, OCSP{Nonce: c.rule}))
			r := k.Check(t.Context(), peerOf(w.client, w.root), w.now)
			if (r.Status == Good) != c.good || r.Source != FromOCSP || (r.Code == "") != c.good {
				t.Errorf("%+v", r)
			}
			if n := len(nonceOf(t, o.lastReq)); n != c.size {
				t.Errorf("a nonce of %d octets was sent", n)
			}
		})
	}
}

// An answer is cached for max_age, a failure for some seconds. While the responder is
// down a good answer is used until it is stale.
func TestOCSPCache(t *testing.T) {
	w := newWorld(t)
	o := newOracle(t, w)
	o.set(func() { o.reply.to = 3 * time.Hour })
	k := checker(t, Options{}, asking(t, w, o, OCSP{MaxAge: time.Minute}))
	at := func(d time.Duration) Result { return k.Check(t.Context(), peerOf(w.client, w.root), w.now.Add(d)) }
	asked := func(want int32) {
		t.Helper()
		if n := o.asked.Load(); n != want {
			t.Fatalf("asked %d times, want %d", n, want)
		}
	}
	for range 3 {
		if r := at(0); r.Status != Good || !r.Until.Equal(w.now.Add(3*time.Hour)) {
			t.Fatalf("%+v", r)
		}
	}
	asked(1)
	at(59 * time.Second)
	asked(1)
	at(61 * time.Second)
	asked(2)
	// Down: the answer stays in use, and the responder is left alone.
	o.set(func() {
		o.handle = func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "no", http.StatusInternalServerError) }
	})
	if r := at(time.Hour); r.Status != Good {
		t.Errorf("%+v", r)
	}
	at(time.Hour + 2*time.Second)
	asked(3)
	at(time.Hour + 6*time.Second)
	asked(4)
	// Until it is stale.
	if r := at(4 * time.Hour); r.Code != reason.RevocationUnknown {
		t.Errorf("%+v", r)
	}
	asked(5)
	at(4*time.Hour + time.Second)
	asked(5)
	// Back, and revoked: that is final.
	o.set(func() { o.handle, o.reply = nil, reply{status: 1, to: 9 * time.Hour} })
	epoch := k.Epoch()
	for range 2 {
		if r := at(4*time.Hour + 10*time.Second); r.Code != reason.Revoked || r.Source != FromOCSP {
			t.Errorf("%+v", r)
		}
	}
	asked(6)
	if k.Epoch() != epoch+1 {
		t.Errorf("epoch %d after %d", k.Epoch(), epoch)
	}
	at(1000 * time.Hour)
	asked(6)
	if end, _ := k.Ended(peerOf(w.client, w.root), w.now); end != reason.EndRevoked {
		t.Errorf("a live flow ends by %q", end)
	}
	if s := k.Stats().Authorities["staff"]; s.OCSPAsked != 6 || s.OCSPFailures != 3 || s.OCSPCached < 5 {
		t.Errorf("%+v", s)
	}
}

// Many flows with one certificate ask once; a flow that gives up does not make the others
// fail.
func TestOneQuestionAtATime(t *testing.T) {
	w := newWorld(t)
	o := newOracle(t, w)
	k := checker(t, Options{}, asking(t, w, o, OCSP{}))
	hold, seen := make(chan struct{}), make(chan struct{}, 100)
	o.set(func() {
		o.handle = func(rw http.ResponseWriter, r *http.Request) {
			seen <- struct{}{}
			select {
			case <-hold:
			case <-r.Context().Done():
				return
			}
			_, _ = rw.Write(withNonce(t, w.staple(t, w.inter, w.client.Cert, reply{}), nonceOf(t, o.lastReq), w.inter.Key))
		}
	})
	impatient, giveUp := context.WithCancel(t.Context())
	first := make(chan Result)
	go func() { first <- k.Check(impatient, peerOf(w.client, w.root), w.now) }()
	<-seen
	var wg sync.WaitGroup
	var good atomic.Int32
	for range 20 {
		wg.Go(func() {
			if k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status == Good {
				good.Add(1)
			}
		})
	}
	time.Sleep(20 * time.Millisecond) // so that most wait
	giveUp()
	if r := <-first; r.Code != reason.RevocationUnknown {
		t.Errorf("the one that gave up: %+v", r)
	}
	<-seen
	close(hold)
	wg.Wait()
	if good.Load() != 20 || o.asked.Load() != 2 {
		t.Errorf("%d good answers by %d questions", good.Load(), o.asked.Load())
	}
	if s := k.Stats().Authorities["staff"]; s.OCSPFailures != 0 {
		t.Errorf("that a flow gave up counts as a failure: %+v", s)
	}
}

func TestResponderBounds(t *testing.T) {
	w := newWorld(t)
	for name, handle := range map[string]http.HandlerFunc{
		"silent": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"huge":   func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(make([]byte, maxAnswer+1)) },
		"redirect": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/x", http.StatusTemporaryRedirect)
		},
		"404":  http.NotFound,
		"text": func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "hello") },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOracle(t, w)
			o.set(func() { o.handle = handle })
			timeout := testenv.Patience()
			if name == "silent" {
				timeout = time.Second
			}
			k := checker(t, Options{}, asking(t, w, o, OCSP{Timeout: timeout}))
			from := time.Now()
			for range 5 {
				if r := k.Check(t.Context(), peerOf(w.client, w.root), w.now); r.Code != reason.RevocationUnknown {
					t.Errorf("%+v", r)
				}
			}
			if n, d := o.asked.Load(), time.Since(from); n > 1 || n == 0 && name != "silent" || d > testenv.Patience() {
				t.Errorf("asked %d times in %s", n, d)
			}
			a := asking(t, w, o, OCSP{Timeout: timeout})
			a.Mode = Soft
			if r := checker(t, Options{}, a).Check(t.Context(), peerOf(w.client, w.root), w.now); r.Code != "" || r.Status != Unknown || r.Detail == "" {
				t.Errorf("soft: %+v", r)
			}
		})
	}
}

// The answer of a live flow is asked for again; an answer that no flow uses is dropped.
func TestRenew(t *testing.T) {
	w := newWorld(t)
	o := newOracle(t, w)
	clk := &clock{now: w.now}
	k := checker(t, Options{Now: clk.Now, Poll: 2 * time.Millisecond}, asking(t, w, o, OCSP{MaxAge: time.Minute}))
	var told atomic.Int32
	k.OnChange(func() { told.Add(1) })
	peer := peerOf(w.client, w.root)
	if r := k.Check(t.Context(), peer, clk.Now()); r.Status != Good {
		t.Fatalf("%+v", r)
	}
	running(t, k)
	alive := func() reason.Code { end, _ := k.Ended(peer, clk.Now()); return end }
	if alive() != "" {
		t.Fatal("ended")
	}
	clk.add(2 * time.Minute)
	testenv.Eventually(t, "a new question for a live flow", func() bool { return o.asked.Load() == 2 })
	alive()
	o.set(func() { o.reply.status = 1 })
	clk.add(2 * time.Minute)
	testenv.Eventually(t, "the revocation", func() bool { return alive() == reason.EndRevoked })
	testenv.Eventually(t, "word of it", func() bool { return told.Load() == 1 })

	// Without a flow that uses it there is no question, and in the end no entry.
	o2 := newOracle(t, w)
	k2 := checker(t, Options{Now: clk.Now, Poll: 2 * time.Millisecond}, asking(t, w, o2, OCSP{MaxAge: time.Minute}))
	o2.set(func() { o2.reply.to = time.Hour })
	k2.Check(t.Context(), peer, clk.Now())
	running(t, k2)
	clk.add(2 * time.Hour)
	r := k2.data.Load().authorities["staff"].responder
	testenv.Eventually(t, "an empty cache", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return len(r.cache) == 0
	})
	if n := o2.asked.Load(); n != 1 {
		t.Errorf("asked %d times for nobody", n)
	}
}

func TestCacheIsBounded(t *testing.T) {
	w := newWorld(t)
	r := newResponder(OCSP{}, newClient(0), &counters{})
	var revoked [32]byte
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range maxCached + 1000 {
		q := question{number: serial{byte(i), byte(i >> 8), byte(i >> 16)}, issuer: w.inter.Cert}
		key := cacheKey(q.number, q.issuer)
		e := r.entryLocked(key, q, w.now)
		e.status, e.until = Good, w.now.Add(time.Duration(i)*time.Second)
		if i == 7 {
			e.status, revoked = Revoked, key
		}
	}
	if len(r.cache) != maxCached || len(r.issuers) != 1 {
		t.Errorf("%d entries, %d issuers", len(r.cache), len(r.issuers))
	}
	if r.cache[revoked] == nil {
		t.Error("the revocation was thrown out first")
	}
}

func TestRequest(t *testing.T) {
	w := newWorld(t)
	high := testpki.Must(w.inter.Issue(testpki.Leaf{Mutate: func(c *x509.Certificate) {
		c.SerialNumber.SetBytes([]byte{0x80, 1, 2, 3, 4, 5, 6, 7})
	}}))
	for _, c := range []*testpki.Cert{w.client, high} {
		n, _ := serialOf(c.Cert)
		der, err := request(n, w.inter.Cert, nil)
		if err != nil {
			t.Fatal(err)
		}
		want, err := ocsp.CreateRequest(c.Cert, w.inter.Cert, nil)
		if err != nil {
			t.Fatal(err)
		}
		if string(der) != string(want) {
			t.Errorf("% x\nwant % x", der, want)
		}
	}
	if _, err := request(serial{}, &x509.Certificate{}, nil); err == nil {
		t.Error("an issuer without a key")
	}
}
