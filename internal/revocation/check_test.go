package revocation

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestCheckByLists(t *testing.T) {
	w := newWorld(t)
	ofRoot := crl{number: 1}
	all := []*x509.Certificate{w.direct.Cert, w.client.Cert}
	renewed := testpki.Must(w.root.Intermediate(testpki.Options{CN: "Staff Issuing CA"})) // same name, another key
	for _, c := range []struct {
		name   string
		root   *crl // nil: none
		inter  *crl
		who    *testpki.Cert
		mode   Mode
		status Status
		code   reason.Code
		says   string
	}{
		{"good", &ofRoot, &crl{number: 1}, w.client, Hard, Good, "", "number 1"},
		{"revoked", &ofRoot, &crl{number: 1, revoked: all}, w.client, Hard, Revoked, reason.Revoked, "CN=client"},
		{"revoked, soft", &ofRoot, &crl{number: 1, revoked: all}, w.client, Soft, Revoked, reason.Revoked, "CN=client"},
		{"revoked, off", &ofRoot, &crl{number: 1, revoked: all}, w.client, Off, Unknown, "", ""},
		{"revoked in a list that has expired", &ofRoot, &crl{number: 1, revoked: all, from: -48 * time.Hour, to: -time.Hour}, w.client, Hard, Revoked, reason.Revoked, "CN=client"},
		{"intermediate revoked", &crl{number: 1, revoked: []*x509.Certificate{w.inter.Cert}}, &crl{number: 1}, w.client, Hard, Revoked, reason.Revoked, "CN=Staff Issuing CA"},
		{"the same serial below another CA", &crl{number: 1, revoked: all}, &crl{number: 1}, w.client, Hard, Good, "", ""},
		{"no list of the issuer, hard", &ofRoot, nil, w.client, Hard, Unknown, reason.RevocationUnknown, "no revocation list of \"CN=Staff Issuing CA"},
		{"no list of the issuer, soft", &ofRoot, nil, w.client, Soft, Unknown, "", "no revocation list"},
		{"no list of the root, hard", nil, &crl{number: 1}, w.client, Hard, Unknown, reason.RevocationUnknown, "CN=Staff Root"},
		{"a client of the root needs none of the intermediate", &ofRoot, nil, w.direct, Hard, Good, "", ""},
		{"expired, hard", &ofRoot, &crl{number: 1, from: -48 * time.Hour, to: -time.Hour}, w.client, Hard, Unknown, reason.RevocationUnknown, "expired on"},
		{"expired, soft", &ofRoot, &crl{number: 1, from: -48 * time.Hour, to: -time.Hour}, w.client, Soft, Unknown, "", "expired on"},
		{"not valid yet", &ofRoot, &crl{number: 1, from: time.Hour, to: 2 * time.Hour}, w.client, Hard, Unknown, reason.RevocationUnknown, "not valid before"},
		{"a clock that is four minutes ahead", &ofRoot, &crl{number: 1, from: 4 * time.Minute}, w.client, Hard, Good, "", ""},
		{"CAs only", &ofRoot, &crl{number: 1, exts: []pkix.Extension{idp(t, 2)}}, w.client, Hard, Unknown, reason.RevocationUnknown, "does not cover"},
		{"an intermediate of the same name", &ofRoot, &crl{number: 1}, testpki.Must(renewed.Issue(testpki.Leaf{CN: "x"})), Hard, Unknown, reason.RevocationUnknown, "no revocation list of"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := w.authority(c.mode)
			for ca, l := range map[*testpki.CA]*crl{w.root: c.root, w.inter: c.inter} {
				if l != nil {
					a.Sources = append(a.Sources, Source{Location: "/in/memory", Lists: testpki.Must(ParseLists(w.crl(t, ca, *l), w.cas()))})
				}
			}
			k := checker(t, Options{}, a)
			r := k.Check(t.Context(), peerOf(c.who, w.root), w.now)
			if r.Status != c.status || r.Code != c.code || !strings.Contains(r.Detail, c.says) {
				t.Errorf("%+v", r)
			}
			if (r.Status == Good) != (!r.Until.IsZero() && r.Until.After(w.now)) {
				t.Errorf("until %v", r.Until)
			}
			end, _ := k.Ended(peerOf(c.who, w.root), w.now)
			if want := map[bool]reason.Code{true: reason.EndRevoked}[c.status == Revoked]; end != want {
				t.Errorf("a live flow ends by %q, want %q", end, want)
			}
		})
	}
}

// Several lists of one CA: a revocation in any of them counts, and one fresh list is
// enough for a good answer. The result is good until the first certificate of the chain
// stops being so.
func TestSeveralLists(t *testing.T) {
	w := newWorld(t)
	lists := func(ls ...[]byte) Authority {
		a := w.authority(Hard)
		a.Sources = []Source{{Location: "/in/memory", Lists: testpki.Must(ParseLists(pemOf(ls...), w.cas()))}}
		return a
	}
	stale := w.crl(t, w.inter, crl{number: 1, from: -48 * time.Hour, to: -time.Hour, exts: []pkix.Extension{idp(t, 1)}})
	long := w.crl(t, w.inter, crl{number: 2, to: 9 * time.Hour})
	short := w.crl(t, w.root, crl{number: 1, to: 2 * time.Hour})
	k := checker(t, Options{}, lists(stale, long, short))
	r := k.Check(t.Context(), peerOf(w.client, w.root), w.now)
	if r.Status != Good || !r.Until.Equal(w.now.Add(2*time.Hour)) {
		t.Errorf("%+v", r)
	}
	if r = k.Check(t.Context(), peerOf(w.client, w.root), w.now.Add(3*time.Hour)); r.Code != reason.RevocationUnknown {
		t.Errorf("after the root's list went stale: %+v", r)
	}
}

// A CA without a list never locks out the clients of another CA, and an authority that is
// not configured lets nobody in.
func TestAuthoritiesApart(t *testing.T) {
	w, x := newWorld(t), newWorld(t)
	good := w.authority(Hard)
	good.Sources = []Source{{Location: "/in/memory", Lists: testpki.Must(ParseLists(pemOf(w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 1})), w.cas()))}}
	none, off := x.authority(Hard, "/nowhere/at/all.crl"), x.authority(Off)
	none.Name, off.Name = "none", "off"
	k := checker(t, Options{}, good, none, off)
	for name, code := range map[string]reason.Code{"staff": "", "none": reason.RevocationUnknown, "off": "", "other": reason.RevocationUnknown, "": reason.RevocationUnknown} {
		who := x
		if name == "staff" {
			who = w
		}
		p := peerOf(who.client, who.root)
		p.Authority = name
		if r := k.Check(t.Context(), p, w.now); r.Code != code {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := k.Check(t.Context(), nil, w.now); r.Code != "" || r.Mode != Off {
		t.Errorf("without a certificate: %+v", r)
	}
	unverified := &handshake.Peer{Shown: w.client.Chain, Authority: "staff"}
	if r := k.Check(t.Context(), unverified, w.now); r.Code != reason.RevocationUnknown {
		t.Errorf("a chain that was not verified: %+v", r)
	}
	anchor := &handshake.Peer{Shown: []*x509.Certificate{w.root.Cert}, Chain: []*x509.Certificate{w.root.Cert}, Authority: "staff"}
	if r := k.Check(t.Context(), anchor, w.now); r.Status != Good {
		t.Errorf("the trust anchor itself: %+v", r)
	}
	s := k.Stats().Authorities
	if a := s["staff"]; a.Good != 2 || a.UnknownRefused != 1 {
		t.Errorf("staff: %+v", a)
	}
	if a := s["none"]; a.UnknownRefused != 1 || a.Failures != 1 || len(a.Lists) != 1 || a.Lists[0].Error == "" {
		t.Errorf("none: %+v", a)
	}
}

func TestEndedByTime(t *testing.T) {
	w := newWorld(t)
	k := checker(t, Options{}, w.authority(Off))
	p := peerOf(w.client, w.root)
	if end, _ := k.Ended(p, w.now); end != "" {
		t.Errorf("ends by %q", end)
	}
	if end, detail := k.Ended(p, w.client.Cert.NotAfter.Add(time.Second)); end != reason.EndExpired || !strings.Contains(detail, "CN=client") {
		t.Errorf("ends by %q, %s", end, detail)
	}
	// An issuer that ends before the leaf ends the flow too.
	inter := testpki.Must(w.root.Intermediate(testpki.Options{NotAfter: w.now.Add(time.Hour)}))
	p = peerOf(testpki.Must(inter.Issue(testpki.Leaf{})), w.root)
	if end, _ := k.Ended(p, w.now.Add(2*time.Hour)); end != reason.EndExpired {
		t.Errorf("ends by %q", end)
	}
	if end, _ := k.Ended(nil, w.now); end != "" {
		t.Error("a flow without certificate ends")
	}
}

// Reload keeps what it can: counters, the epoch, the lists of a source that stays,
// subscriptions. What is no longer configured goes at once.
func TestReload(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	lists := file(t, dir, "all.crl", pemOf(w.crl(t, w.root, crl{number: 5}), w.crl(t, w.inter, crl{number: 5, revoked: []*x509.Certificate{w.client.Cert}})))
	a := w.authority(Hard, lists)
	k := checker(t, Options{}, a)
	var told atomic.Int32
	cancel := k.OnChange(func() { told.Add(1) })
	check := func() Result { return k.Check(t.Context(), peerOf(w.client, w.root), w.now) }
	if r := check(); r.Code != reason.Revoked {
		t.Fatalf("%+v", r)
	}
	epoch := k.Epoch()
	// The configuration reads an older file: the known list stays.
	older := testpki.Must(readLists(file(t, dir, "all.crl", pemOf(w.crl(t, w.root, crl{number: 5}), w.crl(t, w.inter, crl{number: 4}))), w.cas()))
	b := w.authority(Hard)
	b.Sources = []Source{older}
	k.Reload([]Authority{b})
	if r := check(); r.Code != reason.Revoked {
		t.Errorf("after an older list: %+v", r)
	}
	if e := k.Stats().Authorities["staff"].Lists[0].Error; !strings.Contains(e, "number 4 after number 5") {
		t.Errorf("error %q", e)
	}
	newer := testpki.Must(readLists(file(t, dir, "all.crl", pemOf(w.crl(t, w.root, crl{number: 5}), w.crl(t, w.inter, crl{number: 6}))), w.cas()))
	b.Sources = []Source{newer}
	k.Reload([]Authority{b})
	if r := check(); r.Status != Good {
		t.Errorf("after a newer list: %+v", r)
	}
	k.Reload([]Authority{w.authority(Off)})
	if r := check(); r.Mode != Off || r.Code != "" {
		t.Errorf("after off: %+v", r)
	}
	if k.Epoch() < epoch+3 || told.Load() != 3 {
		t.Errorf("epoch %d after %d, told %d times", k.Epoch(), epoch, told.Load())
	}
	if s := k.Stats().Authorities["staff"]; s.Revoked != 2 || s.Good != 1 {
		t.Errorf("counters: %+v", s)
	}
	cancel()
	k.Reload(nil)
	if told.Load() != 3 {
		t.Error("told after cancel")
	}
	if r := check(); r.Code != reason.RevocationUnknown {
		t.Errorf("after the authority is gone: %+v", r)
	}
}

// While lists are exchanged all the time, every answer is that of one list or the other,
// and no check waits.
func TestCheckDuringReload(t *testing.T) {
	w := newWorld(t)
	a, b := w.authority(Hard), w.authority(Hard)
	a.Sources = []Source{{Location: "/a", Lists: testpki.Must(ParseLists(pemOf(w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 1})), w.cas()))}}
	b.Sources = []Source{{Location: "/b", Lists: testpki.Must(ParseLists(pemOf(w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 2, revoked: []*x509.Certificate{w.client.Cert}})), w.cas()))}}
	k := checker(t, Options{}, a)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ctx.Err() == nil; i++ {
			k.Reload([]Authority{[]Authority{a, b}[i%2]})
		}
	}()
	seen := map[Status]int{}
	for range 20000 {
		seen[k.Check(ctx, peerOf(w.client, w.root), w.now).Status]++
	}
	cancel()
	<-done
	if seen[Unknown] != 0 {
		t.Errorf("answers by a mixture: %v", seen)
	}
}

func TestWords(t *testing.T) {
	for _, c := range []struct {
		word       string
		configured bool
		want       Mode
	}{{"", false, Off}, {"", true, Hard}, {"hard", false, Hard}, {"soft", true, Soft}, {"off", true, Off}, {"sotf", false, Hard}} {
		if got := ParseMode(c.word, c.configured); got != c.want {
			t.Errorf("%q, %t: %s", c.word, c.configured, got)
		}
	}
	for i, word := range NonceWords() {
		if ParseNonce(word) != Nonce(i) {
			t.Error(word)
		}
	}
	if ParseNonce("") != NonceRequired || ParseNonce("x") != NonceRequired {
		t.Error("an unknown nonce rule is lax")
	}
	for u, good := range map[string]bool{
		"http://crl.example/x.crl": true, "https://10.0.0.1:8443/": true, "ftp://x/": false, "http:///x": false,
		"http://user:pw@x/": false, "http://x/#y": false, "http://[::1": false, "/etc/x.crl": false,
	} {
		if err := CheckURL(u); (err == nil) != good {
			t.Errorf("%s: %v", u, err)
		}
	}
}
