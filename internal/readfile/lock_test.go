package readfile

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

const lockEnv = "SSLGATE_TEST_LOCK"

func TestMain(m *testing.M) {
	if dir := os.Getenv(lockEnv); dir != "" { // the other process of TestLock
		_, err := Lock(dir)
		fmt.Println(err)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until it is killed
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestLock: one process alone has a directory. The second is told which; a kill, and a lock file
// that somebody removes or exchanges, change nothing about that.
func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "state")
	other := exec.Command(os.Args[0], "-test.run=^$")
	other.Env = append(os.Environ(), lockEnv+"="+dir)
	in, err := other.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := other.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "<nil>\n" {
		t.Fatalf("the first: %q %v", line, err)
	}
	file := filepath.Join(dir, lockName)
	number := fmt.Sprintf("%s is in use by another process, number %d", dir, other.Process.Pid)
	alone := fmt.Sprintf("%s is in use by another process", dir)
	for _, c := range []struct {
		name   string
		change func() error
		want   string
	}{
		{"as it is", func() error { return nil }, number},
		{"nonsense in it", func() error { return os.WriteFile(file, []byte("-1; rm\n"), 0o600) }, alone},
		{"too long", func() error { return os.WriteFile(file, []byte(strings.Repeat("1", 4096)), 0o600) }, alone},
		{"removed", func() error { return os.Remove(file) }, alone},
		{"a pipe", func() error { return unix.Mkfifo(file, 0o600) }, alone},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		if _, err := Lock(dir); !errors.Is(err, ErrLocked) || err.Error() != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait() // it was killed
	kept := filepath.Join(t.TempDir(), "kept")
	if err := errors.Join(os.WriteFile(kept, []byte("as it is"), 0o600), os.Remove(file), os.Symlink(kept, file)); err != nil {
		t.Fatal(err)
	}
	l, err := Lock(dir)
	if err != nil {
		t.Fatalf("after a kill: %v", err)
	}
	if b, err := os.ReadFile(kept); err != nil || string(b) != "as it is" {
		t.Errorf("written through a link: %q %v", b, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if l, err = Lock(dir); err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	defer l.Close()
	if _, err := Lock(file); err == nil || errors.Is(err, ErrLocked) {
		t.Errorf("a file in the directory's place: %v", err)
	}
	testenv.Root(t) // a directory that may not be made is one for root too only in /proc
	if _, err := Lock("/proc/state"); err == nil {
		t.Error("a directory that cannot be made")
	}
}
