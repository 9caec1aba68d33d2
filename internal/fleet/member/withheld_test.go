package member

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Whoever writes the source may alternate between the newest and what it lets gateways go back to, and
// between those. Each gateway goes back only, and forward with a newer one alone; a restart and a
// second process of it change nothing about that.
func TestNoFlapping(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	one, two := o.publish(1), o.publish(2)
	three := o.publish(3, func(m *bundle.Manifest) { m.RollbackTo = []bundle.Older{older(one), older(two)} })
	g.looks(3)
	alternates := func(what string, texts ...[]byte) {
		t.Helper()
		for range 3 {
			for _, text := range texts {
				o.put(bundle.HeadName, text)
				g.refuses(what, seal.RolledBack)
			}
		}
	}
	o.put(bundle.HeadName, two)
	g.looks(2)
	alternates("forward from 2", three)
	o.put(bundle.HeadName, one)
	g.looks(1)
	alternates("forward from 1", three, two)
	g.start()
	if _, v, err := g.Good(); err != nil || v.Manifest.Epoch != 1 || g.Took(v) != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	alternates("forward from 1 after a restart", three, two)
	o.put(bundle.HeadName, one)
	g.looks(0)
	if s := g.Status(); s.Epoch != 1 || s.Seen != 3 || s.Last != nil {
		t.Errorf("%+v", s)
	}
	// Another process that has not heard of it cannot undo it.
	forgot := g.Member.seen
	forgot.Back = bundle.Older{}
	if err := g.Member.state.setSeen(forgot); seal.ReasonOf(err) != seal.StateUnwritten {
		t.Errorf("written over: %v", err)
	}
	o.publish(4)
	g.looks(4)

	// What the gateway refuses to go back to leaves in force what is in force.
	five := o.publish(5, func(m *bundle.Manifest) { m.RollbackTo = []bundle.Older{older(two)} })
	g.looks(5)
	o.put(bundle.HeadName, two)
	if _, v, err := g.Look(t.Context()); err != nil || v == nil {
		t.Fatal(err) // and check refuses it: nobody calls Took
	}
	o.put(bundle.HeadName, five)
	g.looks(0)
	if s := g.Status(); s.Epoch != 5 || s.Last != nil {
		t.Errorf("%+v", s)
	}
}

// revokes is a fleet whose second root gives a key the role, and a gateway that has followed it.
func revokes(t *testing.T, change ...func(*Options)) (*office, *gate, func(number int64, base string, entries ...string) []byte) {
	t.Helper()
	o := newOffice(t)
	keys, pubs := o.keys(1)
	o.put(bundle.RootName(2), o.rootWithRevoke(2, pubs[0]))
	return o, o.gate("berlin", change...), func(number int64, base string, entries ...string) []byte {
		t.Helper()
		r := o.entries(number, entries...)
		r.Base = base
		return o.sign(testpki.Must(r.Seal()), keys[0])
	}
}

func (o *office) entries(number int64, entries ...string) *bundle.Revoked {
	o.t.Helper()
	r := &bundle.Revoked{Fleet: "acme", Number: number, Serials: []string{}, Keys: []string{}, Subjects: []string{}}
	for _, s := range entries {
		if err := r.Add(s); err != nil {
			o.t.Fatal(err)
		}
	}
	return r
}

// names has a manifest say where the list stands.
func names(number int64, base bundle.File) func(*bundle.Manifest) {
	return func(m *bundle.Manifest) { m.Revoked = bundle.RevokedAt{Number: number, Base: base} }
}

// A source that withholds the newest list, or all of them, from a gateway that has taken the bundle is
// seen: the gateway says so, and with stale: refuse it lets nobody in after a while, also over restarts.
func TestWithheldListIsSeen(t *testing.T) {
	o, g, list := revokes(t, func(opt *Options) { opt.RefuseAfter = time.Hour })
	first, second := list(1, "", "a"), list(2, "", "a", "b")
	o.put(bundle.RevokedName, first)
	o.publish(1, names(1, bundle.File{}))
	g.looks(1)
	is := func(what string, behind bool, number int64) {
		t.Helper()
		if r := g.Status().Revoked; (r.Behind != "") != behind || r.Number != number {
			t.Errorf("%s: %+v", what, r)
		}
	}
	is("not looked for yet", true, 0)
	g.LookForRevoked(t.Context())
	is("the first", false, 1)
	g.looks(0)
	fresh := func(what string, want bool) {
		t.Helper()
		if g.Status().Fresh != want {
			t.Errorf("%s: fresh is %t", what, !want)
		}
	}
	step := func(by time.Duration) {
		t.Helper()
		g.now = g.now.Add(by)
		g.looks(0)
		g.LookForRevoked(t.Context())
	}
	step(time.Minute)
	fresh("all is there", true)
	o.publish(2, names(2, bundle.File{})) // and the thief leaves revoked.json as it was
	g.looks(2)
	g.LookForRevoked(t.Context())
	is("withheld", true, 1)
	fresh("it may be under way", true)
	step(StaleAfter)
	fresh("withheld", false)
	if g.Refuses() {
		t.Error("it refuses at once")
	}
	g.start()
	if _, v, err := g.Good(); err != nil || g.Took(v) != nil {
		t.Fatal(err)
	}
	is("after a restart", true, 1)
	step(time.Hour)
	if !g.Refuses() {
		t.Error("it lets people in by a list that is an hour too old")
	}
	if err := os.Remove(filepath.Join(o.dir, bundle.RevokedName)); err != nil {
		t.Fatal(err)
	}
	step(0)
	is("all of them are withheld", true, 1)
	o.put(bundle.RevokedName, second)
	g.LookForRevoked(t.Context())
	step(0)
	is("the second", false, 2)
	fresh("all is there", true)
	if g.Refuses() {
		t.Error("it refuses though all is there")
	}
	// A bundle that is gone back to says nothing of the list.
	o.publish(3, names(2, bundle.File{}))
	g.looks(3)
	is("the second still", false, 2)
}

// A thief of the revoke keys fills the list. It says when it is nearly full; and the policy keys have it
// begin anew, with what they choose. No online key can do so, nor go back to a list from before, and
// who only has the keys cannot add to the new one without all of it.
func TestPolicyKeysBeginTheListAnew(t *testing.T) {
	o, g, list := revokes(t)
	o.publish(1)
	g.looks(1)
	var junk []string
	for i := range bundle.MaxRevoked {
		junk = append(junk, fmt.Sprintf("%x", i+1<<20))
	}
	looks := func() { g.LookForRevoked(t.Context()) }
	has := func(what string, number int64, base string, serials ...string) {
		t.Helper()
		if r := g.Revoked(); r == nil || r.Number != number || r.Base != base || !slices.Equal(r.Serials, serials) {
			t.Errorf("%s: list %d of %.12q: %.100v", what, r.Number, r.Base, r.Serials)
		}
	}
	refused := func(what string, text []byte, why seal.Reason) {
		t.Helper()
		o.put(bundle.RevokedName, text)
		before := g.Revoked()
		looks()
		s := g.Status()
		if s.LastRevoked == nil || s.LastRevoked.Reason != why || s.Last != nil || g.Revoked() != before {
			t.Errorf("%s: %+v", what, s)
		}
	}
	o.put(bundle.RevokedName, list(1, "", junk[:bundle.MaxRevoked/2]...))
	looks()
	if s := g.Status().Revoked; s.Full != "" || s.Entries != bundle.MaxRevoked/2 {
		t.Errorf("%+v", s)
	}
	full := list(2, "", junk...)
	o.put(bundle.RevokedName, full)
	looks()
	if s := g.Status().Revoked; s.Full == "" || s.Entries != bundle.MaxRevoked {
		t.Errorf("%+v", s)
	}

	body := testpki.Must(seal.Canonical(o.entries(1, "a")))
	base := bundle.File{SHA256: bundle.Sum(body), Size: int64(len(body))}
	refused("begins anew without the policy keys", list(3, base.SHA256, "a"), seal.OtherEpoch)
	two := o.manifest(2, names(1, base))
	o.put(bundle.HeadName, o.bundle(two, o.policy[0]))
	g.refuses("one policy key alone", seal.Unsigned)
	o.put(bundle.HeadName, o.bundle(two))
	g.refuses("the new beginning is withheld", seal.Missing)
	o.put(bundle.BlobName(base.SHA256), append(slices.Clone(body), ' '))
	g.refuses("the new beginning is altered", seal.Altered)
	if s := g.Status(); s.Revoked.Entries != bundle.MaxRevoked || s.Seen != 1 {
		t.Errorf("%+v", s)
	}
	o.put(bundle.BlobName(base.SHA256), body)
	g.looks(2)
	has("begun anew", 1, base.SHA256, "a")
	if s := g.Status().Revoked; s.Full != "" || s.Behind != "" {
		t.Errorf("%+v", s)
	}
	refused("the full one again", full, seal.OtherEpoch)
	refused("without what it began with", list(9, base.SHA256, "b"), seal.Loosens)
	o.put(bundle.RevokedName, list(2, base.SHA256, "a", "b"))
	looks()
	has("goes on", 2, base.SHA256, "a", "b")
	if s := g.Status(); s.LastRevoked != nil {
		t.Errorf("%+v", s)
	}
	g.start()
	has("after a restart", 2, base.SHA256, "a", "b")
	if _, v, err := g.Good(); err != nil || g.Took(v) != nil {
		t.Fatal(err)
	}
	refused("the full one again, after a restart", full, seal.OtherEpoch)
	o.publish(3, names(2, base))
	g.looks(3)
	has("the next bundle", 2, base.SHA256, "a", "b")

	// A new gateway has nothing: it begins as the bundle says, and not as the thief does.
	young := o.gate("berlin", func(opt *Options) { opt.Root = testpki.Must(os.ReadFile(filepath.Join(o.dir, bundle.RootName(2)))) })
	young.LookForRevoked(t.Context())
	if r := young.Revoked(); r == nil || r.Entries() != bundle.MaxRevoked {
		t.Errorf("the list is signed, and it knows nothing else: %+v", r)
	}
	young.looks(3)
	g = young
	has("a new gateway", 1, base.SHA256, "a")
	if s := g.Status().Revoked; s.Behind == "" {
		t.Error("the source has an old list, and it does not say so")
	}
	o.put(bundle.RevokedName, list(2, base.SHA256, "a", "b"))
	looks()
	has("a new gateway has all", 2, base.SHA256, "a", "b")
}

// A crash between what was seen and the list that begins anew loses neither.
func TestBeginningAnewAfterACrash(t *testing.T) {
	o, g, list := revokes(t)
	o.publish(1)
	g.looks(1)
	o.put(bundle.RevokedName, list(1, "", "c"))
	g.LookForRevoked(t.Context())
	before := testpki.Must(os.ReadFile(filepath.Join(g.state, bundle.RevokedName)))
	body := testpki.Must(seal.Canonical(o.entries(1, "a")))
	base := bundle.File{SHA256: bundle.Sum(body), Size: int64(len(body))}
	o.put(bundle.BlobName(base.SHA256), body)
	o.publish(2, names(1, base))
	g.looks(2)
	g.Close()
	if err := os.WriteFile(filepath.Join(g.state, bundle.RevokedName), before, 0o600); err != nil {
		t.Fatal(err)
	}
	g.Member = nil
	g.start()
	if _, v, err := g.Good(); err != nil || g.Took(v) != nil {
		t.Fatal(err)
	}
	if r := g.Revoked(); r == nil || r.Base != "" || g.Status().Revoked.Behind == "" {
		t.Errorf("%+v", r)
	}
	g.looks(0)
	if r := g.Revoked(); r == nil || r.Base != base.SHA256 || !slices.Equal(r.Serials, []string{"a"}) || g.Status().Revoked.Behind != "" {
		t.Errorf("%+v, %+v", r, g.Status())
	}
}
