package revocation

import (
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The digest covers mode, CAs, responder and every list of each authority that is
// checked. It does not cover the order, the place or the form.
func TestDigest(t *testing.T) {
	w := newWorld(t)
	one, two := w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 1})
	next := w.crl(t, w.root, crl{number: 2, revoked: []*x509.Certificate{w.direct.Cert}})
	lists := func(place string, der ...[]byte) Source {
		return Source{Location: place, Lists: testpki.Must(ParseLists(pemOf(der...), w.cas()))}
	}
	digest := func(change func(a *Authority), others ...Authority) string {
		a := w.authority(Hard)
		a.Sources = []Source{lists("/a.crl", one), lists("/b.crl", two)}
		a.OCSP = &OCSP{URL: "http://ocsp.example/"}
		change(&a)
		k := checker(t, Options{}, append(slices.Clone(others), a)...)
		if s := k.Stats().Digest; s != k.Digest() {
			t.Errorf("stats have %q, the checker %q", s, k.Digest())
		}
		return k.Digest()
	}
	base := digest(func(*Authority) {})
	if len(base) != 16 {
		t.Fatalf("digest %q", base)
	}
	off := Authority{Name: "aaa", Mode: Off, Roots: []*x509.Certificate{w.inter.Cert}}
	for name, got := range map[string]string{
		"another order":         digest(func(a *Authority) { slices.Reverse(a.Sources) }),
		"another place":         digest(func(a *Authority) { a.Sources[0].Location = "/elsewhere.crl" }),
		"one file":              digest(func(a *Authority) { a.Sources = []Source{lists("/both.crl", two, one)} }),
		"one list twice":        digest(func(a *Authority) { a.Sources = append(a.Sources, lists("/again.crl", one)) }),
		"refresh":               digest(func(a *Authority) { a.Refresh = time.Minute }),
		"an unchecked one":      digest(func(*Authority) {}, off),
		"another run, the same": digest(func(*Authority) {}),
	} {
		if got != base {
			t.Errorf("%s: %s, want %s", name, got, base)
		}
	}
	seen := map[string]string{base: "base"}
	for name, got := range map[string]string{
		"another list":       digest(func(a *Authority) { a.Sources[0] = lists("/a.crl", next) }),
		"a list less":        digest(func(a *Authority) { a.Sources = a.Sources[:1] }),
		"no list":            digest(func(a *Authority) { a.Sources = nil }),
		"soft":               digest(func(a *Authority) { a.Mode = Soft }),
		"a CA less":          digest(func(a *Authority) { a.Intermediates = nil }),
		"another responder":  digest(func(a *Authority) { a.OCSP.URL = "http://ocsp2.example/" }),
		"another nonce rule": digest(func(a *Authority) { a.OCSP.Nonce = NonceOff }),
		"no responder":       digest(func(a *Authority) { a.OCSP = nil }),
		"another name":       digest(func(a *Authority) { a.Name = "partner" }),
		"off":                digest(func(a *Authority) { a.Mode = Off }),
	} {
		if was, ok := seen[got]; ok {
			t.Errorf("%s: the same digest as %s", name, was)
		}
		seen[got] = name
		if (got == "") != (name == "off") {
			t.Errorf("%s: digest %q", name, got)
		}
	}
}

// A list that is loaded while it runs changes the digest, one that is refused does not.
// An answer has the digest of the lists it came from.
func TestDigestFollowsTheLists(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	path := file(t, dir, "x.crl", w.crl(t, w.root, crl{number: 5}))
	k := checker(t, Options{Poll: 2 * time.Millisecond}, w.authority(Hard, path))
	before := k.Digest()
	running(t, k)
	p := peerOf(w.direct, w.root)
	if r := k.Check(t.Context(), p, w.now); r.Status != Good || r.Digest != before {
		t.Fatalf("%+v, want digest %s", r, before)
	}
	failures := func() uint64 { return k.Stats().Authorities["staff"].Failures }
	file(t, dir, "x.crl", w.crl(t, w.root, crl{number: 4, revoked: []*x509.Certificate{w.direct.Cert}, from: -2 * time.Hour}))
	testenv.Eventually(t, "the older list is refused", func() bool { return failures() > 0 })
	if k.Digest() != before {
		t.Error("a refused list changed the digest")
	}
	file(t, dir, "x.crl", w.crl(t, w.root, crl{number: 6, revoked: []*x509.Certificate{w.direct.Cert}}))
	testenv.Eventually(t, "the newer list is taken", func() bool { return k.Digest() != before })
	if r := k.Check(t.Context(), p, w.now); r.Status != Revoked || r.Digest != k.Digest() {
		t.Errorf("%+v, want digest %s", r, k.Digest())
	}
}

// A list of one authority changes the digest of those sets that it is in, and no other; an
// authority that is not checked or not known changes none.
func TestDigestOfSomeAuthorities(t *testing.T) {
	w := newWorld(t)
	one := testpki.Must(ParseLists(pemOf(w.crl(t, w.root, crl{number: 1})), w.cas()))
	two := testpki.Must(ParseLists(pemOf(w.crl(t, w.root, crl{number: 2})), w.cas()))
	checks := func(lists []*List) *Checker {
		a, b, off := w.authority(Hard), w.authority(Hard), Authority{Name: "off", Mode: Off}
		a.Name, a.Sources = "a", []Source{{Location: "/a.crl", Lists: one}}
		b.Name, b.Sources = "b", []Source{{Location: "/b.crl", Lists: lists}}
		return checker(t, Options{}, a, b, off)
	}
	before, after := checks(one), checks(two)
	for _, c := range []struct {
		authorities []string
		stays       bool
	}{
		{[]string{"a"}, true}, {[]string{"a", "off", "nobody"}, true}, {[]string{"b"}, false}, {[]string{"a", "b"}, false},
	} {
		x, y := before.DigestOf(c.authorities), after.DigestOf(c.authorities)
		if x == "" || (x == y) != c.stays {
			t.Errorf("%v: %s, then %s", c.authorities, x, y)
		}
	}
	if x := before.DigestOf([]string{"b", "a", "a"}); x != before.DigestOf([]string{"a", "b"}) || x != before.Digest() {
		t.Errorf("all of them: %s, the digest is %s", x, before.Digest())
	}
	if x := before.DigestOf([]string{"off", "nobody"}); x != "" {
		t.Errorf("nothing is checked: %q", x)
	}
}
