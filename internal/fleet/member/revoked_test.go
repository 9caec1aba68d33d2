package member

import (
	"crypto"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// revoked is a list that a key has signed.
func (o *office) revoked(number int64, by crypto.Signer, entries ...string) []byte {
	o.t.Helper()
	r := &bundle.Revoked{Fleet: "acme", Number: number, Serials: []string{}, Keys: []string{}, Subjects: []string{}}
	for _, s := range entries {
		if err := r.Add(s); err != nil {
			o.t.Fatal(err)
		}
	}
	return o.sign(testpki.Must(r.Seal()), by)
}

// rootWithRevoke is a root that gives the role to a key.
func (o *office) rootWithRevoke(version int64, revoke *seal.PublicKey) []byte {
	o.t.Helper()
	r := seal.NewRoot("acme", version, append(slices.Clone(o.pub), o.rootPub[0], revoke), map[string]seal.Role{
		seal.RoleRoot: role(1, o.rootPub), seal.RolePolicy: role(2, o.pub), seal.RoleRevoke: role(1, []*seal.PublicKey{revoke}),
	})
	return o.sign(testpki.Must(r.Envelope()), o.rootKey...)
}

// Revoke keys are online: whoever steals them can refuse, and not admit. A list only grows, is on disk
// before it counts, and only the root keys can take it back.
func TestRevokedOnlyGrows(t *testing.T) {
	o := newOffice(t)
	keys, pubs := o.keys(2)
	o.put(bundle.RootName(2), o.rootWithRevoke(2, pubs[0]))
	g := o.gate("berlin")
	o.publish(1)
	g.looks(1)
	first := o.revoked(1, keys[0], "0A:ff", "CN=alice")
	looks := func() { g.LookForRevoked(t.Context()) }
	o.put(bundle.RevokedName, first)
	looks()
	has := func(what string, number int64, serials ...string) {
		t.Helper()
		if r := g.Revoked(); r == nil || r.Number != number || !slices.Equal(r.Serials, serials) {
			t.Errorf("%s: %+v", what, r)
		}
	}
	has("the first", 1, "aff")
	second := o.revoked(2, keys[0], "aff", "b", "CN=alice")
	o.put(bundle.RevokedName, second)
	looks()
	has("the second", 2, "aff", "b")
	refused := func(what string, text []byte, why seal.Reason) {
		t.Helper()
		o.put(bundle.RevokedName, text)
		before := g.Status().Refusals[why]
		looks()
		g.looks(0) // which a bad list does not hinder
		if g.Status().Refusals[why] != before+1 {
			t.Errorf("%s: %+v", what, g.Status().Refusals)
		}
		has(what, 2, "aff", "b")
	}
	refused("replayed", first, seal.OlderEpoch)
	refused("another one with its number", o.revoked(2, keys[0], "aff", "b", "c", "CN=alice"), seal.OtherEpoch)
	refused("without one that was revoked", o.revoked(3, keys[0], "aff", "CN=alice"), seal.Loosens)
	refused("without a name that was revoked", o.revoked(3, keys[0], "aff", "b"), seal.Loosens)
	refused("by another key", o.revoked(3, keys[1], "aff", "b", "CN=alice"), seal.Unsigned)
	refused("by a policy key", o.revoked(3, o.policy[0], "aff", "b", "CN=alice"), seal.Unsigned)
	refused("a bundle in its place", o.bundle(o.manifest(1)), seal.WrongType)
	refused("nonsense", []byte("{}"), seal.Unreadable)
	if err := os.Remove(filepath.Join(o.dir, bundle.RevokedName)); err != nil {
		t.Fatal(err)
	}
	looks()
	has("withheld", 2, "aff", "b")
	g.start()
	has("after a restart", 2, "aff", "b")
	if _, v, err := g.Good(); err != nil || g.Took(v) != nil {
		t.Fatal(err)
	}
	o.put(bundle.RootName(3), []byte("nonsense")) // which anybody can write
	o.put(bundle.RevokedName, second)
	looks()
	has("beside a bad root", 2, "aff", "b")

	// The keys are stolen, and the highest number is used up. The root names another key, whose number
	// begins anew; but it lets nobody in again either.
	o.put(bundle.RevokedName, o.revoked(seal.MaxEpoch, keys[0], "aff", "b", "CN=alice", "CN=everybody"))
	looks()
	has("by the thief", seal.MaxEpoch, "aff", "b")
	o.put(bundle.RootName(3), o.rootWithRevoke(3, pubs[1]))
	g.looks(0)
	o.put(bundle.RevokedName, o.revoked(1, keys[1]))
	looks()
	has("an empty one by the key of now", seal.MaxEpoch, "aff", "b")
	o.put(bundle.RevokedName, o.revoked(1, keys[1], "aff", "b", "d", "CN=alice", "CN=everybody"))
	looks()
	has("by the key of now", 1, "aff", "b", "d")
	g.start()
	o.put(bundle.RevokedName, o.revoked(2, keys[1], "aff"))
	looks()
	has("after a restart", 1, "aff", "b", "d")

	// It counts at once, though it cannot be written down, and is written when it can.
	file := filepath.Join(g.state, bundle.RevokedName)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(file, "x"), 0o700); err != nil { // nothing can be renamed to it
		t.Fatal(err)
	}
	o.put(bundle.RevokedName, o.revoked(2, keys[1], "aff", "b", "d", "e", "CN=alice", "CN=everybody"))
	looks()
	has("with a full disk", 2, "aff", "b", "d", "e")
	if g.Status().Refusals[seal.StateUnwritten] == 0 {
		t.Error("nobody is told that it is not written down")
	}
	if err := os.RemoveAll(file); err != nil {
		t.Fatal(err)
	}
	looks()
	g.start()
	has("after the disk has room", 2, "aff", "b", "d", "e")
	g.Close()
	if err := os.WriteFile(filepath.Join(g.state, bundle.RevokedName), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if m, err := Open(g.opt); err == nil {
		m.Close()
		t.Error("a damaged list is nothing")
	}
}
