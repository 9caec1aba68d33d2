package pki

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/readfile"
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

// replaceFile writes a file so that a crash leaves the old or the new content,
// never half of it: temporary file in the same directory, fsync, rename,
// fsync of the directory.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	return writeFile(path, data, mode, os.Rename)
}

// createFile is replaceFile for a file that must not exist yet: ErrExists if it does,
// even as a symbolic link. link(2) guarantees that.
func createFile(path string, data []byte, mode os.FileMode) error {
	err := writeFile(path, data, mode, func(tmp, path string) error {
		if err := os.Link(tmp, path); err != nil {
			return err
		}
		return os.Remove(tmp)
	})
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s %w", path, ErrExists)
	}
	return err
}

func writeFile(path string, data []byte, mode os.FileMode, publish func(tmp, path string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*") // mode 0600, so a key is never open to others
	if err != nil {
		return err
	}
	defer func() {
		_ = f.Close() // nil or already closed on the good path
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	if err = publish(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
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
