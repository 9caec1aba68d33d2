package spiffe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// Whoever may write in a directory on the way to a socket may put another one there.
func TestOpen(t *testing.T) {
	testenv.Root(t)
	dir := t.TempDir()
	in := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(in, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(in, "agent.sock")
	set := func(path string, mode os.FileMode, owner int) {
		t.Helper()
		if err := os.Chown(path, owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		path  string
		mode  os.FileMode
		owner int
		want  string
	}{
		{in, 0o755, 0, ""},
		{in, 0o777, 0, "is writable by others (0777)"},
		{in, 0o775, 0, "is writable by others (0775)"},
		{in, 0o777 | os.ModeSticky, 0, ""},
		{in, 0o755, 4321, "user 4321 owns " + in},
		{in, 0o755, 1234, ""},
		{filepath.Dir(in), 0o777, 0, "is writable by others"},
	} {
		set(c.path, c.mode, c.owner)
		if got := Open(socket, 1234); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s %v of %d: %q, want %q", c.path, c.mode, c.owner, got, c.want)
		}
		set(c.path, 0o755, 0)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(in, link); err != nil {
		t.Fatal(err)
	}
	set(in, 0o777, 0)
	if got := Open(filepath.Join(link, "agent.sock")); !strings.Contains(got, "is writable by others") {
		t.Errorf("by a link: %q", got)
	}
	if got := Open(filepath.Join(dir, "none", "agent.sock")); got != "" {
		t.Errorf("what is not there: %q", got)
	}
}
