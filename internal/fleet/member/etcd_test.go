package member

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/author"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/etcd"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// silent is a look at a source that cannot answer. It waits no longer than it must: there is no answer
// however long it waits.
func (g *gate) silent(what string) {
	g.o.t.Helper()
	ctx, cancel := context.WithTimeout(g.o.t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, v, err := g.Look(ctx); v != nil || seal.ReasonOf(err) != seal.Unreachable || err == nil || g.Status().Last == nil {
		g.o.t.Errorf("%s: %+v, %v, %+v", what, v, err, g.Status())
	}
}

// push is `sslgate fleet push`.
func (o *office) push(s *etcd.Store) (*author.PushResult, error) {
	return author.Push(o.t.Context(), o.dir, "", s, time.Now())
}

func (o *office) pushed(s *etcd.Store, epoch int64) {
	o.t.Helper()
	var res *author.PushResult
	var err error
	testenv.Eventually(o.t, "it is pushed", func() bool { // an etcd on a busy machine may lose its leader
		res, err = o.push(s)
		return err == nil
	}, func() any { return err })
	if res.Epoch != epoch {
		o.t.Fatalf("%+v", res)
	}
}

// heard waits for an event.
func heard(t *testing.T, changed <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-changed:
	case <-testenv.Context(t).Done():
		t.Fatalf("%s, and nobody is told", what)
	}
}

// An etcd is as good as a directory, and its thief can do as little: he has all that is written there,
// and may write anything.
func TestEtcdSource(t *testing.T) {
	c := newCluster(t, 1)
	o := newOffice(t)
	o.put(bundle.RootName(1), o.root)
	s := c.store(nil)
	defer s.Close()
	g := o.gate("berlin", func(opt *Options) { opt.Source, opt.Credentials = c.place(), c.credentials() })
	g.refuses("nothing is there", seal.Unreachable)
	one := o.publish(1, func(m *bundle.Manifest) {
		o.add(m, "empty.txt", "")
		o.add(m, "a-part.txt", strings.Repeat("p", 512<<10))
		o.add(m, "parts.txt", strings.Repeat("long", 300<<10))
	})
	o.pushed(s, 1)
	g.looks(1)
	g.looks(0)
	if res, err := o.push(s); err != nil || !res.Same || res.Before != 1 {
		t.Errorf("pushed again: %+v, %v", res, err)
	}
	_, first, err := s.Head(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if text, tag, err := s.Head(t.Context(), first); text != nil || tag != first || err != nil {
		t.Errorf("an unchanged head is sent: %d bytes, %q, %v", len(text), tag, err)
	}

	// What gateways would not take is not pushed, nor over what somebody else has written.
	two := o.publish(2, func(m *bundle.Manifest) { o.add(m, "roots.pem", "the roots of two") })
	o.pushed(s, 2)
	g.looks(2)
	if err := s.PutHead(t.Context(), two, first); err == nil || !strings.Contains(err.Error(), "meanwhile") {
		t.Errorf("over what somebody else has written: %v", err)
	}
	o.put(bundle.HeadName, one)
	if _, err := o.push(s); seal.ReasonOf(err) != seal.OlderEpoch {
		t.Errorf("an older one: %v", err)
	}
	o.publish(2)
	if _, err := o.push(s); seal.ReasonOf(err) != seal.OtherEpoch {
		t.Errorf("another one with its number: %v", err)
	}

	thief := c.thief()
	writes := func(key string, text []byte) {
		t.Helper()
		if _, err := thief.Put(t.Context(), "/sslgate/acme/"+key, string(text)); err != nil {
			t.Fatal(err)
		}
	}
	writes(bundle.HeadName, one)
	g.refuses("replays", seal.OlderEpoch)
	three := o.manifest(3, func(m *bundle.Manifest) { o.add(m, "roots.pem", "the roots of three") })
	writes(bundle.HeadName, o.bundle(three, o.policy[0]))
	g.refuses("signs alone", seal.Unsigned)
	writes(bundle.HeadName, bytes.Repeat([]byte("x"), 1<<20))
	g.refuses("writes nonsense", seal.Unreadable)
	writes(bundle.HeadName, nil)
	g.refuses("writes nothing", seal.Unreadable)
	before := g.Status().Contact
	g.now = g.now.Add(time.Second)
	if _, v, err := g.Look(t.Context()); v != nil || err != nil || g.Status().Contact != before {
		t.Errorf("an empty head counts as an answer: %+v, %v", v, err)
	}
	writes(bundle.HeadName, o.bundle(three))
	g.refuses("withholds a file", seal.Missing)
	blob := bundle.BlobName(three.Files["roots.pem"].SHA256)
	for _, text := range []string{"the roots of thief", "the roots", "the roots of three, and mine"} {
		writes(blob+"/0000", []byte(text))
		writes(bundle.BlobName(three.Files[bundle.Main].SHA256)+"/0000", []byte("epoch 3"))
		g.refuses("alters a file", seal.Altered)
	}
	his, hisPub := o.keys(2)
	writes(bundle.RootName(2), o.newRoot(2, 0, hisPub, his...))
	g.refuses("makes himself a root", seal.Unsigned)
	if _, err := thief.Delete(t.Context(), "/sslgate/", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	g.refuses("takes everything away", seal.Unreachable)

	// The operator writes what he has, over whatever is there.
	o.put(bundle.HeadName, two)
	o.pushed(s, 2)
	g.looks(0)
	if st := g.Status(); st.Epoch != 2 || st.Last != nil {
		t.Errorf("%+v", st)
	}
}

// A gateway that looks once an hour has what is pushed at once.
func TestEtcdWatch(t *testing.T) {
	c := newCluster(t, 1)
	o := newOffice(t)
	o.put(bundle.RootName(1), o.root)
	s := c.store(nil)
	defer s.Close()
	g := o.gate("berlin", func(opt *Options) { opt.Source, opt.Credentials = c.place(), c.credentials() })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- g.Run(ctx, Use{Apply: func(context.Context, fileset.Source) error { return nil }, Stamp: func() string { return "as ever" }})
	}()
	for epoch := range int64(3) {
		o.publish(epoch + 1)
		o.pushed(s, epoch+1)
		testenv.Eventually(t, "it is in force", func() bool { return g.Status().Epoch == epoch+1 }, func() any { return g.Status() })
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A watch that cannot go on where it was, because what came meanwhile was compacted away, says that
// there may be something new.
func TestEtcdCompacted(t *testing.T) {
	c := newCluster(t, 1)
	o := newOffice(t)
	o.put(bundle.RootName(1), o.root)
	net := newNetwork()
	watched, s := c.store(net.dial), c.store(nil)
	defer watched.Close()
	defer s.Close()
	changed, stop := watching(t, watched)
	defer stop()
	heard(t, changed, "the watch has begun")
	o.publish(1)
	o.pushed(s, 1)
	heard(t, changed, "a head is written")
	mend := net.cut()
	o.publish(2)
	o.pushed(s, 2)
	thief := c.thief()
	res, err := thief.Put(t.Context(), "/elsewhere", "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := thief.Compact(t.Context(), res.Header.Revision); err != nil {
		t.Fatal(err)
	}
	mend()
	heard(t, changed, "what was compacted is looked at anew")
	testenv.Eventually(t, "it has the head of now", func() bool {
		text, _, err := watched.Head(t.Context(), "")
		return err == nil && bundle.Epoch(testpki.Must(seal.Pinned(o.root)), text) == 2
	})
}

// watching calls Watch, and sends for each call of changed.
func watching(t *testing.T, s *etcd.Store) (changed chan struct{}, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	changed = make(chan struct{}, 1000)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Watch(ctx, func() { changed <- struct{}{} })
	}()
	return changed, func() {
		cancel()
		<-done
	}
}

// Without a quorum there is no answer, rather than an old one, and the watch says so; with it again
// it goes on. Nobody is let in or out by it: what is in force stays.
func TestEtcdWithoutQuorum(t *testing.T) {
	c := newCluster(t, 3)
	o := newOffice(t)
	o.put(bundle.RootName(1), o.root)
	s := c.store(nil)
	defer s.Close()
	o.publish(1)
	o.pushed(s, 1)
	g := o.gate("berlin", func(opt *Options) { opt.Source, opt.Credentials = c.place(), c.credentials() })
	testenv.Eventually(t, "the first is in force", func() bool {
		_, v, err := g.Look(t.Context())
		return err == nil && v != nil && g.Took(v) == nil
	}, func() any { return g.Status() })
	changed, stop := watching(t, s)
	defer stop()
	heard(t, changed, "the watch has begun")
	c.kill(c.members[1:]...)
	heard(t, changed, "there is no leader")
	g.silent("without a quorum")
	c.again(c.members[1:]...)
	o.publish(2)
	o.pushed(s, 2)
	testenv.Eventually(t, "it has what was written since", func() bool {
		_, v, err := g.Look(t.Context())
		return err == nil && v != nil && v.Manifest.Epoch == 2
	}, func() any { return g.Status() })
}
