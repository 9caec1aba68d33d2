package readfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// lockName is the file in a locked directory that has the number of the process that holds it.
const lockName = "lock"

// ErrLocked says that another process holds the directory.
var ErrLocked = errors.New("is in use")

// ErrNoLocks says that the directory is on a file system without locks.
var ErrNoLocks = errors.New("cannot be locked")

// Lock makes a directory if there is none and takes it for this process alone, until the result
// is closed or the process ends, however it ends: it is the kernel's lock of the directory itself
// (flock(2)), which nobody can take away by removing a file. The file "lock" in it tells the
// holder's process to whoever comes second. Lock never waits.
func Lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, plain(err)
	}
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_NONBLOCK|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, plain(err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	switch {
	case errors.Is(err, unix.EWOULDBLOCK):
		err = fmt.Errorf("%s %w by another process%s", dir, ErrLocked, holder(dir))
	case err != nil:
		err = fmt.Errorf("%s %w: %w", dir, ErrNoLocks, err)
	}
	if err != nil {
		_ = f.Close() // read only: nothing to lose
		return nil, err
	}
	tell(dir)
	return f, nil
}

// tell writes the number of this process. It may fail, on a full disk for instance: the lock
// holds all the same. A symbolic link or a pipe in the file's place is not followed.
func tell(dir string) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0o600)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() || f.Truncate(0) != nil {
		return
	}
	_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
}

// holder is ", number N" of the process that holds the directory, as far as its file tells it.
func holder(dir string) string {
	_, b, err := All(context.Background(), filepath.Join(dir, lockName), 32, nil)
	if err != nil {
		return ""
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b)))
	if err != nil || pid <= 0 {
		return ""
	}
	return fmt.Sprintf(", number %d", pid)
}
