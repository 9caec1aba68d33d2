package audit

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func openFile(t *testing.T, path string, r Rotate) *File {
	t.Helper()
	f, err := OpenFile(path, r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func put(t *testing.T, s Sink, lines ...string) {
	t.Helper()
	for _, l := range lines {
		if err := s.Write([]byte(l + "\n")); err != nil {
			t.Fatal(err)
		}
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestFileAppendsPrivately(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	put(t, openFile(t, path, Rotate{}), "one")
	put(t, openFile(t, path, Rotate{}), "two")
	if got := content(t, path); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, want 0600", st.Mode().Perm())
	}
}

func TestFileRotates(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	f := openFile(t, path, Rotate{Size: 10, Keep: 2})
	for i := range 9 {
		put(t, f, fmt.Sprintf("l%d...", i)) // six bytes: one a file
	}
	got := map[string]string{}
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		got[n.Name()] = content(t, filepath.Join(dir, n.Name()))
	}
	want := map[string]string{"a": "l8...\n", "a.1": "l7...\n", "a.2": "l6...\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// A record longer than the size has a file of its own, and no empty file is
// rotated away.
func TestFileRotatesLongLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, path, Rotate{Size: 4, Keep: 3})
	put(t, f, "longer than four", "also longer")
	if a, b := content(t, path), content(t, path+".1"); a != "also longer\n" || b != "longer than four\n" {
		t.Errorf("%q, %q", a, b)
	}
	if exists(path + ".2") {
		t.Error("an empty file was rotated")
	}
}

// What is removed is made anew, and the record is in the new file.
func TestFileRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, path, Rotate{})
	put(t, f, "one")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	put(t, f, "two", "three")
	if got := content(t, path); got != "two\nthree\n" {
		t.Errorf("%q", got)
	}
}

func TestFileMovedAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	f := openFile(t, path, Rotate{})
	put(t, f, "one")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	put(t, f, "two") // within the second: to the old one, which is still there
	f.looked = time.Now().Add(-lookEvery)
	put(t, f, "three")
	if a, b := content(t, path+".old"), content(t, path); a != "one\ntwo\n" || b != "three\n" {
		t.Errorf("%q, %q", a, b)
	}
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := f.Reopen(); err != nil {
		t.Fatal(err)
	}
	put(t, f, "four")
	if got := content(t, path); got != "four\n" {
		t.Errorf("after Reopen: %q", got)
	}
}

// A crash in the middle of a line costs that line alone.
func TestFileEndsBrokenLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, []byte("whole\nhal"), 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, openFile(t, path, Rotate{}), "next")
	if got := content(t, path); got != "whole\nhal\nnext\n" {
		t.Errorf("%q", got)
	}
}

// A disk that fills up in the middle of a line leaves no half line, and the
// line can be written later.
func TestFileDiskFull(t *testing.T) {
	d := newSmallDisk(t)
	path := filepath.Join(d.dir, "a")
	f := openFile(t, path, Rotate{})
	put(t, f, "one")
	d.fill()
	long := strings.Repeat("y", 6000) // the rest of the first block and more
	err := f.Write([]byte(long + "\n"))
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), "write audit file") {
		t.Fatalf("err = %v", err)
	}
	if got := content(t, path); got != "one\n" {
		t.Errorf("half a line stays: %d bytes", len(got))
	}
	d.free()
	put(t, f, long, "two")
	if got := content(t, path); got != "one\n"+long+"\ntwo\n" {
		t.Errorf("%d bytes", len(got))
	}
}

func TestFileReadOnly(t *testing.T) {
	d := newSmallDisk(t)
	path := filepath.Join(d.dir, "a")
	f := openFile(t, path, Rotate{})
	put(t, f, "one")
	d.do(func() error { return unix.Mount("tmpfs", d.inner, "tmpfs", unix.MS_RDONLY, "size=96k") })
	f.looked = time.Time{}
	if err := f.Write([]byte("two\n")); !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), "open audit file") {
		t.Errorf("err = %v", err)
	}
	if _, err := OpenFile(path, Rotate{}); !errors.Is(err, unix.EROFS) {
		t.Errorf("open: %v", err)
	}
	d.do(func() error { return unix.Unmount(d.inner, unix.MNT_DETACH) })
	put(t, f, "two")
	if got := content(t, path); got != "one\ntwo\n" {
		t.Errorf("%q", got)
	}
}

func TestFileDirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a")
	f := openFile(t, path, Rotate{})
	put(t, f, "one")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := f.Write([]byte("two\n")); !errors.Is(err, unix.ENOENT) {
		t.Fatalf("err = %v", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	put(t, f, "two")
	if got := content(t, path); got != "two\n" {
		t.Errorf("%q", got)
	}
}

func TestStreamEndsPartOfALine(t *testing.T) {
	w := &halves{}
	s := NewStream(w)
	if err := s.Write([]byte("abcdef\n")); err == nil {
		t.Fatal("no error")
	}
	put(t, s, "abcdef", "ghi")
	if got := string(slices.Concat(w.got...)); got != "abcdef\nghi\n" {
		t.Errorf("%q", got)
	}
}

// halves takes three bytes of the first write.
type halves struct{ got [][]byte }

func (h *halves) Write(p []byte) (int, error) {
	p = slices.Clone(p)
	if len(h.got) == 0 {
		h.got = append(h.got, p[:3])
		return 3, errors.New("full")
	}
	h.got = append(h.got, p)
	return len(p), nil
}
