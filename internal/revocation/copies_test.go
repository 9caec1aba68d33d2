package revocation

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// lives runs a gateway with these authorities: during gets the checker while it runs, and
// the lists in force are saved when it ends.
func lives(t *testing.T, o Options, during func(*Checker), list ...Authority) {
	t.Helper()
	if o.Poll == 0 {
		o.Poll = 2 * time.Millisecond
	}
	k := checker(t, o, list...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- k.Run(ctx) }()
	if during != nil {
		during(k)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func copiesIn(t *testing.T, state string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(state, copiesDir, "*.crl"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// copyKnown says whether the checker has noted that a copy is written.
func copyKnown(k *Checker, path string) bool {
	k.copies.mu.Lock()
	defer k.copies.mu.Unlock()
	return k.copies.known[strings.TrimSuffix(filepath.Base(path), ".crl")]
}

// Whatever replaces a list while the gateway is down, the clients it revokes stay out,
// and that is logged; a newer list is taken.
func TestCopiesOutliveARestart(t *testing.T) {
	w := newWorld(t)
	revoked := []*x509.Certificate{w.client.Cert}
	ofRoot := w.crl(t, w.root, crl{number: 5})
	both := pemOf(ofRoot, w.crl(t, w.inter, crl{number: 5, revoked: revoked}))
	p := publish(t, nil)
	p.set(nil, "", http.NotFound)
	for name, c := range map[string]struct {
		change  func(path string, a *Authority)
		missing bool
		want    Status
	}{
		"an older one": {func(path string, _ *Authority) { write(t, path, pemOf(ofRoot, w.crl(t, w.inter, crl{number: 4}))) }, true, Revoked},
		"the same number, earlier": {func(path string, _ *Authority) {
			write(t, path, pemOf(ofRoot, w.crl(t, w.inter, crl{number: 5, from: -2 * time.Hour})))
		}, true, Revoked},
		"a higher number, backdated": {func(path string, _ *Authority) {
			write(t, path, pemOf(ofRoot, w.crl(t, w.inter, crl{number: 9, from: -9 * time.Hour})))
		}, true, Revoked},
		"one that is not valid yet": {func(path string, _ *Authority) {
			write(t, path, pemOf(ofRoot, w.crl(t, w.inter, crl{number: 6, from: time.Hour})))
		}, true, Revoked},
		"one of another scope": {func(path string, _ *Authority) {
			write(t, path, pemOf(ofRoot, w.crl(t, w.inter, crl{number: 9, exts: []pkix.Extension{idp(t, 1)}})))
		}, true, Revoked},
		"the other list only": {func(path string, _ *Authority) { write(t, path, pemOf(ofRoot)) }, true, Revoked},
		"nothing":             {func(path string, _ *Authority) { _ = os.Remove(path) }, true, Revoked},
		"an error page":       {func(path string, _ *Authority) { write(t, path, []byte("<html>\n")) }, true, Revoked},
		"another file in the config": {func(path string, a *Authority) {
			write(t, path+"2", pemOf(ofRoot))
			a.Sources = []Source{{Location: path + "2"}}
		}, true, Revoked},
		"a URL in the config": {func(_ string, a *Authority) { a.Sources = []Source{{Location: p.URL + "/none"}} }, true, Revoked},
		"the same":            {func(string, *Authority) {}, false, Revoked},
		"a newer one":         {func(path string, _ *Authority) { write(t, path, pemOf(ofRoot, w.crl(t, w.inter, crl{number: 6}))) }, false, Good},
		"a newer one in another file": {func(path string, a *Authority) {
			write(t, path+"2", pemOf(w.crl(t, w.root, crl{number: 6}), w.crl(t, w.inter, crl{number: 6})))
			a.Sources = []Source{{Location: path + "2"}}
		}, false, Good},
		"another CA":             {func(path string, a *Authority) { write(t, path, pemOf(ofRoot)); a.Intermediates = nil }, false, Unknown},
		"no lists in the config": {func(_ string, a *Authority) { a.Sources = nil }, false, Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			state, path := t.TempDir(), file(t, t.TempDir(), "both.crl", both)
			a := w.authority(Soft, path)
			lives(t, Options{State: state}, nil, a)
			if got := copiesIn(t, state); len(got) != 2 {
				t.Fatalf("copies: %v", got)
			}
			c.change(path, &a)
			log, logs := logged()
			for life := range 3 { // what is saved in the second is what the third begins with
				lives(t, Options{State: state, Log: log}, func(k *Checker) {
					if got := k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status; got != c.want {
						t.Errorf("life %d: %s, want %s", life+2, got, c.want)
					}
					if missingOf(k) > 0 != c.missing {
						t.Errorf("life %d: missing %v: %+v", life+2, !c.missing, k.Stats().Authorities["staff"].Lists)
					}
				}, a)
			}
			said := logs.FilterMessageSnippet("revocation list not taken").Len() + logs.FilterMessageSnippet("revocation list vanished").Len()
			if (said > 0) != c.missing {
				t.Errorf("said: %v", logs.All())
			}
		})
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	file(t, filepath.Dir(path), filepath.Base(path), data)
}

// Lists that a configuration has read before handing them over (as the gateway does) are
// compared with the copies too, and so are those of a URL that is no longer named.
func TestCopiesOfWhatWasHandedOver(t *testing.T) {
	w := newWorld(t)
	revoked := []*x509.Certificate{w.client.Cert}
	state, dir := t.TempDir(), t.TempDir()
	load := func(data []byte) Authority {
		a := w.authority(Soft)
		a.Sources = []Source{testpki.Must(readLists(file(t, dir, "a.crl", data), w.cas()))}
		return a
	}
	lives(t, Options{State: state}, nil, load(w.crl(t, w.inter, crl{number: 7, revoked: revoked})))
	older := load(w.crl(t, w.inter, crl{number: 3}))
	lives(t, Options{State: state}, func(k *Checker) {
		st := k.Stats().Authorities["staff"].Lists
		if k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status != Revoked || len(st) != 1 || st[0].Number != "7" || !strings.Contains(st[0].Error, "number 3 after number 7") {
			t.Errorf("%+v", st)
		}
	}, older)

	// A state directory of an earlier version without copies of lists, only of a URL.
	p := publish(t, w.crl(t, w.inter, crl{number: 7, revoked: revoked}))
	state = t.TempDir()
	checker(t, Options{State: state}, w.authority(Soft, p.URL)).Prime(t.Context())
	for range 2 {
		lives(t, Options{State: state}, func(k *Checker) {
			if k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status != Revoked || missingOf(k) != 1 {
				t.Errorf("%+v", k.Stats().Authorities["staff"].Lists)
			}
		}, load(w.crl(t, w.root, crl{number: 1})))
	}
}

// The copies are readable by the gateway alone. There is one for each list in force, and
// it goes with the list.
func TestCopiesFollowWhatIsInForce(t *testing.T) {
	w := newWorld(t)
	state, dir := filepath.Join(t.TempDir(), "state"), t.TempDir()
	path := file(t, dir, "a.crl", pemOf(w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 1})))
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "Other"}))
	b := Authority{Name: "other", Mode: Hard, Roots: []*x509.Certificate{other.Cert}, Sources: []Source{{Location: file(t, dir, "b.crl", w.crl(t, other, crl{number: 1}))}}}
	a := w.authority(Hard, path)
	lives(t, Options{State: state}, func(k *Checker) {
		testenv.Eventually(t, "three copies", func() bool { return len(copiesIn(t, state)) == 3 })
		before := copiesIn(t, state)
		write(t, path, pemOf(w.crl(t, w.root, crl{number: 1}), w.crl(t, w.inter, crl{number: 2})))
		testenv.Eventually(t, "another copy", func() bool {
			now := copiesIn(t, state)
			return len(now) == 3 && !slices.Equal(now, before)
		})
		for _, f := range append(copiesIn(t, state), filepath.Join(state, copiesDir)) {
			if info, err := os.Stat(f); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v %v", f, info.Mode(), err)
			}
		}
		a.Sources = nil
		k.Reload([]Authority{a, b})
		testenv.Eventually(t, "no copy of lists out of force", func() bool { return len(copiesIn(t, state)) == 1 })
	}, a, b)
	// Another configuration with the same directory leaves those alone.
	lives(t, Options{State: state}, nil, w.authority(Hard, path))
	if got := copiesIn(t, state); len(got) != 3 {
		t.Errorf("copies: %v", got)
	}
}

// A copy that is damaged, or is not what its name says, is not used but logged, and stays
// for the operator to check. A half-written copy of a crash is ignored.
func TestCopiesAreNotTrusted(t *testing.T) {
	w := newWorld(t)
	foreign := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff Root"}))
	stranger := testpki.Must(testpki.NewCA(testpki.Options{CN: "Stranger"}))
	for name, bad := range map[string][]byte{
		"empty": {}, "text": []byte("x\n"), "forged": w.crl(t, foreign, crl{number: 9, revoked: []*x509.Certificate{w.direct.Cert}}),
		"of a stranger": w.crl(t, stranger, crl{number: 9}),
		"another list":  w.crl(t, w.inter, crl{number: 9, revoked: []*x509.Certificate{w.client.Cert}}),
	} {
		state, path := t.TempDir(), file(t, t.TempDir(), "a.crl", w.crl(t, w.root, crl{number: 2}))
		a := w.authority(Soft, path)
		lives(t, Options{State: state}, nil, a)
		one := copiesIn(t, state)[0]
		write(t, one, bad)
		write(t, filepath.Join(state, copiesDir, tempPrefix+"1"), bad)
		log, logs := logged()
		lives(t, Options{State: state, Log: log}, func(k *Checker) {
			for _, c := range []*testpki.Cert{w.direct, w.client} {
				if got := k.Check(t.Context(), peerOf(c, w.root), w.now); got.Status == Revoked {
					t.Errorf("%s: %+v", name, got)
				}
			}
		}, a)
		if said := logs.FilterMessageSnippet("the copy of a revocation list that was in force cannot be read").Len(); said != 1 {
			t.Errorf("%s: %v", name, logs.All())
		}
		if left, err := os.ReadFile(one); err != nil || string(left) != string(bad) {
			t.Errorf("%s: %q, %v", name, left, err)
		}
	}
}

// If copies cannot be written, that is logged once as a warning. The lists are in force
// all the same, and writing is repeated.
func TestCopiesThatCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	state, path := t.TempDir(), file(t, t.TempDir(), "a.crl", w.crl(t, w.root, crl{number: 2}))
	blocked := file(t, state, copiesDir, nil) // a file in the directory's place
	clk := &clock{now: w.now}
	log, logs := logged()
	lives(t, Options{State: state, Log: log, Now: clk.Now}, func(k *Checker) {
		testenv.Eventually(t, "a warning", func() bool { return logs.FilterMessageSnippet("are not kept over a restart").Len() == 1 })
		if k.Check(t.Context(), peerOf(w.direct, w.root), w.now).Status != Good {
			t.Error("the list is not in force")
		}
		clk.add(2 * copyAgain)
		testenv.Eventually(t, "another try", func() bool {
			k.copies.mu.Lock()
			defer k.copies.mu.Unlock()
			return k.copies.again.After(clk.Now())
		})
		if err := os.Remove(blocked); err != nil {
			t.Fatal(err)
		}
		clk.add(2 * copyAgain)
		testenv.Eventually(t, "the copy", func() bool { return len(copiesIn(t, state)) == 1 })
	}, w.authority(Hard, path))
	if n := logs.FilterMessageSnippet("are not kept over a restart").Len(); n != 1 {
		t.Errorf("%d warnings", n)
	}
}

// A list without a source left to copy from, once there is room, is logged too: its file
// is gone, or has an older list by now.
func TestCopiesThatNothingIsLeftFor(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(path string){
		"gone":         func(path string) { _ = os.Remove(path) },
		"an older one": func(path string) { write(t, path, w.crl(t, w.root, crl{number: 1})) },
		"a page":       func(path string) { write(t, path, []byte("<html>\n")) },
	} {
		state, path := t.TempDir(), file(t, t.TempDir(), "a.crl", w.crl(t, w.root, crl{number: 2}))
		blocked := file(t, state, copiesDir, nil) // a file in the directory's place
		clk := &clock{now: w.now}
		log, logs := logged()
		warned := func(text string) bool {
			for _, e := range logs.FilterMessageSnippet("are not kept over a restart").All() {
				if err, _ := e.ContextMap()["error"].(string); strings.Contains(err, text) {
					return true
				}
			}
			return false
		}
		lives(t, Options{State: state, Log: log, Now: clk.Now}, func(*Checker) {
			testenv.Eventually(t, "a warning", func() bool { return warned("not a directory") })
			change(path)
			if err := os.Remove(blocked); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, name+": a warning of what has no copy", func() bool {
				clk.add(copyAgain)
				return warned("no source carries it any more")
			})
			write(t, path, w.crl(t, w.root, crl{number: 3}))
			testenv.Eventually(t, "the copy of the next one", func() bool { return len(copiesIn(t, state)) == 1 })
		}, w.authority(Hard, path))
		if len(copiesIn(t, state)) != 1 {
			t.Errorf("%s: copies: %v", name, copiesIn(t, state))
		}
	}
}

// A state directory that others can change is reported at the start; one made by systemd
// or by us is not.
func TestStateOfOthers(t *testing.T) {
	for mode, said := range map[os.FileMode]int{0o700: 0, 0o750: 0, 0o755: 0, 0o770: 1, 0o777: 1, 0o1777: 1, 0o702: 1} {
		state := t.TempDir()
		if err := os.Chmod(state, mode); err != nil {
			t.Fatal(err)
		}
		log, logs := logged()
		checker(t, Options{State: state, Log: log}, newWorld(t).authority(Hard))
		if got := logs.FilterMessageSnippet("can be changed by others").Len(); got != said {
			t.Errorf("%04o: said %d times", mode, got)
		}
	}
}

// The copies are bounded: those of authorities that are not configured any more go first.
// A copy that does not fit is an error.
func TestCopiesAreBounded(t *testing.T) {
	w := newWorld(t)
	state := t.TempDir()
	k := checker(t, Options{State: state}, w.authority(Hard))
	dir := filepath.Join(state, copiesDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &saving{c: k, there: map[string]copyFile{}, own: map[string]bool{"a": true}}
	for _, f := range []copyFile{{name: "old", authority: "x", size: 1 << 29}, {name: "new", authority: "y", size: 1 << 28, changed: w.now}, {name: "own", authority: "a", size: 1 << 28}} {
		f.path = filepath.Join(dir, f.name+".crl")
		write(t, f.path, nil)
		s.there[f.name] = f
	}
	if err := s.makeRoom(1 << 20); err != nil {
		t.Fatal(err)
	}
	if got := copiesIn(t, state); len(got) != 2 || slices.ContainsFunc(got, func(p string) bool { return strings.HasSuffix(p, "old.crl") }) {
		t.Errorf("left: %v", got)
	}
	if err := s.makeRoom(maxCopiesSize); err == nil || len(s.there) != 1 {
		t.Errorf("%v, %d left", err, len(s.there))
	}
	for i := range maxCopies {
		s.there[string(rune('a'+i%26))+string(rune(i))] = copyFile{name: "x", authority: "a"}
	}
	if err := s.makeRoom(1); err == nil {
		t.Error("more copies than are possible")
	}
}
