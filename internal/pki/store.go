package pki

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/readfile"
	"github.com/sslgate/sslgate/internal/writefile"
)

// lockWait is how long one command waits for another in the same directory;
// the longest, making an RSA 4096 key, takes a few seconds.
const lockWait = 10 * time.Second

// lock locks the directory for this process (flock(2) on the directory itself, so that no
// lock file is left) and returns the function that unlocks it. The kernel also unlocks it
// when the process ends.
func lock(dir string, wait time.Duration) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(20 * time.Millisecond) {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		if time.Now().After(deadline) {
			_ = f.Close()
			return nil, fmt.Errorf("%s: %w; waited %s for it: look with `fuser -v %s`", dir, ErrBusy, wait, ShellQuote(dir))
		}
	}
}

// createFile is writefile.Create: ErrExists if there is such a file.
func createFile(path string, data []byte, mode os.FileMode) error {
	err := writefile.Create(path, data, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w", path, ErrExists)
	}
	return err
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	_, data, err := readfile.All(context.Background(), path, limit, nil)
	return data, err
}

// exists says whether something is there, a dangling symbolic link included.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
