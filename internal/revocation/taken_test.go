package revocation

import (
	"math/big"
	"net/http"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// A client with an old staple that says "good" is refused once anything says, or has ever
// said, revoked: the responder, whether it was asked before or not, its cache, a staple
// of the client itself, a list; about the certificate or the CA above it. Its live flow
// ends too.
func TestRevokedBeatsStaple(t *testing.T) {
	w := newWorld(t)
	good := func(p *handshake.Peer) *handshake.Peer {
		p.OCSPStaple = w.staple(t, w.inter, w.client.Cert, reply{})
		return p
	}
	with := func(p *handshake.Peer, der []byte) *handshake.Peer {
		p.OCSPStaple = der
		return p
	}
	peer := func() *handshake.Peer { return peerOf(w.client, w.root) }
	says := func(o *oracle, status int) { o.set(func() { o.reply = reply{status: status} }) }
	revoked := w.staple(t, w.inter, w.client.Cert, reply{status: 1})
	for name, learn := range map[string]func(t *testing.T, k *Checker, o *oracle){
		"the responder was never asked": func(_ *testing.T, _ *Checker, o *oracle) { says(o, 1) },
		"the responder said so before": func(t *testing.T, k *Checker, o *oracle) {
			says(o, 1)
			k.Check(t.Context(), peer(), w.now)
			says(o, 0)
		},
		"its answer is good and young, his staple said revoked once": func(t *testing.T, k *Checker, _ *oracle) {
			if r := k.Check(t.Context(), good(peer()), w.now); r.Status != Good {
				t.Errorf("before: %+v", r)
			}
			k.Check(t.Context(), with(peer(), revoked), w.now)
		},
		"the responder has lost it since": func(t *testing.T, k *Checker, o *oracle) {
			says(o, 1)
			k.Check(t.Context(), peer(), w.now)
			says(o, 0)
			r := k.data.Load().authorities["staff"].responder
			r.mu.Lock()
			clear(r.cache)
			r.mu.Unlock()
		},
		"the responder is another one since": func(t *testing.T, k *Checker, o *oracle) {
			says(o, 1)
			k.Check(t.Context(), peer(), w.now)
			says(o, 0)
			k.Reload([]Authority{asking(t, w, o, OCSP{MaxAge: time.Hour})})
		},
		"a list came since that does not have it yet": func(t *testing.T, k *Checker, o *oracle) {
			says(o, 1)
			k.Check(t.Context(), peer(), w.now)
			a := asking(t, w, o, OCSP{})
			a.Sources = append(a.Sources, Source{Location: "/in/memory/too", Lists: testpki.Must(ParseLists(w.crl(t, w.inter, crl{number: 1}), w.cas()))})
			k.Reload([]Authority{a})
		},
		"the CA above it": func(t *testing.T, k *Checker, o *oracle) {
			a := asking(t, w, o, OCSP{Nonce: NonceOff})
			a.Sources = nil
			k.Reload([]Authority{a})
			o.set(func() {
				o.handle = func(rw http.ResponseWriter, _ *http.Request) {
					_, _ = rw.Write(w.staple(t, w.root, w.inter.Cert, reply{status: 1}))
				}
			})
			k.Check(t.Context(), peer(), w.now)
			o.set(func() { o.handle = nil })
		},
	} {
		for _, mode := range []Mode{Hard, Soft} {
			t.Run(name+", "+mode.String(), func(t *testing.T) {
				o := newOracle(t, w)
				a := asking(t, w, o, OCSP{})
				a.Mode = mode
				k := checker(t, Options{}, a)
				learn(t, k, o)
				for _, p := range []*handshake.Peer{good(peer()), peer(), good(peer())} {
					if r := k.Check(t.Context(), p, w.now); r.Code != reason.Revoked || r.Status != Revoked {
						t.Errorf("staple %v: %+v", p.OCSPStaple != nil, r)
					}
				}
				if code, detail := k.Ended(good(peer()), w.now); code != reason.EndRevoked || detail == "" {
					t.Errorf("a live flow: %q %q", code, detail)
				}
				if other := k.Check(t.Context(), &handshake.Peer{Authority: "staff", Chain: w.direct.Chain, Shown: w.direct.Chain}, w.now); other.Status == Revoked {
					t.Errorf("another client: %+v", other)
				}
			})
		}
	}
}

// If the responder cannot be asked, the staple counts, and a good answer that is young
// saves the question.
func TestStapleWithoutResponder(t *testing.T) {
	w := newWorld(t)
	o := newOracle(t, w)
	k := checker(t, Options{}, asking(t, w, o, OCSP{}))
	p := peerOf(w.client, w.root)
	p.OCSPStaple = w.staple(t, w.inter, w.client.Cert, reply{})
	o.set(func() {
		o.handle = func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) }
	})
	if r := k.Check(t.Context(), p, w.now); r.Status != Good || r.Source != FromStaple {
		t.Errorf("the responder is down: %+v", r)
	}
	o.set(func() { o.handle = nil })
	later := w.now.Add(failedFor + time.Second)
	for range 3 {
		if r := k.Check(t.Context(), p, later); r.Status != Good || r.Source != FromOCSP {
			t.Errorf("the responder is back: %+v", r)
		}
	}
	if n := o.asked.Load(); n != 2 {
		t.Errorf("asked %d times", n)
	}
}

// If an answer has the certificate twice the revocation counts, and a signed revocation
// counts without the nonce that a good answer needs.
func TestRevocationInAnswer(t *testing.T) {
	w := newWorld(t)
	parse := func(status int) *answer {
		return testpki.Must(parseAnswer(w.staple(t, w.inter, w.client.Cert, reply{status: status})))
	}
	q := w.questionOf(w.client, w.inter)
	for _, order := range [][]int{{0, 1}, {1, 0}, {2, 1}, {0, 2, 1}} {
		a := parse(order[0])
		for _, s := range order[1:] {
			a.singles = append(a.singles, parse(s).singles...)
		}
		if st, _, err := a.judge(q, w.now); st != Revoked || err != nil {
			t.Errorf("%v: %s, %v", order, st, err)
		}
	}
	q.nonce, q.demanded = make([]byte, nonceSize), true
	if st, _, err := parse(0).judge(q, w.now); st != Unknown || err == nil {
		t.Errorf("good without the nonce: %s, %v", st, err)
	}
	if st, _, err := parse(1).judge(q, w.now); st != Revoked || err != nil {
		t.Errorf("revoked without the nonce: %s, %v", st, err)
	}
}

// What is remembered is bounded, and asking costs little.
func TestTakenIsBounded(t *testing.T) {
	w := newWorld(t)
	v := &taken{}
	for i := range maxTaken + 100 {
		n, _ := newSerial(append([]byte{0}, big.NewInt(int64(i)+1).Bytes()...))
		if !v.add(n, w.inter.Cert) || v.add(n, w.inter.Cert) || !v.has(n, w.inter.Cert) || v.has(n, w.root.Cert) {
			t.Fatalf("number %d", i)
		}
	}
	if len(v.m) != maxTaken {
		t.Errorf("%d remembered", len(v.m))
	}
}
