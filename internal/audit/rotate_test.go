package audit

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// shows is every name in dir with its content: "dir", "link" or "fifo" for what
// is no regular file.
func shows(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		switch {
		case e.IsDir():
			got[e.Name()] = "dir"
		case e.Type()&os.ModeSymlink != 0:
			got[e.Name()] = "link"
		case e.Type()&os.ModeNamedPipe != 0:
			got[e.Name()] = "fifo"
		default:
			got[e.Name()] = content(t, filepath.Join(dir, e.Name()))
		}
	}
	return got
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// What others have put at the place of a rotated file is neither renamed nor
// overwritten, and no record waits for it.
func TestRotatePassesOverWhatIsNoFile(t *testing.T) {
	for name, c := range map[string]struct {
		make func(name string) error
		at   []string
		want map[string]string
		bad  bool
	}{
		"directory at 1": {func(n string) error { return os.Mkdir(n, 0o700) }, []string{"a.1"},
			map[string]string{"a.1": "dir", "a.2": "l2...\n", "a.3": "l1...\n"}, false},
		"link at 2": {func(n string) error { return os.Symlink("/etc/passwd", n) }, []string{"a.2"},
			map[string]string{"a.1": "l2...\n", "a.2": "link", "a.3": "l1...\n"}, false},
		"pipe at the last": {func(n string) error { return unix.Mkfifo(n, 0o600) }, []string{"a.3"},
			map[string]string{"a.1": "l2...\n", "a.2": "l1...\n", "a.3": "fifo"}, false},
		"full directories everywhere": {func(n string) error { return os.MkdirAll(filepath.Join(n, "x"), 0o700) }, []string{"a.1", "a.2", "a.3"},
			map[string]string{"a": "l0...\nl1...\nl2...\nl3...\n", "a.1": "dir", "a.2": "dir", "a.3": "dir"}, true},
		"broken links everywhere": {func(n string) error { return os.Symlink("nowhere", n) }, []string{"a.1", "a.2", "a.3"},
			map[string]string{"a": "l0...\nl1...\nl2...\nl3...\n", "a.1": "link", "a.2": "link", "a.3": "link"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, at := range c.at {
				must(t, c.make(filepath.Join(dir, at)))
			}
			f := openFile(t, filepath.Join(dir, "a"), Rotate{Size: 10, Keep: 3})
			for i := range 4 {
				put(t, f, fmt.Sprintf("l%d...", i))
			}
			want := map[string]string{"a": "l3...\n"}
			maps.Copy(want, c.want)
			if d := cmp.Diff(want, shows(t, dir)); d != "" {
				t.Error(d)
			}
			if err := f.Trouble(); (err != nil) != c.bad || c.bad && !strings.Contains(err.Error(), "rotate audit file") {
				t.Errorf("trouble: %v", err)
			}
			if !c.bad {
				return
			}
			for _, at := range c.at {
				must(t, os.RemoveAll(filepath.Join(dir, at)))
			}
			f.tried = time.Time{} // a second is over
			put(t, f, "l4...")
			if f.Trouble() != nil || content(t, f.path) != "l4...\n" || !strings.HasPrefix(content(t, f.path+".1"), "l0...\n") {
				t.Errorf("not rotated again: %v, %v", f.Trouble(), shows(t, dir))
			}
		})
	}
}

// The log and Stats say that a file cannot be rotated, once, and that it can
// again; no record is held up.
func TestTroubleIsSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	must(t, os.MkdirAll(path+".1/x", 0o700))
	f, err := OpenFile(path, Rotate{Size: 300, Keep: 1})
	must(t, err)
	log, said := observed()
	l := Start(Config{Sink: f, Name: f.String(), Log: log})
	defer func() { must(t, l.Close()) }()
	for i := range 20 {
		must(t, l.Write(rec(fmt.Sprint("r", i), true)))
	}
	testenv.Eventually(t, "all are written", func() bool { return l.Stats().Written == 20 })
	st := l.Stats()
	if st.Err != nil || st.Trouble == nil || l.Refusing() {
		t.Errorf("%+v", st)
	}
	testenv.Eventually(t, "it is said", func() bool { return said.FilterMessage("audit file not rotated: it grows").Len() > 0 })
	must(t, os.RemoveAll(path+".1"))
	testenv.Eventually(t, "it is rotated again", func() bool {
		must(t, l.Write(rec("more", true)))
		return l.Stats().Trouble == nil && exists(path+".1")
	})
	testenv.Eventually(t, "it is said", func() bool { return said.FilterMessage("audit file is rotated again").Len() == 1 })
	if n := said.FilterMessage("audit file not rotated: it grows").Len(); n != 1 {
		t.Errorf("said %d times", n)
	}
}

// What is not a regular file is never renamed, whatever it has swallowed.
func TestOnlyFilesAreRotated(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "a")
	must(t, unix.Mkfifo(fifo, 0o600))
	r, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0)
	must(t, err)
	defer func() { _ = r.Close() }()
	must(t, os.Symlink("/dev/null", filepath.Join(dir, "null")))
	for _, name := range []string{"a", "null"} {
		f := openFile(t, filepath.Join(dir, name), Rotate{Size: 4, Keep: 3})
		put(t, f, "one", "two", "three", "four")
		if f.Trouble() != nil {
			t.Errorf("%s: %v", name, f.Trouble())
		}
	}
	if d := cmp.Diff(map[string]string{"a": "fifo", "null": "link"}, shows(t, dir)); d != "" {
		t.Error(d)
	}
}

// A name that is a link stays one: the files lie side by side where it leads to.
func TestRotateBehindALink(t *testing.T) {
	here, there := t.TempDir(), t.TempDir()
	must(t, os.Symlink(there, filepath.Join(here, "over")))
	must(t, os.Symlink(filepath.Join(here, "over", "real"), filepath.Join(here, "a"))) // leads nowhere yet
	f := openFile(t, filepath.Join(here, "a"), Rotate{Size: 10, Keep: 2})
	put(t, f, "l0...", "l1...", "l2...", "l3...")
	if d := cmp.Diff(map[string]string{"a": "link", "over": "link"}, shows(t, here)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff(map[string]string{"real": "l3...\n", "real.1": "l2...\n", "real.2": "l1...\n"}, shows(t, there)); d != "" {
		t.Error(d)
	}
	if got := Dirs(f.path); !slices.Equal(got, []string{here, there}) {
		t.Errorf("it writes in %v", got)
	}
}

// Fewer files are kept than before: those over it go, at the next start and at a
// reload, and nothing else goes.
func TestKeepIsLowered(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	others := []string{"a.08", "a.+7", "a.7.gz", "a.20260101", "a.x", "b.9", "a.-3", "a-9"}
	for _, name := range append([]string{"a", "a.1", "a.2", "a.3", "a.9", "a.1000"}, others...) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("x\n"), 0o600))
	}
	must(t, os.Mkdir(filepath.Join(dir, "a.4"), 0o700))
	names := func() []string {
		return slices.Sorted(maps.Keys(shows(t, dir)))
	}
	all := names()
	openFile(t, path, Rotate{Keep: 2, Prune: true}) // never rotated: nothing is ours
	openFile(t, path, Rotate{Size: 10, Keep: 2})    // they may be those of logrotate
	if got := names(); !slices.Equal(got, all) {
		t.Errorf("not rotated, and %v", got)
	}
	f := openFile(t, path, Rotate{Size: 10, Keep: 2, Prune: true})
	want := slices.Sorted(slices.Values(append([]string{"a", "a.1", "a.2", "a.4"}, others...)))
	if got := names(); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	must(t, os.WriteFile(path+".3", nil, 0o600))
	must(t, f.Reopen())
	if exists(path + ".3") {
		t.Error("a reload left it")
	}
}

// Somebody else has rotated: his new file is not renamed in the place of ours.
func TestRotatedByOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	f := openFile(t, path, Rotate{Size: 10, Keep: 3})
	put(t, f, "l0...")
	must(t, os.Rename(path, path+".1"))
	must(t, os.WriteFile(path, []byte("theirs\n"), 0o600))
	put(t, f, "l1...") // too much for the file that is open, and for theirs, once
	put(t, f, "l2...")
	want := map[string]string{"a": "l2...\n", "a.1": "theirs\nl1...\n", "a.2": "l0...\n"}
	if d := cmp.Diff(want, shows(t, dir)); d != "" {
		t.Error(d)
	}
	// Moved away without a successor.
	must(t, os.Rename(path, filepath.Join(dir, "moved")))
	put(t, f, "l3...")
	if a, b := content(t, path), content(t, filepath.Join(dir, "moved")); a != "l3...\n" || b != "l2...\n" {
		t.Errorf("%q, %q", a, b)
	}
}

// A file that others cut (copytruncate) goes on at its new end, is rotated by its
// new size, and a line that does not fit onto the disk fills it with no zeros.
func TestCutByOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, path, Rotate{Size: 20, Keep: 3})
	put(t, f, "l0...", "l1...")
	must(t, os.Truncate(path, 0))
	put(t, f, "l2...", "l3...", "l4...")
	if got := content(t, path); got != "l2...\nl3...\nl4...\n" || exists(path+".1") {
		t.Errorf("%q, rotated by a size of before", got)
	}
	must(t, os.Truncate(path, 3)) // in the middle of a line
	if n, err := f.WriteLines([][]byte{[]byte("x\n"), []byte("y\n")}); n != 2 || err != nil {
		t.Errorf("%d, %v", n, err)
	}

	d := newSmallDisk(t)
	full := openFile(t, filepath.Join(d.dir, "a"), Rotate{})
	put(t, full, strings.Repeat("x", 5000), "one")
	d.fill()
	must(t, os.Truncate(full.path, 10))
	d.fill()
	long := strings.Repeat("y", 6000)
	if err := full.Write([]byte(long + "\n")); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("err = %v", err)
	}
	if got := content(t, full.path); strings.Contains(got, "\x00") {
		t.Errorf("%d bytes, with zeros", len(got))
	}
}

// The disk is full when it is time to rotate: nothing is lost.
func TestRotateOnAFullDisk(t *testing.T) {
	d := newSmallDisk(t)
	path := filepath.Join(d.dir, "a")
	f := openFile(t, path, Rotate{Size: 5000, Keep: 2})
	old := strings.Repeat("x", 4000)
	put(t, f, old)
	d.fill()
	long := strings.Repeat("y", 4500)
	for range 3 {
		if err := f.Write([]byte(long + "\n")); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("err = %v", err)
		}
	}
	d.free()
	put(t, f, long)
	want := map[string]string{"a": long + "\n", "a.1": old + "\n"}
	if got := shows(t, d.dir); !maps.Equal(got, want) {
		t.Errorf("%d files", len(got))
		for name, text := range got {
			t.Logf("%s: %d bytes", name, len(text))
		}
	}
}

// Records come from many at once while the file is rotated by size and others
// rename it, cut it, remove what was rotated and put things in its way: with
// renames alone every record is in the files once; always every line is whole.
func TestRotationRaces(t *testing.T) {
	for name, c := range map[string]struct {
		meddle func(path string, i int) error
		whole  bool // nothing may be lost
		rotate Rotate
	}{
		"renamed": {func(path string, i int) error { return os.Rename(path, fmt.Sprintf("%s-%d", path, i)) }, true, Rotate{}},
		"renamed and rotated": {func(path string, i int) error { return os.Rename(path, fmt.Sprintf("%s-%d", path, i)) },
			true, Rotate{Size: 2 << 10, Keep: MaxKeep}},
		"as logrotate does": {func(path string, i int) error {
			// Its last one is as old as that, so that it is never overwritten here.
			for n := 200 - 1; n > 0; n-- {
				if err := os.Rename(numbered(path, n), numbered(path, n+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
			return os.Rename(path, numbered(path, 1))
		}, true, Rotate{}},
		"cut":       {func(path string, _ int) error { return os.Truncate(path, 0) }, false, Rotate{Size: 2 << 10, Keep: 2}},
		"removed":   {func(path string, _ int) error { return os.Remove(path) }, false, Rotate{Size: 2 << 10, Keep: 2}},
		"old gone":  {func(path string, i int) error { return os.Remove(numbered(path, 1+i%3)) }, false, Rotate{Size: 2 << 10, Keep: 3}},
		"obstacles": {func(path string, i int) error { return os.Mkdir(numbered(path, 1+i%3), 0o700) }, true, Rotate{Size: 8 << 10, Keep: MaxKeep}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a")
			f, err := OpenFile(path, c.rotate)
			must(t, err)
			log, _ := observed()
			l := Start(Config{Sink: f, Name: f.String(), Log: log})
			const writers, each = 4, 200
			var wg, other sync.WaitGroup
			stop := make(chan struct{})
			other.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := c.meddle(path, i); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) {
						t.Error(err)
					}
					if i%3 == 0 {
						l.Reopen()
					}
				}
			})
			for w := range writers {
				wg.Go(func() {
					for i := range each {
						if err := l.Write(rec(fmt.Sprintf("%d-%d", w, i), true)); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			testenv.Eventually(t, "all are written", func() bool { return l.Stats().Written == writers*each })
			close(stop)
			other.Wait()
			must(t, l.Close())
			got := map[string]int{}
			for name, text := range shows(t, dir) {
				if text == "dir" || text == "" {
					continue
				}
				for _, id := range ids(t, filepath.Join(dir, name)) {
					got[id]++
				}
			}
			if c.whole && len(got) != writers*each {
				t.Errorf("%d records of %d", len(got), writers*each)
			}
			for id, n := range got {
				if n != 1 {
					t.Errorf("%s is there %d times", id, n)
				}
			}
		})
	}
}
