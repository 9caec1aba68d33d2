package fileset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/readfile"
)

// moving is a source whose files have other bytes each time they are read.
type moving struct {
	Bytes
	reads map[string]int
	texts [][]byte // that were handed out
}

func newMoving(b Bytes) *moving { return &moving{Bytes: b, reads: map[string]int{}} }

func (m *moving) Read(ctx context.Context, path string, limit int64, room readfile.Room) (File, error) {
	f, err := m.Bytes.Read(ctx, path, limit, room)
	if err == nil {
		m.reads[path]++
		f.Text = fmt.Appendf(f.Text, " %d", m.reads[path])
		m.texts = append(m.texts, f.Text)
	}
	return f, err
}

// purse is a Room that counts.
type purse struct{ lent, left int64 }

var errNoRoom = errors.New("no room")

func (p *purse) Take(n int64) error {
	if n > p.left {
		return errNoRoom
	}
	p.lent, p.left = p.lent+n, p.left-n
	return nil
}

func (p *purse) Give(n int64) { p.lent, p.left = p.lent-n, p.left+n }

// Whoever names a file sees what the first of them saw, and it is read once.
func TestOneReadingForAll(t *testing.T) {
	m := newMoving(Bytes{"a": []byte("a"), "b": []byte("b")})
	s := New(m, MaxBytes)
	s.Expect("a")
	s.Expect("a")
	s.Expect("a")
	for i := range 3 {
		f, err := s.Read(t.Context(), "a", 100, nil)
		if err != nil || string(f.Text) != "a 1" || f.Stamp == "" {
			t.Fatalf("use %d: %q, %v", i, f.Text, err)
		}
		s.Done("a")
	}
	if m.reads["a"] != 1 {
		t.Errorf("read %d times", m.reads["a"])
	}
	// What nobody has announced is not kept; it must be the same, or nothing is built.
	if _, err := s.Read(t.Context(), "a", 100, nil); !errors.Is(err, ErrChanged) || !strings.HasPrefix(err.Error(), "a changed while") {
		t.Errorf("another text: %v", err)
	}
	same := New(m.Bytes, MaxBytes)
	for range 3 {
		if f, err := same.Read(t.Context(), "b", 100, nil); err != nil || string(f.Text) != "b" {
			t.Errorf("%q, %v", f.Text, err)
		}
		same.DoneSecret("b")
	}
	if string(m.Bytes["b"]) != "b" {
		t.Errorf("the source was changed: %q", m.Bytes["b"])
	}
}

// A file that is not there for one is there for nobody, even if it comes meanwhile.
func TestOneErrorForAll(t *testing.T) {
	files := Bytes{}
	s := New(files, MaxBytes)
	_, first := s.Read(t.Context(), "late", 100, nil)
	files["late"] = []byte("x")
	_, second := s.Read(t.Context(), "late", 100, nil)
	if !errors.Is(first, fs.ErrNotExist) || !errors.Is(second, fs.ErrNotExist) {
		t.Errorf("%v, %v", first, second)
	}
	files["long"] = []byte("four")
	if _, err := s.Read(t.Context(), "long", 3, nil); !errors.Is(err, readfile.ErrTooLarge) || err.Error() != "long is too large: 4 bytes, at most 3" {
		t.Errorf("too large for the first: %v", err)
	}
	if f, err := s.Read(t.Context(), "long", 4, nil); err != nil || string(f.Text) != "four" {
		t.Errorf("not for the second: %q, %v", f.Text, err)
	}
	if _, err := s.Read(t.Context(), "long", 2, nil); !errors.Is(err, readfile.ErrTooLarge) || err.Error() != "long is too large: 4 bytes, at most 2" {
		t.Errorf("too large for the third: %v", err)
	}
}

// The text of a secret is gone after its last use, not before; also where the last
// use does not come, or somebody else reads the file as no secret.
func TestSecretsAreOverwritten(t *testing.T) {
	key := []byte("the private key")
	zeros := make([]byte, len(key)+2)
	for name, end := range map[string]func(s *Snapshot){
		"the last use ends":      func(s *Snapshot) { s.DoneSecret("k") },
		"the last use is none":   func(s *Snapshot) { s.Done("k") },
		"the last does not come": func(s *Snapshot) { s.Close() },
	} {
		m := newMoving(Bytes{"k": key})
		s := New(m, MaxBytes)
		s.Expect("k")
		s.Expect("k")
		if _, err := s.Read(t.Context(), "k", 100, nil); err != nil {
			t.Fatal(err)
		}
		s.DoneSecret("k")
		if bytes.Equal(m.texts[0], zeros) {
			t.Fatalf("%s: gone after the first of two uses", name)
		}
		if name != "the last does not come" {
			if _, err := s.Read(t.Context(), "k", 100, nil); err != nil {
				t.Fatal(err)
			}
		}
		digest := s.Digest("main")
		end(s)
		if !bytes.Equal(m.texts[0], zeros) {
			t.Errorf("%s: %q is still there", name, m.texts[0])
		}
		if s.Digest("main") != digest {
			t.Errorf("%s: the digest has changed", name)
		}
	}
	// A text that turned out to be another one is nobody's.
	m := newMoving(Bytes{"k": key})
	s := New(m, MaxBytes)
	for range 2 {
		if _, err := s.Read(t.Context(), "k", 100, nil); err == nil {
			s.DoneSecret("k")
		}
	}
	for i, text := range m.texts {
		if !bytes.Equal(text, zeros) {
			t.Errorf("reading %d: %q is still there", i, text)
		}
	}
}

// What is kept for later uses is lent, and given back with the last.
func TestKeptTextsAreLent(t *testing.T) {
	s := New(Bytes{"a": make([]byte, 1000), "b": make([]byte, 1000)}, MaxBytes)
	p := &purse{left: 1 << 20}
	read := func(path string) error {
		_, err := s.Read(t.Context(), path, 1<<20, p)
		return err
	}
	s.Expect("a")
	s.Expect("a")
	if err := errors.Join(read("a"), read("b")); err != nil || p.lent != 1000 {
		t.Errorf("%v, %d bytes lent", err, p.lent)
	}
	s.Done("b")
	s.Done("a")
	if p.lent != 1000 {
		t.Errorf("given back before the last use: %d", p.lent)
	}
	if err := read("a"); err != nil {
		t.Fatal(err)
	}
	if s.Done("a"); p.lent != 0 {
		t.Errorf("%d bytes were not given back", p.lent)
	}
	s = New(Bytes{"a": make([]byte, 1000)}, MaxBytes)
	s.Expect("a")
	s.Expect("a")
	if err := read("a"); err != nil {
		t.Fatal(err)
	}
	if s.Close(); p.lent != 0 {
		t.Errorf("%d bytes were not given back at the end", p.lent)
	}
}

// The digest is that of what was read: in any order, from any source, from wherever
// the configuration's directory is; another byte, length or name is another digest.
func TestDigest(t *testing.T) {
	files := Bytes{"/etc/gate/main.yaml": []byte("main"), "/etc/gate/keys/a.key": []byte("key"), "/etc/gate/empty": {}, "/run/token": []byte("token")}
	of := func(b Bytes, main string, order func(paths []string)) string {
		s := New(b, MaxBytes)
		var paths []string
		for path := range b {
			paths = append(paths, path)
		}
		slices.Sort(paths)
		order(paths)
		for _, path := range paths {
			if _, err := s.Read(t.Context(), path, 1<<20, nil); err != nil {
				t.Fatal(err)
			}
			s.Done(path)
		}
		return s.Digest(main)
	}
	asIs := func([]string) {}
	want := of(files, "/etc/gate/main.yaml", asIs)
	if len(want) != 64 {
		t.Errorf("%q is no SHA-256", want)
	}
	if got := of(files, "/etc/gate/main.yaml", slices.Reverse[[]string]); got != want {
		t.Errorf("the order of reading counts: %s, %s", got, want)
	}
	seen := map[string]string{want: "as it is"}
	other := func(what string, b Bytes) {
		t.Helper()
		got := of(b, "/etc/gate/main.yaml", asIs)
		if before, ok := seen[got]; ok {
			t.Errorf("%s: the digest of %s", what, before)
		}
		seen[got] = what
	}
	changed := func(path string, text []byte) Bytes {
		b := Bytes{}
		for p, t := range files {
			b[p] = t
		}
		if delete(b, path); text != nil {
			b[path] = text
		}
		return b
	}
	for path, text := range files {
		for i := range text {
			one := bytes.Clone(text)
			one[i] ^= 1
			other(fmt.Sprintf("byte %d of %s", i, path), changed(path, one))
		}
		other("a byte more of "+path, changed(path, append(bytes.Clone(text), 0)))
		other("without "+path, changed(path, nil))
		b := changed(path, nil)
		b[path+"2"] = text
		other("another name of "+path, b)
	}
	swapped := changed("/etc/gate/keys/a.key", files["/run/token"])
	swapped["/run/token"] = files["/etc/gate/keys/a.key"]
	other("two texts swapped", swapped)

	moved := Bytes{}
	for path, text := range files {
		moved[strings.Replace(path, "/etc/gate/", "/srv/other/place/", 1)] = text
	}
	if got := of(moved, "/srv/other/place/main.yaml", asIs); got != want {
		t.Errorf("the directory of the configuration counts: %s, %s", got, want)
	}
}

// A relative path of the configuration is as good as an absolute one, and the file
// system as memory. A file that cannot be read does not count.
func TestDigestOfTheDisk(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	memory := Bytes{}
	for name, text := range map[string]string{"main.yaml": "main", "a.pem": "a", "b.pem": strings.Repeat("b", 10000)} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		memory[filepath.Join(dir, name)] = []byte(text)
	}
	var want string
	for _, c := range []struct {
		what, main string
		src        Source
		paths      []string
	}{
		{"absolute", filepath.Join(dir, "main.yaml"), Disk{}, []string{filepath.Join(dir, "main.yaml"), filepath.Join(dir, "a.pem"), filepath.Join(dir, "b.pem")}},
		{"relative", "main.yaml", Disk{}, []string{"main.yaml", "a.pem", "b.pem"}},
		{"two spellings", "./main.yaml", Disk{}, []string{"./main.yaml", "a.pem", filepath.Join(dir, "a.pem"), "b.pem"}},
		{"one is missing", "main.yaml", Disk{}, []string{"main.yaml", "a.pem", "b.pem", "c.pem"}},
		{"memory", filepath.Join(dir, "main.yaml"), memory, []string{filepath.Join(dir, "main.yaml"), filepath.Join(dir, "a.pem"), filepath.Join(dir, "b.pem")}},
	} {
		s := New(c.src, MaxBytes)
		for _, path := range c.paths {
			if _, err := s.Read(t.Context(), path, 1<<20, nil); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		got := s.Digest(c.main)
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%s: %s, want %s", c.what, got, want)
		}
	}
}

// All files together have a bound, and the error says whose fault it is.
func TestAllFilesHaveABound(t *testing.T) {
	files := Bytes{"main": make([]byte, 10), "huge": make([]byte, 80), "last": make([]byte, 11), "fits": make([]byte, 10)}
	s := New(files, 100)
	read := func(path string) error {
		_, err := s.Read(t.Context(), path, 1000, nil)
		if err == nil {
			s.Done(path)
		}
		return err
	}
	if err := errors.Join(read("main"), read("huge")); err != nil {
		t.Fatal(err)
	}
	want := "last is too large: with it the configuration and the files that it names have more than 100 bytes together; 90 are read so far, and the largest is huge with 80"
	if err := read("last"); !errors.Is(err, readfile.ErrTooLarge) || err.Error() != want {
		t.Errorf("%v", err)
	}
	// The same file again costs nothing, and what fits is taken.
	if err := errors.Join(read("huge"), read("fits"), read("main")); err != nil {
		t.Error(err)
	}
}

// Whatever happens to the files, and in whatever order they are used: all uses of a
// file that are announced see the same bytes, and none ever sees two texts.
func TestNoTwoTextsOfAFile(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		m := newMoving(Bytes{"a": []byte("a"), "b": []byte("b"), "c": {}})
		s := New(m, MaxBytes)
		var todo []string
		for _, path := range []string{"a", "b", "c"} {
			for range r.IntN(4) {
				todo = append(todo, path)
				s.Expect(path)
			}
		}
		r.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
		seen, open := map[string]string{}, []string{}
		closeOne := func() {
			i := r.IntN(len(open))
			s.DoneSecret(open[i])
			open = slices.Delete(open, i, i+1)
		}
		for _, path := range todo {
			f, err := s.Read(t.Context(), path, 100, nil)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if before, ok := seen[path]; ok && before != string(f.Text) {
				t.Fatalf("seed %d: %s is %q and %q", seed, path, before, f.Text)
			}
			seen[path] = string(f.Text)
			if open = append(open, path); r.IntN(2) == 0 {
				closeOne()
			}
		}
		for len(open) > 0 {
			closeOne()
		}
		for _, text := range m.texts {
			if len(bytes.Trim(text, "\x00")) > 0 {
				t.Fatalf("seed %d: %q is still there", seed, text)
			}
		}
	}
}
