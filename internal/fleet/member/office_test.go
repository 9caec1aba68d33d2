package member

import (
	"context"
	"crypto"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

// office is a fleet with its keys, and the directory that its gateways read.
type office struct {
	t            *testing.T
	dir          string
	root         []byte
	rootKey      []crypto.Signer
	policy       []crypto.Signer // three, two must sign
	rootPub, pub []*seal.PublicKey
}

func newOffice(t *testing.T) *office {
	t.Helper()
	o := &office{t: t, dir: t.TempDir()}
	o.rootKey, o.rootPub = o.keys(1)
	o.policy, o.pub = o.keys(3)
	o.root = o.newRoot(1, 0, o.pub, o.rootKey...)
	for _, d := range []string{"root", "blobs"} {
		if err := os.MkdirAll(filepath.Join(o.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return o
}

func (o *office) keys(n int) (private []crypto.Signer, public []*seal.PublicKey) {
	o.t.Helper()
	for range n {
		key := testpki.Must(seal.NewKey(seal.Ed25519))
		private, public = append(private, key), append(public, testpki.Must(seal.Public(key)))
	}
	return private, public
}

func role(k int, pubs []*seal.PublicKey) seal.Role {
	r := seal.Role{Threshold: k}
	for _, p := range pubs {
		r.Keys = append(r.Keys, p.ID())
	}
	slices.Sort(r.Keys)
	return r
}

func (o *office) newRoot(version, void int64, policy []*seal.PublicKey, by ...crypto.Signer) []byte {
	o.t.Helper()
	r := seal.NewRoot("acme", version, append(slices.Clone(policy), o.rootPub...), map[string]seal.Role{
		seal.RoleRoot: role(1, o.rootPub), seal.RolePolicy: role(2, policy),
	})
	r.VoidAbove = void
	return o.sign(testpki.Must(r.Envelope()), by...)
}

func (o *office) sign(e *seal.Envelope, by ...crypto.Signer) []byte {
	o.t.Helper()
	for _, key := range by {
		if err := e.Sign(key); err != nil {
			o.t.Fatal(err)
		}
	}
	return testpki.Must(e.Text())
}

// manifest is that of an epoch whose one file says which it is.
func (o *office) manifest(epoch int64, change ...func(*bundle.Manifest)) *bundle.Manifest {
	o.t.Helper()
	m := &bundle.Manifest{Fleet: "acme", Epoch: epoch, RollbackTo: []bundle.Older{}, Files: map[string]bundle.File{}, Sites: map[string]map[string]bundle.File{"berlin": {}}}
	o.add(m, bundle.Main, "epoch "+string(rune('0'+epoch)))
	for _, f := range change {
		f(m)
	}
	return m
}

func (o *office) add(m *bundle.Manifest, name, text string) {
	o.t.Helper()
	f := bundle.File{SHA256: bundle.Sum([]byte(text)), Size: int64(len(text))}
	o.put(bundle.BlobName(f.SHA256), []byte(text))
	m.Files[name] = f
}

// bundle signs a manifest with two keys, or those that are given.
func (o *office) bundle(m *bundle.Manifest, by ...crypto.Signer) []byte {
	o.t.Helper()
	if len(by) == 0 {
		by = o.policy[:2]
	}
	return o.sign(testpki.Must(m.Seal()), by...)
}

func (o *office) put(name string, text []byte) {
	o.t.Helper()
	// As what publishes does: another file, so that a stamp of the file shows it.
	at := filepath.Join(o.dir, name)
	if err := errors.Join(os.WriteFile(at+".new", text, 0o644), os.Rename(at+".new", at)); err != nil {
		o.t.Fatal(err)
	}
}

// publish is what an operator does.
func (o *office) publish(epoch int64, change ...func(*bundle.Manifest)) []byte {
	o.t.Helper()
	text := o.bundle(o.manifest(epoch, change...))
	o.put(bundle.HeadName, text)
	return text
}

// gate is a gateway of a site.
type gate struct {
	*Member
	o     *office
	state string
	now   time.Time
	opt   Options
}

func (o *office) gate(site string, change ...func(*Options)) *gate {
	o.t.Helper()
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{URIs: []string{"spiffe://acme/gw/" + site + "/one"}}))
	g := &gate{o: o, state: filepath.Join(o.t.TempDir(), "state"), now: time.Now()}
	g.opt = Options{
		Root: o.root, Certificate: leaf.Cert, Source: "file:" + o.dir, State: g.state, Version: "1.2.3",
		Poll: time.Hour, Now: func() time.Time { return g.now },
	}
	for _, f := range change {
		f(&g.opt)
	}
	g.start()
	return g
}

// start is the start of its process.
func (g *gate) start() {
	g.o.t.Helper()
	if g.Member != nil {
		g.Close()
	}
	g.Member = testpki.Must(Open(g.opt))
	g.o.t.Cleanup(g.Close)
}

// looks is a look at the source after which a bundle of the epoch is in force; 0: nothing new.
func (g *gate) looks(epoch int64) {
	g.o.t.Helper()
	src, v, err := g.Look(context.Background())
	if err != nil && strings.HasPrefix(g.opt.Source, "etcd://") {
		testenv.Eventually(g.o.t, "the etcd is read", func() bool { // one on a busy machine may lose its leader
			src, v, err = g.Look(context.Background())
			return err == nil
		}, func() any { return err })
	}
	if err != nil {
		g.o.t.Fatal(err)
	}
	if v == nil || epoch == 0 {
		if v != nil || epoch != 0 {
			g.o.t.Fatalf("%+v, wanted epoch %d", v, epoch)
		}
		return
	}
	if v.Manifest.Epoch != epoch || src == nil {
		g.o.t.Fatalf("epoch %d, not %d", v.Manifest.Epoch, epoch)
	}
	if onDisk := testpki.Must(g.Member.state.seen()); onDisk.Epoch < epoch {
		g.o.t.Fatalf("epoch %d is handed out before it is written down: %+v", epoch, onDisk)
	}
	if err := g.Took(v); err != nil {
		g.o.t.Fatal(err)
	}
}

// refuses is a look that ends with a reason, after which everything is as before, also after a
// restart.
func (g *gate) refuses(what string, why seal.Reason) {
	g.o.t.Helper()
	before := g.Status()
	_, v, err := g.Look(context.Background())
	after := g.Status()
	switch {
	case err == nil || v != nil || seal.ReasonOf(err) != why:
		g.o.t.Errorf("%s: %v, %+v; wanted %s", what, err, v, why)
	case after.Last == nil || after.Last.Reason != why || after.Refusals[why] != before.Refusals[why]+1:
		g.o.t.Errorf("%s: not in the status: %+v", what, after)
	case after.Epoch != before.Epoch || after.Seen != before.Seen || after.Root != before.Root || after.Contact != before.Contact:
		g.o.t.Errorf("%s: changed something: %+v, %+v", what, before, after)
	}
	if before.Epoch == 0 {
		return
	}
	again := testpki.Must(Open(g.opt))
	defer again.Close()
	if _, v, err := again.Good(); err != nil || v.Manifest.Epoch != before.Epoch {
		g.o.t.Errorf("%s: after a restart %+v, %v", what, v, err)
	}
}

// older names a bundle.
func older(text []byte) bundle.Older {
	e := testpki.Must(seal.ParseEnvelope(text))
	return bundle.Older{Epoch: testpki.Must(bundle.Parse(e.Unverified())).Epoch, Manifest: bundle.Sum(e.Unverified())}
}

// copyDir is the source as it was.
func (o *office) copyDir() map[string][]byte {
	o.t.Helper()
	all := map[string][]byte{}
	err := filepath.WalkDir(o.dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(o.dir, path)
		if err == nil {
			all[rel], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		o.t.Fatal(err)
	}
	return all
}

func (o *office) restore(all map[string][]byte) {
	o.t.Helper()
	for name := range o.copyDir() {
		if _, ok := all[name]; !ok {
			if err := os.Remove(filepath.Join(o.dir, name)); err != nil {
				o.t.Fatal(err)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o.put(name, all[name])
	}
}
