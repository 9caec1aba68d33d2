package fileset

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Memory and the file system say the same of the same files, in the same words.
func TestSourcesAgree(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	memory := Bytes{}
	for name, text := range map[string]string{"a.pem": "text", "empty": "", "long": string(make([]byte, 300<<10))} {
		memory[at(name)] = []byte(text)
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a.pem", "empty", "long", "none"} {
		for _, limit := range []int64{0, 3, 4, 1 << 20} {
			d, errDisk := Disk{}.Read(t.Context(), at(name), limit, nil)
			m, errMemory := memory.Read(t.Context(), at(name), limit, nil)
			if string(d.Text) != string(m.Text) || (errDisk == nil) != (errMemory == nil) || errDisk != nil && errDisk.Error() != errMemory.Error() {
				t.Errorf("%s, at most %d: %d bytes, %v; %d bytes, %v", name, limit, len(d.Text), errDisk, len(m.Text), errMemory)
			}
			if (d.Stamp == "") != (m.Stamp == "") || m.Mode != 0 || name != "none" && d.Mode != 0o600 {
				t.Errorf("%s: stamps %q and %q, modes %v and %v", name, d.Stamp, m.Stamp, d.Mode, m.Mode)
			}
		}
		if (Disk{}).Exists(at(name)) != memory.Exists(at(name)) {
			t.Errorf("%s is there and is not", name)
		}
	}
	names := Disk{}.Names(dir, 100)
	slices.Sort(names)
	if !slices.Equal(names, memory.Names(dir, 100)) || !slices.Equal(names, memory.Names(dir+"/", 100)) || len(names) != 3 {
		t.Errorf("%q, %q", names, memory.Names(dir, 100))
	}
	if got := memory.Names(dir, 2); len(got) != 2 {
		t.Errorf("%q", got)
	}
	if _, err := memory.Read(t.Context(), at("long"), 1<<20, &purse{left: 1000}); !errors.Is(err, errNoRoom) {
		t.Errorf("no room: %v", err)
	}
	if _, err := memory.Read(t.Context(), at("a.pem"), 1, nil); !errors.Is(err, readfile.ErrTooLarge) {
		t.Errorf("%v", err)
	}
}

// The stamp of what was read is that of the file, until the file changes in any way.
func TestStamps(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "one")
	last := ""
	for _, c := range []struct {
		what   string
		change func() error
	}{
		{"nothing yet", func() error { return nil }},
		{"another length", func() error { write(path, "three"); return nil }},
		{"another mode", func() error { return os.Chmod(path, 0o640) }},
		{"another in its place", func() error { write(path+".new", "three"); return os.Rename(path+".new", path) }},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		f, err := Disk{}.Read(t.Context(), path, 100, nil)
		if err != nil {
			t.Fatal(err)
		}
		stamp, err := Disk{}.Stamp(path)
		if err != nil || stamp != f.Stamp || stamp == last {
			t.Errorf("%s: %q read, %q there, %q before: %v", c.what, f.Stamp, stamp, last, err)
		}
		last = stamp
	}
	if _, err := (Disk{}).Stamp(path + ".none"); err == nil {
		t.Error("a file that is not there has a stamp")
	}
	b := Bytes{path: []byte("one")}
	one, err := b.Stamp(path)
	if err != nil || one == "" {
		t.Fatalf("%q, %v", one, err)
	}
	b[path] = []byte("two")
	if two, err := b.Stamp(path); err != nil || two == one {
		t.Errorf("another text has the same stamp: %v", err)
	}
}
