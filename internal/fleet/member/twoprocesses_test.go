package member

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// Two processes of one gateway, while one takes over from the other: one of them writes, and the
// other takes what that one has put in force. What a process uses is not swept.
func TestTwoProcesses(t *testing.T) {
	o := newOffice(t)
	old := o.gate("berlin")
	o.publish(1)
	old.looks(1)
	newer := &gate{o: o, state: old.state, now: old.now, opt: old.opt}
	newer.start()
	if src, v, err := newer.Good(); err != nil || v.Manifest.Epoch != 1 || src == nil || !newer.Status().Follows || old.Status().Follows {
		t.Fatalf("%+v, %v", v, err)
	} else if err := newer.Took(v); err != nil {
		t.Fatal(err)
	}
	newer.looks(0) // the source has nothing that it may take
	o.publish(2)
	newer.looks(0)
	old.looks(2)
	newer.looks(2)
	if s := newer.Status(); s.Seen != 2 || s.Epoch != 2 {
		t.Errorf("%+v", s)
	}

	// The older one hands over, and has flows by epoch 2 yet.
	old.Yield()
	o.publish(3)
	if _, v, err := old.Look(t.Context()); err != nil || v != nil {
		t.Errorf("who has handed over looks at the source: %+v, %v", v, err)
	}
	newer.looks(3)
	if newer.Status().Follows || !old.Status().Follows {
		t.Error("the newer one does not write")
	}
	src := bundle.NewSource(old.state, old.good)
	if f, err := src.Read(t.Context(), "fleet:/sslgate.yaml", 100, nil); err != nil || string(f.Text) != "epoch 2" {
		t.Errorf("what the older one uses is gone: %q, %v", f.Text, err)
	}
	if _, v, err := old.Good(); err != nil || v.Manifest.Epoch != 3 {
		t.Errorf("what the older one would resume with is %+v, %v", v, err)
	}
	old.looks(3)

	// The newer one dies.
	newer.Close()
	old.looks(0)
	o.publish(4)
	old.looks(0) // not before it is told to
	old.Return(false)
	old.looks(4)
	for pattern, n := range map[string]int{"blobs/*": 1, goodPattern: 1} {
		if names := testpki.Must(filepath.Glob(filepath.Join(old.state, pattern))); len(names) != n {
			t.Errorf("left over: %v", names)
		}
	}
	old.start()
	if _, v, err := old.Good(); err != nil || v.Manifest.Epoch != 4 {
		t.Errorf("after a restart %+v, %v", v, err)
	}
}

// A bundle that waits for a restart is what the process of an upgrade begins with, and what the next
// start begins with only once that has done well.
func TestPendingInAnUpgrade(t *testing.T) {
	o := newOffice(t)
	old := o.gate("berlin")
	o.publish(1)
	old.looks(1)
	o.publish(2)
	_, v, err := old.Look(t.Context())
	if err != nil || old.Wait(v) != nil {
		t.Fatal(err)
	}
	newer := &gate{o: o, state: old.state, now: old.now, opt: old.opt}
	newer.start()
	_, v, err = newer.Pending()
	if err != nil || v.Manifest.Epoch != 2 || newer.Took(v) != nil {
		t.Fatalf("%+v, %v", v, err)
	}
	newer.looks(0)
	if good := testpki.Must(newer.Member.state.seen()).Good; good == v.Sum {
		t.Error("it is written down by who may not write")
	}
	old.Yield()
	newer.looks(0)
	if good := testpki.Must(newer.Member.state.seen()).Good; good != v.Sum {
		t.Error("it is not written down")
	}
	newer.start()
	if _, v, err := newer.Pending(); err != nil || v != nil {
		t.Errorf("it waits yet: %+v, %v", v, err)
	}
	if _, v, err := newer.Good(); err != nil || v.Manifest.Epoch != 2 {
		t.Errorf("%+v, %v", v, err)
	}
}

// A process that takes over puts a bundle in force, and does not do well: the one before it goes on
// with its own, also after a restart.
func TestTakenOverAndGivenBack(t *testing.T) {
	o := newOffice(t)
	old := o.gate("berlin")
	o.publish(1)
	old.looks(1)
	two := o.publish(2)
	newer := &gate{o: o, state: old.state, now: old.now, opt: old.opt}
	newer.start()
	old.Yield()
	newer.looks(2)
	newer.Close()
	o.put(bundle.HeadName, []byte("nothing"))
	old.Return(true)
	if _, v, err := old.Look(t.Context()); err == nil || v != nil {
		t.Errorf("%+v, %v", v, err)
	}
	if _, v, err := old.Good(); err != nil || v.Manifest.Epoch != 1 {
		t.Errorf("the next start would be with %+v, %v", v, err)
	}
	o.put(bundle.HeadName, two)
	old.looks(2)
}

// What waits for a restart does not wait any more once the source has what is in force.
func TestPendingGoesAway(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	one := o.publish(1)
	g.looks(1)
	o.publish(2, func(m *bundle.Manifest) { m.RollbackTo = []bundle.Older{older(one)} })
	_, v, err := g.Look(t.Context())
	if err != nil || g.Wait(v) != nil || g.Status().Pending != 2 {
		t.Fatal(err)
	}
	o.put(bundle.HeadName, one)
	g.looks(0)
	if s := g.Status(); s.Pending != 0 {
		t.Errorf("%+v", s)
	}
	g.start()
	if _, v, err := g.Pending(); err != nil || v != nil {
		t.Errorf("%+v, %v", v, err)
	}
}

// A directory that others may write, or that is another's, says nothing of what was seen.
func TestStateOfOthers(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	g.Close()
	for _, dir := range []string{g.state, filepath.Join(g.state, "blobs")} {
		if err := os.Chmod(dir, 0o770); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(g.opt); err == nil || !strings.Contains(err.Error(), "may be written by others") {
			t.Errorf("%s: %v", dir, err)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Root(t)
	if err := os.Chown(g.state, 12345, -1); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(g.opt); err == nil || !strings.Contains(err.Error(), "belongs to user 12345") {
		t.Error(err)
	}
}

// Two processes that are not told apart by a lock: the slower one lowers nothing.
func TestSlowerProcessLowersNothing(t *testing.T) {
	o := newOffice(t)
	g := o.gate("berlin")
	o.publish(1)
	g.looks(1)
	slow := testpki.Must(Open(g.opt))
	defer slow.Close()
	slow.state.lock = io.NopCloser(nil) // as on a file system without locks
	two := o.publish(2)
	o.publish(3)
	g.looks(3)
	o.put(bundle.HeadName, two)
	if _, v, err := slow.Look(t.Context()); err == nil || v != nil || testpki.Must(slow.state.seen()).Epoch != 3 {
		t.Errorf("%v, %+v, %+v", err, v, testpki.Must(slow.state.seen()))
	}
}
