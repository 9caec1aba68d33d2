package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

func observed() (*zap.Logger, *observer.ObservedLogs) {
	core, logs := observer.New(zapcore.InfoLevel)
	return zap.New(core), logs
}

// rec is a small record; let through, or refused.
func rec(id string, allowed bool) *Record {
	r := NewRecord(id, time.Unix(1e9, 0), netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:443"))
	if r.Reason = reason.NoRule; allowed {
		r.Reason = reason.OK
	}
	return r
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// ids are those of the records in the files, each of which must be whole.
func ids(t *testing.T, paths ...string) []string {
	t.Helper()
	var all []string
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) {
			var m struct{ ID string }
			if err := json.Unmarshal(line, &m); err != nil {
				t.Fatalf("%s: %v in %q", path, err, line)
			}
			all = append(all, m.ID)
		}
	}
	return all
}

// smallDisk is a tmpfs of one page less than a hundred KiB in a mount
// namespace of its own, seen through /proc by every thread.
type smallDisk struct {
	t     *testing.T
	dir   string // as everybody sees it
	inner string // as the thread in the namespace sees it
	calls chan func() error
	errs  chan error
}

func newSmallDisk(t *testing.T) *smallDisk {
	t.Helper()
	testenv.Root(t)
	d := &smallDisk{t: t, inner: t.TempDir(), calls: make(chan func() error), errs: make(chan error)}
	tid := make(chan int)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and with it the mount, ends here
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
			if err == nil {
				err = unix.Mount("tmpfs", d.inner, "tmpfs", 0, "size=96k,mode=0700")
			}
			if err != nil {
				t.Error(err)
			}
		} else {
			t.Error(err)
		}
		tid <- unix.Gettid()
		for f := range d.calls {
			d.errs <- f()
		}
		close(d.errs)
	}()
	d.dir = filepath.Join(fmt.Sprintf("/proc/self/task/%d/root", <-tid), d.inner)
	t.Cleanup(func() {
		close(d.calls)
		for range d.errs {
		}
	})
	return d
}

func (d *smallDisk) do(f func() error) {
	d.t.Helper()
	d.calls <- f
	if err := <-d.errs; err != nil {
		d.t.Fatal(err)
	}
}

// fill takes all the room that is left, but for n bytes in the last block of
// another file; free gives it back.
func (d *smallDisk) fill() {
	d.t.Helper()
	f, err := os.Create(filepath.Join(d.dir, "ballast"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for {
		if _, err := f.WriteString(strings.Repeat("x", 4096)); err != nil {
			return
		}
	}
}

func (d *smallDisk) free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "ballast")); err != nil {
		d.t.Fatal(err)
	}
}
