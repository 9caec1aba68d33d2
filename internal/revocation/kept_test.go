package revocation

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// However a list vanishes from its file, the clients it revokes stay out, under soft too.
// That is logged, and the list is "missing" until it is there again.
func TestVanishedListStays(t *testing.T) {
	w := newWorld(t)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff Issuing CA"})) // another key of that name
	third := testpki.Must(testpki.NewCA(testpki.Options{CN: "Third"}))
	twoKeys := testpki.Must(w.root.Intermediate(testpki.Options{CN: "Staff Issuing CA"}))
	revoked := []*x509.Certificate{w.client.Cert}
	ofInter := w.crl(t, w.inter, crl{number: 5, revoked: revoked})
	ofRoot := w.crl(t, w.root, crl{number: 5})
	both := pemOf(ofRoot, ofInter)
	users := []pkix.Extension{idp(t, 1)}
	for name, c := range map[string]struct {
		after   []byte // nil: the file is removed
		refused bool   // by the file itself
	}{
		"the other list only":       {pemOf(ofRoot), false},
		"a newer other list":        {pemOf(w.crl(t, w.root, crl{number: 6})), false},
		"a list of a second key":    {pemOf(ofRoot, w.crl(t, twoKeys, crl{number: 9})), false},
		"a list of another scope":   {pemOf(ofRoot, w.crl(t, w.inter, crl{number: 9, exts: users})), false},
		"removed":                   {nil, true},
		"empty":                     {[]byte{}, true},
		"blank":                     {[]byte("\n\n"), true},
		"cut in the middle":         {both[:len(both)-40], true},
		"an error page":             {[]byte("<html>502 Bad Gateway</html>\n"), true},
		"quoted":                    {append(pemOf(ofRoot), []byte("> "+strings.ReplaceAll(string(pemOf(ofInter)), "\n", "\n> "))...), true},
		"a lower number":            {pemOf(ofRoot, w.crl(t, w.inter, crl{number: 4})), true},
		"a list of a foreign CA":    {pemOf(ofRoot, w.crl(t, other, crl{number: 6})), true},
		"a delta in its place":      {pemOf(ofRoot, w.crl(t, w.inter, crl{number: 6, exts: []pkix.Extension{{Id: oidDelta, Critical: true, Value: []byte{2, 1, 1}}}})), true},
		"an indirect one":           {pemOf(ofRoot, w.crl(t, w.inter, crl{number: 6, exts: []pkix.Extension{idp(t, 4)}})), true},
		"the certificate of the CA": {testpki.CertsPEM(w.inter.Cert), true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := file(t, dir, "both.crl", both)
			a := w.authority(Soft, path)
			a.Intermediates = append(a.Intermediates, twoKeys.Cert)
			log, logs := logged()
			k := checker(t, Options{Log: log, Poll: 2 * time.Millisecond}, a)
			status := func() Status { return k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status }
			if status() != Revoked {
				t.Fatal("the list was not taken")
			}
			running(t, k)
			if c.after == nil {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				file(t, dir, "both.crl", c.after)
			}
			said, want := "revocation list vanished: no source carries it any more; the one known stays in use", 1
			if c.refused {
				said = "revocation list not taken"
			}
			testenv.Eventually(t, "a warning", func() bool { return logs.FilterMessage(said).Len() >= want })
			if status() != Revoked {
				t.Fatal("the revoked client is let in")
			}
			if got := missingOf(k); got == 0 {
				t.Errorf("nothing is missing: %+v", k.Stats().Authorities["staff"].Lists)
			}
			// Reloads do not change that, whether the file is read before or not.
			k.Reload([]Authority{a})
			b := a
			b.Roots = append(b.Roots[:1:1], third.Cert)
			k.Reload([]Authority{b})
			if status() != Revoked || missingOf(k) == 0 {
				t.Errorf("after reloads: %s, %d missing", status(), missingOf(k))
			}
			// The next list does not have the client: it is let in, and nothing is
			// missing.
			file(t, dir, "both.crl", pemOf(w.crl(t, w.inter, crl{number: 7}), w.crl(t, w.root, crl{number: 7})))
			testenv.Eventually(t, "the next list", func() bool { return status() == Good })
			if name != "a list of a second key" && name != "a list of another scope" {
				testenv.Eventually(t, "nothing missing", func() bool { return missingOf(k) == 0 })
			}
		})
	}
}

func missingOf(k *Checker) int {
	n := 0
	for _, l := range k.Stats().Authorities["staff"].Lists {
		if l.State == missing {
			n++
		}
	}
	return n
}

// Reloads whose files were read by the configuration: one file lacks the earlier list,
// one reload names another file, one does not trust the CA any more.
func TestVanishedInAReload(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	ofRoot, ofInter := w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}})
	path := file(t, dir, "both.crl", pemOf(ofRoot, ofInter))
	load := func(path string) Authority {
		t.Helper()
		a := w.authority(Soft)
		a.Sources = []Source{testpki.Must(readLists(path, w.cas()))}
		return a
	}
	k := checker(t, Options{}, load(path))
	status := func() Status { return k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status }
	file(t, dir, "both.crl", pemOf(ofRoot))
	k.Reload([]Authority{load(path)})
	if status() != Revoked || missingOf(k) != 1 {
		t.Errorf("exchanged before a reload: %s, %d missing", status(), missingOf(k))
	}
	digest := k.Digest()
	k.Reload([]Authority{load(file(t, dir, "other.crl", pemOf(ofRoot)))})
	if status() != Revoked || missingOf(k) != 1 || k.Digest() != digest {
		t.Errorf("another file: %s, %d missing", status(), missingOf(k))
	}
	a := load(path)
	a.Sources = nil
	k.Reload([]Authority{a})
	if status() != Unknown || missingOf(k) != 0 {
		t.Errorf("no crl in the configuration: %s, %d missing", status(), missingOf(k))
	}
	k.Reload([]Authority{load(file(t, dir, "both.crl", pemOf(ofRoot, ofInter)))})
	if status() != Revoked || missingOf(k) != 0 {
		t.Errorf("there again: %s, %d missing", status(), missingOf(k))
	}
	a.Intermediates = nil
	a.Sources = load(file(t, dir, "root.crl", pemOf(ofRoot))).Sources
	k.Reload([]Authority{a})
	if missingOf(k) != 0 || status() == Revoked {
		t.Errorf("a CA that is trusted no more: %+v", k.Stats().Authorities["staff"].Lists)
	}
}

// A list that has vanished expires like any other: that is logged once, and its
// revocations stay final.
func TestVanishedListEnds(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	clk := &clock{now: w.now}
	log, logs := logged()
	path := file(t, dir, "both.crl", pemOf(w.crl(t, w.root, crl{number: 1, to: 100 * time.Hour}), w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}})))
	k := checker(t, Options{Log: log, Now: clk.Now, Poll: 2 * time.Millisecond}, w.authority(Soft, path))
	running(t, k)
	file(t, dir, "both.crl", pemOf(w.crl(t, w.root, crl{number: 1, to: 100 * time.Hour})))
	testenv.Eventually(t, "the warning", func() bool { return missingOf(k) == 1 })
	epoch := k.Epoch()
	clk.add(25 * time.Hour)
	testenv.Eventually(t, "the end", func() bool { return logs.FilterMessage("revocation list expired").Len() == 1 && k.Epoch() == epoch+1 })
	if missingOf(k) != 0 || k.Check(t.Context(), peerOf(w.client, w.root), clk.Now()).Status != Revoked {
		t.Errorf("%+v", k.Stats().Authorities["staff"].Lists)
	}
}

// A server that cannot be reached says nothing about its lists; one that has no list any
// more, or another CA's, does.
func TestVanishedFromAServer(t *testing.T) {
	w := newWorld(t)
	both := pemOf(w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}}))
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for name, c := range map[string]struct {
		data   []byte
		handle http.HandlerFunc
		gone   bool
	}{
		"unavailable": {nil, status(http.StatusServiceUnavailable), false},
		"cut off": {nil, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusOK)
		}, false},
		"not found":           {nil, status(http.StatusNotFound), true},
		"gone":                {nil, status(http.StatusGone), true},
		"empty":               {[]byte{}, nil, true},
		"the other list only": {pemOf(w.crl(t, w.root, crl{number: 2})), nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, both)
			k := checker(t, Options{}, w.authority(Soft, p.URL))
			k.Prime(t.Context())
			src := k.sources[0]
			p.set(c.data, "", c.handle)
			k.claim(func(*source) bool { return true })
			k.load(t.Context(), src)
			if k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status != Revoked {
				t.Error("the revoked client is let in")
			}
			if got := missingOf(k) > 0; got != c.gone {
				t.Errorf("missing: %v, want %v", got, c.gone)
			}
		})
	}
}

// Lists that the configuration takes out of force are logged once, because the clients
// they revoke are let in again.
func TestDroppedListIsSaid(t *testing.T) {
	w := newWorld(t)
	dir := t.TempDir()
	path := file(t, dir, "both.crl", pemOf(w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 1, revoked: []*x509.Certificate{w.client.Cert}})))
	for name, change := range map[string]func(*Authority){
		"no crl": func(a *Authority) { a.Sources = nil },
		"off":    func(a *Authority) { a.Mode = Off },
	} {
		log, logs := logged()
		k := checker(t, Options{Log: log}, w.authority(Soft, path))
		a := w.authority(Soft, path)
		change(&a)
		k.Reload([]Authority{a})
		k.Reload([]Authority{a})
		said := logs.FilterMessageSnippet("revocation list out of force").All()
		if len(said) != 2 || said[0].ContextMap()["source"] != path || said[0].ContextMap()["authority"] != "staff" {
			t.Errorf("%s: %v", name, said)
		}
	}
}
