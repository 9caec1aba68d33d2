package member

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The thief has the source and whatever was ever in it, one policy key of the two that must sign,
// and keys of his own. Whatever he puts there is refused with its reason, and the gateway goes on
// with what it has.
func TestThief(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	first := o.publish(1)
	g.looks(1)
	second := o.publish(2, func(m *bundle.Manifest) { o.add(m, "roots.pem", "the roots of two") })
	g.looks(2)
	g.looks(0)
	his, hisPub := o.keys(2)
	three := o.manifest(3, func(m *bundle.Manifest) { o.add(m, "roots.pem", "the roots of three") })
	blob := bundle.BlobName(three.Files["roots.pem"].SHA256)
	good := o.copyDir()
	head := func(text []byte) func() { return func() { o.put(bundle.HeadName, text) } }
	for _, c := range []struct {
		what string
		does func()
		why  seal.Reason
	}{
		{"replays an older epoch", head(first), seal.OlderEpoch},
		{"signs alone", head(o.bundle(three, o.policy[0])), seal.Unsigned},
		{"signs with keys of his own", head(o.bundle(three, his...)), seal.Unsigned},
		{"signs with nothing", head(testpki.Must(testpki.Must(three.Seal()).Text())), seal.Unsigned},
		{"has the same key sign twice", func() {
			e := testpki.Must(three.Seal())
			o.sign(e, o.policy[0])
			e.Signatures = append(e.Signatures, e.Signatures[0])
			o.put(bundle.HeadName, testpki.Must(e.Text()))
		}, seal.Unsigned},
		{"has the signatures of another epoch", func() {
			e, old := testpki.Must(three.Seal()), testpki.Must(seal.ParseEnvelope(second))
			e.Signatures = old.Signatures
			o.put(bundle.HeadName, testpki.Must(e.Text()))
		}, seal.Unsigned},
		{"cuts the bundle", head(second[:len(second)/2]), seal.Unreadable},
		{"appends to it", head(append(bytes.Clone(second), second...)), seal.Unreadable},
		{"says a name twice", head(bytes.Replace(second, []byte(`"payload":`), []byte(`"payload": "", "payload":`), 1)), seal.Unreadable},
		{"makes it huge", head(make([]byte, seal.MaxEnvelope+1)), seal.TooLarge},
		{"puts a root there", head(o.root), seal.WrongType},
		{"signs another manifest as the same epoch, with both keys", head(o.bundle(o.manifest(2))), seal.OtherEpoch},
		{"takes that of another fleet", head(o.bundle(o.manifest(3, func(m *bundle.Manifest) { m.Fleet = "other" }))), seal.WrongFleet},
		{"takes that of other sites", head(o.bundle(o.manifest(3, func(m *bundle.Manifest) { m.Sites = map[string]map[string]bundle.File{"oslo": {}} }))), seal.WrongSite},
		{"takes one that has ended", head(o.bundle(o.manifest(3, func(m *bundle.Manifest) { m.NotAfter = seal.Time(g.now.Add(-time.Second).Truncate(time.Second)) }))), seal.Expired},
		{"takes one for a newer sslgate", head(o.bundle(o.manifest(3, func(m *bundle.Manifest) { m.MinVersion = "1.3.0" }))), seal.TooNew},
		{"withholds a file", func() {
			o.put(bundle.HeadName, o.bundle(three))
			if err := os.Remove(filepath.Join(o.dir, blob)); err != nil {
				t.Fatal(err)
			}
		}, seal.Missing},
		{"cuts a file", func() { o.put(bundle.HeadName, o.bundle(three)); o.put(blob, []byte("the roots")) }, seal.Altered},
		{"changes a file", func() { o.put(bundle.HeadName, o.bundle(three)); o.put(blob, []byte("the roots of thief")) }, seal.Altered},
		{"makes a file longer", func() { o.put(bundle.HeadName, o.bundle(three)); o.put(blob, []byte("the roots of three, and mine")) }, seal.Altered},
		{"mixes the files of two epochs", func() { o.put(bundle.HeadName, o.bundle(three)); o.put(blob, []byte("the roots of two")) }, seal.Altered},
		{"makes himself a root", func() { o.put(bundle.RootName(2), o.newRoot(2, 0, hisPub, his...)) }, seal.Unsigned},
		{"leaves a root out", func() { o.put(bundle.RootName(2), o.newRoot(3, 0, o.pub, o.rootKey...)) }, seal.WrongRoot},
		{"takes everything away", func() {
			if err := os.Remove(filepath.Join(o.dir, bundle.HeadName)); err != nil {
				t.Fatal(err)
			}
		}, seal.Unreachable},
	} {
		c.does()
		g.refuses(c.what, c.why)
		o.restore(good)
		g.looks(0) // what is in force is there again
	}
	if s := g.Status(); s.Last != nil || s.Epoch != 2 {
		t.Errorf("%+v", s)
	}
	o.publish(3)
	g.looks(3)
}

// A path in a manifest leads nowhere but below the directory.
func TestNoPathLeadsOut(t *testing.T) {
	o := newOffice(t)
	for _, name := range []string{"../x", "/etc/passwd", "a/../../x", "a//b", "./a", "a/", "", "..", "a\x00b", "a b"} {
		m := o.manifest(1)
		m.Files[name] = m.Files[bundle.Main]
		if _, err := m.Seal(); seal.ReasonOf(err) != seal.Unreadable {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Back goes only what the newest names, and forward again what was seen.
func TestRollback(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	one, two := o.publish(1), o.publish(2)
	g.looks(2)
	three := o.publish(3, func(m *bundle.Manifest) { m.RollbackTo = []bundle.Older{older(two)} })
	g.looks(3)
	o.put(bundle.HeadName, one)
	g.refuses("an epoch that is not named", seal.OlderEpoch)
	o.put(bundle.HeadName, o.bundle(o.manifest(2, func(m *bundle.Manifest) { m.NotAfter = "2099-01-01T00:00:00Z" })))
	g.refuses("another manifest with the number that is named", seal.OtherEpoch)
	o.put(bundle.HeadName, two)
	g.looks(2)
	if s := g.Status(); s.Epoch != 2 || s.Seen != 3 {
		t.Errorf("%+v", s)
	}
	g.start()
	if _, v, err := g.Good(); err != nil || v.Manifest.Epoch != 2 {
		t.Fatalf("after a restart: %+v, %v", v, err)
	}
	o.put(bundle.HeadName, one)
	g.refuses("an epoch that is not named, after the restart", seal.OlderEpoch)
	o.put(bundle.HeadName, three)
	g.refuses("forward again without a newer one", seal.RolledBack)
	o.publish(4)
	g.looks(4)
	o.put(bundle.HeadName, three)
	g.refuses("what the newest does not name", seal.OlderEpoch)
}

// A stolen policy key can sign an epoch that no other will ever be above. The next root names other
// keys and says from where on epochs are void.
func TestStolenPolicyKeys(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	one := o.publish(1)
	g.looks(1)
	o.publish(9)
	g.looks(9)
	old := o.policy
	o.policy, o.pub = o.keys(3)
	o.put(bundle.RootName(2), o.newRoot(2, 1, o.pub, o.rootKey...))
	if _, _, err := g.Look(t.Context()); seal.ReasonOf(err) != seal.Unsigned || g.Status().Root != 2 || g.Status().Seen != 1 {
		t.Fatalf("%v, %+v", err, g.Status())
	}
	g.start() // what the root voids stays void
	o.put(bundle.HeadName, o.bundle(o.manifest(2), old[:2]...))
	if _, _, err := g.Look(t.Context()); seal.ReasonOf(err) != seal.Unsigned {
		t.Errorf("the thief's keys are nobody's: %v", err)
	}
	o.publish(2)
	g.looks(2)
	o.put(bundle.HeadName, one)
	if _, _, err := g.Look(t.Context()); seal.ReasonOf(err) != seal.Unsigned {
		t.Errorf("%v", err)
	}
}

// What is seen under a root that voids epochs stays, also after a restart.
func TestVoidsOnce(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	o.publish(1)
	g.looks(1)
	o.put(bundle.RootName(2), o.newRoot(2, 5, o.pub, o.rootKey...))
	o.publish(8)
	g.looks(8)
	g.start()
	if seen := g.Status().Seen; seen != 8 {
		t.Fatalf("epoch %d counts as seen, not 8", seen)
	}
	o.publish(7)
	g.refuses("an older epoch, above what the root has voided", seal.OlderEpoch)
}

// A root that is handed over by hand counts: a newer one with what it voids, and another one of a
// version that was passed only if what is kept follows from it.
func TestAnotherRootByHand(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	o.publish(1)
	g.looks(1)
	o.publish(9)
	g.looks(9)
	one := o.root
	o.policy, o.pub = o.keys(3)
	g.opt.Root = o.newRoot(2, 1, o.pub, o.rootKey...)
	g.start()
	if s := g.Status(); s.Root != 2 || s.Seen != 1 {
		t.Fatalf("the newer root does not count: %+v", s)
	}
	o.publish(2)
	g.looks(2)
	three := o.newRoot(3, 0, o.pub, o.rootKey...)
	o.put(bundle.RootName(3), three)
	g.looks(0)
	g.start()
	if s := g.Status(); s.Root != 3 || s.Seen != 2 {
		t.Fatalf("%+v", s)
	}
	// The root keys are stolen, and the operator begins the fleet of this name anew.
	anew := newOffice(t)
	g.opt.Root = anew.root
	if m, err := Open(g.opt); err == nil {
		m.Close()
		t.Error("the root that was kept counts though the one handed over does not lead to it")
	}
	g.opt.Root = one // which leads to the second, but not by itself to the third
	if m, err := Open(g.opt); err == nil {
		m.Close()
		t.Error("a root two versions before counts")
	}
	g.opt.Root = o.newRoot(2, 1, o.pub, o.rootKey...)
	g.start()
	if s := g.Status(); s.Root != 3 || s.Seen != 2 {
		t.Errorf("%+v", s)
	}
}

// What the gateway has seen is its own word: it is not used when it cannot be read, and nothing is
// taken that cannot be written down.
func TestStateOrNothing(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	o.publish(1)
	g.looks(1)
	seen := filepath.Join(g.state, seenFile)
	text := testpki.Must(os.ReadFile(seen))
	for _, bad := range []string{"", "{}", string(text[:len(text)/2]), string(bytes.Replace(text, []byte(`"epoch":1`), []byte(`"epoch":1,"epoch":0`), 1))} {
		if err := os.WriteFile(seen, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := Open(g.opt); err == nil {
			m.Close()
			t.Errorf("%q is taken", bad)
		}
	}
	// What was written when rollback_to had numbers is read; such a number leads back to nothing.
	if err := os.WriteFile(seen, bytes.Replace(text, []byte(`"rollback_to":[]`), []byte(`"rollback_to":[1]`), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(g.opt); err != nil || m.Status().Seen != 1 || len(m.seen.RollbackTo) != 0 {
		t.Errorf("%v", err)
	} else {
		m.Close()
	}
	if err := os.Remove(seen); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(g.opt); err == nil {
		m.Close()
		t.Error("what was seen is gone, and everything could be replayed")
	}
	if err := os.MkdirAll(filepath.Join(seen, "x"), 0o700); err != nil { // nothing can be renamed to it
		t.Fatal(err)
	}
	o.publish(2)
	before := g.Status()
	if _, v, err := g.Look(t.Context()); seal.ReasonOf(err) != seal.StateUnwritten || v != nil || g.Status().Seen != before.Seen {
		t.Errorf("%v, %+v", err, v)
	}
	if err := os.RemoveAll(seen); err != nil {
		t.Fatal(err)
	}
	g.looks(2) // and goes on once it can
}

// Frozen is a source that answers as ever and has nothing new, or none at all: both are seen.
func TestStaleIsSeen(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	end := g.now.Add(time.Hour).Truncate(time.Second)
	o.publish(1, func(m *bundle.Manifest) { m.NotAfter = seal.Time(end) })
	g.looks(1)
	fresh := func(what string, want bool) {
		t.Helper()
		if s := g.Status(); s.Fresh != want {
			t.Errorf("%s: %+v", what, s)
		}
	}
	fresh("new", true)
	g.now = g.now.Add(StaleAfter)
	fresh("not looked at", false)
	g.looks(0)
	fresh("looked at", true)
	g.now = end
	g.looks(0)
	fresh("ended", false)
	g.start()
	if _, v, err := g.Good(); err != nil || v == nil {
		t.Errorf("an ended one is still the last good one: %v", err)
	}
}

// Old files go, and those in force stay.
func TestFilesInForceAlone(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	for epoch := range int64(3) {
		o.publish(epoch + 1)
		g.looks(epoch + 1)
	}
	blobs, err := os.ReadDir(filepath.Join(g.state, "blobs"))
	if err != nil || len(blobs) != 1 {
		t.Errorf("%v, %v", blobs, err)
	}
	heads, err := filepath.Glob(filepath.Join(g.state, "good-*.json"))
	if err != nil || len(heads) != 1 {
		t.Errorf("%v, %v", heads, err)
	}
	src, _, err := g.Good()
	if err != nil {
		t.Fatal(err)
	}
	f, err := src.Read(t.Context(), "fleet:/sslgate.yaml", 100, nil)
	if err != nil || string(f.Text) != "epoch 3" {
		t.Errorf("%q, %v", f.Text, err)
	}
	if err := os.WriteFile(filepath.Join(g.state, "blobs", blobs[0].Name()), []byte("epoch 4"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, err := src.Read(t.Context(), "fleet:/sslgate.yaml", 100, nil); err == nil {
		t.Errorf("an altered copy is read: %q", f.Text)
	}
}

// A bundle that stays in force though the root voids it, or does not name its keys any more, is said
// to do so.
func TestWithdrawnIsSeen(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	o.publish(1)
	g.looks(1)
	o.publish(9)
	g.looks(9)
	if s := g.Status(); s.Withdrawn != "" || s.Offered != 9 {
		t.Fatalf("%+v", s)
	}
	o.put(bundle.RootName(2), o.newRoot(2, 1, o.pub, o.rootKey...)) // the same keys
	g.looks(0)
	if s := g.Status(); s.Withdrawn != "" || s.Seen != 9 || s.Root != 2 {
		t.Errorf("the next root names its keys, and the source has it: %+v", s)
	}
	o.policy, o.pub = o.keys(3)
	o.put(bundle.RootName(3), o.newRoot(3, 1, o.pub, o.rootKey...))
	if _, _, err := g.Look(t.Context()); seal.ReasonOf(err) != seal.Unsigned {
		t.Error(err)
	}
	if s := g.Status(); s.Epoch != 9 || s.Seen != 1 || s.Withdrawn == "" {
		t.Errorf("%+v", s)
	}
	o.publish(2)
	g.looks(2)
	if s := g.Status(); s.Withdrawn != "" {
		t.Errorf("%+v", s)
	}
}

// The operator's choice for a source that is silent: refuse, also over a restart.
func TestStaleRefuses(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin", func(opt *Options) { opt.RefuseAfter = time.Hour })
	end := g.now.Add(48 * time.Hour).Truncate(time.Second)
	o.publish(1, func(m *bundle.Manifest) { m.NotAfter = seal.Time(end) })
	g.looks(1)
	step := func(by time.Duration, refuses bool) {
		t.Helper()
		g.now = g.now.Add(by)
		if g.Refuses() != refuses {
			t.Errorf("after %s: %t", by, !refuses)
		}
	}
	step(StaleAfter, false)
	step(time.Hour-StaleAfter-2*time.Second, false)
	g.start()
	_, v, err := g.Good()
	if err != nil || g.Took(v) != nil {
		t.Fatal(err)
	}
	step(0, false)
	step(2*time.Second, true)
	g.start() // which does not begin a new hour
	step(0, true)
	g.looks(1)
	step(0, false)
	g.now = end.Add(-time.Second)
	g.looks(0)
	step(0, false)
	step(time.Second, true)
	keep := o.gate("berlin")
	keep.now = keep.now.Add(1000 * time.Hour)
	if keep.Refuses() || keep.Status().Fresh {
		t.Error("to keep was chosen")
	}
}
