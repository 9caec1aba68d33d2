package member

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/fleet/author"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// keyFile writes a private key as the commands read it.
func (o *office) keyFile(key crypto.Signer) string {
	o.t.Helper()
	file := filepath.Join(o.t.TempDir(), "key.pem")
	if err := os.WriteFile(file, testpki.Must(seal.KeyPEM(key)), 0o600); err != nil {
		o.t.Fatal(err)
	}
	return file
}

// Whoever revokes needs no bundle that gateways would take: an ended one, or none, holds up nothing. What
// no gateway would take is not pushed.
func TestPushRevokedAlone(t *testing.T) {
	c := newCluster(t, 1)
	o := newOffice(t)
	keys, pubs := o.keys(2)
	o.put(bundle.RootName(1), o.root)
	o.put(bundle.RootName(2), o.rootWithRevoke(2, pubs[0]))
	s := c.store(nil)
	defer s.Close()
	key := o.keyFile(keys[0])
	revoke := func(entry string) {
		t.Helper()
		testpki.Must(author.Revoke(o.dir, author.RevokeOptions{Entries: []string{entry}, Keys: []string{key}}))
	}
	push := func(number int64) {
		t.Helper()
		var res *author.PushResult
		var err error
		testenv.Eventually(t, "it is pushed", func() bool { // an etcd on a busy machine may lose its leader
			res, err = author.PushRevoked(testenv.Context(t), o.dir, "", s)
			return err == nil
		}, func() any { return err })
		if res.List == nil || res.List.Number != number {
			t.Fatalf("%+v", res)
		}
	}
	revoke("a")
	push(1) // before there is a bundle
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	o.publish(1, func(m *bundle.Manifest) { m.NotAfter = seal.Time(end) }, names(1, bundle.File{}))
	o.pushed(s, 1)
	g := o.gate("berlin", func(opt *Options) { opt.Source, opt.Credentials = c.place(), c.credentials() })
	g.looks(1)
	has := func(number int64, serials ...string) {
		t.Helper()
		testenv.Eventually(t, fmt.Sprintf("list %d is in force", number), func() bool { // an etcd without a leader is not read
			g.LookForRevoked(t.Context())
			r := g.Revoked()
			return r != nil && r.Number == number && slices.Equal(r.Serials, serials)
		}, func() any { return fmt.Sprintf("%+v, %+v", g.Revoked(), g.Status().LastRevoked) })
	}
	has(1, "a")
	if _, err := author.Push(t.Context(), o.dir, "", s, end); seal.ReasonOf(err) != seal.Expired {
		t.Fatalf("the bundle has not ended: %v", err)
	}
	revoke("b")
	push(2)
	has(2, "a", "b")
	push(2) // again
	first := testpki.Must(os.ReadFile(filepath.Join(o.dir, bundle.RevokedName)))
	if err := os.Remove(filepath.Join(o.dir, bundle.RevokedName)); err != nil {
		t.Fatal(err)
	}
	revoke("c")
	refused := func(what, word string) {
		t.Helper()
		var err error
		testenv.Eventually(t, what+" is not pushed", func() bool {
			if _, err = author.PushRevoked(testenv.Context(t), o.dir, "", s); err == nil {
				t.Fatalf("%s is pushed", what)
			}
			return strings.Contains(err.Error(), word)
		}, func() any { return err })
		has(2, "a", "b")
	}
	refused("a list that somebody has begun anew by himself", "older_epoch")
	o.put(bundle.RevokedName, first)
	o.put(bundle.RootName(3), o.rootWithRevoke(3, pubs[1]))
	refused("signed by keys that are gone", "no gateway would take it")

	// It begins anew with the next bundle, and the list that is in the etcd is replaced.
	body := testpki.Must(seal.Canonical(o.entries(1, "a")))
	base := bundle.File{SHA256: bundle.Sum(body), Size: int64(len(body))}
	o.put(bundle.BlobName(base.SHA256), body)
	key = o.keyFile(keys[1])
	o.publish(2, names(1, base))
	revoke("d")
	refused("one that the bundle there does not know", "push the bundle")
	o.pushed(s, 2)
	g.looks(2)
	has(2, "a", "d")
	if r := g.Revoked(); r.Base != base.SHA256 {
		t.Errorf("%+v", r)
	}
}
