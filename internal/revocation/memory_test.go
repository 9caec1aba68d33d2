package revocation

import (
	"crypto/x509"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Lists of a configuration that is not on the disk are looked at, read again and
// copied into the state directory from where the configuration came.
func TestListsOfMemory(t *testing.T) {
	w := newWorld(t)
	const path = "/nowhere/on/this/disk/staff.crl"
	revoked := []*x509.Certificate{w.client.Cert}
	load := func(der []byte) Authority {
		files := fileset.Bytes{path: pemOf(der)}
		a := w.authority(Soft)
		a.Files = files
		a.Sources = []Source{testpki.Must(ReadFile(t.Context(), nil, fileset.New(files, fileset.MaxBytes), path, MaxListBytes, w.cas()))}
		return a
	}
	state := t.TempDir()
	known := func(k *Checker, want Status) {
		t.Helper()
		if got := k.Check(t.Context(), peerOf(w.client, w.root), w.now).Status; got != want || missingOf(k) != 0 {
			t.Errorf("%s, want %s; %+v", got, want, k.Stats().Authorities["staff"].Lists)
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		for _, src := range k.sources {
			if src.isNew() || src.err != nil || src.file == "" {
				t.Errorf("%s is looked for again: %v", src.location, src.err)
			}
		}
	}
	lives(t, Options{State: state}, func(k *Checker) {
		known(k, Unknown) // there is no list of the root
		k.Reload([]Authority{load(w.crl(t, w.inter, crl{number: 8, revoked: revoked}))})
		known(k, Revoked)
	}, load(w.crl(t, w.inter, crl{number: 7})))
	if got := copiesIn(t, state); len(got) != 1 {
		t.Errorf("copies %q, want one of what is in force", got)
	}
	// One that was not read yet is read from there, too; one that is not there is said.
	a := load(w.crl(t, w.inter, crl{number: 8, revoked: revoked}))
	a.Sources = []Source{{Location: path}}
	known(checker(t, Options{}, a), Revoked)
	a.Sources = []Source{{Location: "/nowhere/else.crl"}}
	if st := checker(t, Options{}, a).Stats().Authorities["staff"].Lists; len(st) != 1 || !strings.Contains(st[0].Error, "/nowhere/else.crl: no such file") {
		t.Errorf("%+v", st)
	}
}
