package readfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// What is no plain file is refused, and nothing is waited for.
func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := unix.Mkfifo(at("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("pipe", at("link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("loop", at("loop")); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", at("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for path, want := range map[string]string{
		at("pipe"):   "it is a named pipe",
		at("link"):   "it is a named pipe",
		at("loop"):   "too many levels of symbolic links",
		at("socket"): "it is a socket",
		at("gone"):   "no such file",
		dir:          "it is a directory",
		"/dev/zero":  "it is a device",
		"/dev/ptmx":  "it is a device",
	} {
		done := make(chan error, 1)
		go func() {
			_, _, err := All(t.Context(), path, 1<<20, nil)
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path) {
				t.Errorf("%s: %v, want %q", path, err, want)
			}
			regular := strings.HasPrefix(want, "it is")
			if errors.Is(err, ErrNotRegular) != regular {
				t.Errorf("%s: %v is ErrNotRegular: %v", path, err, !regular)
			}
		case <-time.After(testenv.Patience()):
			t.Fatalf("%s: the read waits", path)
		}
	}
}

// A file of the kernel's that calls itself regular but has no news: reading it
// ends when the context does.
func TestReadingIsCancelled(t *testing.T) {
	const path = "/proc/kmsg"
	if f, _, err := Open(path); err != nil {
		testenv.Missing(t, "no right to read %s: %v", path, err)
	} else {
		f.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	done := make(chan error, 1)
	go func() {
		_, _, err := All(ctx, path, 64<<20, nil)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a file without end was read to its end")
		}
	case <-time.After(testenv.Patience()):
		t.Fatal("the read goes on after its context has ended")
	}
}

func TestBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, n := range []int{0, 1, 4095, 4096, 4097, chunk - 1, chunk, chunk + 1, 3 * chunk} {
		want := bytes.Repeat([]byte("x"), n)
		if err := os.WriteFile(path, want, 0o600); err != nil {
			t.Fatal(err)
		}
		if info, got, err := All(t.Context(), path, int64(n), nil); err != nil || !bytes.Equal(got, want) || info.Size() != int64(n) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
		if _, _, err := All(t.Context(), path, int64(n)-1, nil); n > 0 && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%d bytes where %d are allowed: %v", n, n-1, err)
		}
	}
	// A file that says it is empty and is not, as those of /proc do.
	if _, got, err := All(t.Context(), "/proc/self/status", 1<<20, nil); err != nil || !bytes.Contains(got, []byte("VmRSS")) {
		t.Errorf("/proc/self/status: %d bytes, %v", len(got), err)
	}
	if _, _, err := All(t.Context(), "/proc/self/status", 10, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("/proc/self/status where 10 bytes are allowed: %v", err)
	}
	// A hole of a terabyte is not read at all.
	if err := os.Truncate(path, 1<<40); err == nil {
		if _, _, err := All(t.Context(), path, 1<<20, nil); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a hole: %v", err)
		}
	}
}

// room is a Room that counts.
type room struct{ left, least, given int64 }

var errFull = errors.New("full")

func (r *room) Take(n int64) error {
	if n > r.left {
		return errFull
	}
	r.left -= n
	r.least = min(r.least, r.left)
	return nil
}

func (r *room) Give(n int64) { r.left, r.given = r.left+n, r.given+n }

// endless never ends, and counts what was asked of it.
type endless struct{ n int64 }

func (e *endless) Read(p []byte) (int, error) { e.n += int64(len(p)); return len(p), nil }

func TestFromTakesAsItGrows(t *testing.T) {
	ctx := t.Context()
	// Ten bytes and then nothing for ever cost no more than a piece.
	r := &room{left: 1 << 30, least: 1 << 30}
	pr, pw := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := From(ctx, pr, 256<<20, r)
		done <- err
	}()
	if _, err := pw.Write(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	pw.CloseWithError(io.ErrNoProgress)
	if err := <-done; !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("%v", err)
	}
	if took := 1<<30 - r.least; took > 8<<10 {
		t.Errorf("10 bytes took room for %d", took)
	}
	// Without an end: the room is, and all of it comes back.
	r = &room{left: 10 << 20, least: 10 << 20}
	src := &endless{}
	if _, err := From(ctx, src, 1<<40, r); !errors.Is(err, errFull) {
		t.Errorf("%v", err)
	}
	if src.n > 10<<20 || r.left != 10<<20 {
		t.Errorf("read %d bytes in a room of 10 MiB, of which %d are free after it", src.n, r.left)
	}
	// The copy at the end is counted, too.
	r = &room{left: 1 << 20, least: 1 << 20}
	if _, err := From(ctx, bytes.NewReader(make([]byte, 600<<10)), 1<<40, r); !errors.Is(err, errFull) {
		t.Errorf("600 KiB and their copy in 1 MiB: %v", err)
	}
	if got, err := From(ctx, iotest.OneByteReader(bytes.NewReader(make([]byte, 10000))), 1<<20, r); err != nil || len(got) != 10000 {
		t.Errorf("byte by byte: %d, %v", len(got), err)
	}
	if _, err := From(ctx, iotest.ErrReader(io.ErrClosedPipe), 1<<20, r); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
	if r.left != 1<<20 {
		t.Errorf("%d bytes of room were not given back", 1<<20-r.left)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := From(gone, src, 1<<40, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestNames(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []string{"a", "b", "c"} {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if got := Names(dir, 100); len(got) != 3 {
		t.Errorf("%q", got)
	}
	if got := Names(dir, 2); len(got) > 2 {
		t.Errorf("%q", got)
	}
	if got := Names(filepath.Join(dir, "a"), 2); got != nil {
		t.Errorf("%q", got)
	}
}
