// Package writefile writes files so that a crash leaves the old content or the new one, never
// half of it.
package writefile

import (
	"os"
	"path/filepath"
)

// TempPrefix begins the names of files that are half written. After a crash one may be left.
const TempPrefix = ".tmp-"

// Replace writes a file in place of what has its name: a temporary file in the same directory,
// fsync, rename, fsync of the directory. When it returns nil the content outlives a power cut.
func Replace(path string, data []byte, mode os.FileMode) error {
	return write(path, data, mode, os.Rename)
}

// Create is Replace for a file that must not exist yet: the error is fs.ErrExist if it does, even
// as a symbolic link. link(2) guarantees that.
func Create(path string, data []byte, mode os.FileMode) error {
	return write(path, data, mode, func(tmp, path string) error {
		if err := os.Link(tmp, path); err != nil {
			return err
		}
		return os.Remove(tmp)
	})
}

func write(path string, data []byte, mode os.FileMode, publish func(tmp, path string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), TempPrefix+"*") // mode 0600, so a key is never open to others
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
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes the names in a directory outlive a power cut.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // read only: nothing to lose
	return d.Sync()
}
