package author

import (
	"errors"

	"github.com/sslgate/sslgate/internal/readfile"
)

// opened reads the roots of a fleet's directory, and takes it for this process alone.
func opened(dir string) (roots Roots, unlock func(), err error) {
	if _, err := ReadRoots(dir, ""); err != nil { // before a directory is made
		return nil, nil, err
	}
	if unlock, err = locked(dir); err != nil {
		return nil, nil, err
	}
	if roots, err = ReadRoots(dir, ""); err != nil {
		unlock()
		return nil, nil, err
	}
	return roots, unlock, nil
}

// locked takes a directory for this process alone, so that what two people write at once is not lost.
func locked(dir string) (unlock func(), err error) {
	lock, err := readfile.Lock(dir)
	if errors.Is(err, readfile.ErrNoLocks) { // some network file systems
		return func() {}, nil
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = lock.Close() }, nil // read only: nothing to lose
}
