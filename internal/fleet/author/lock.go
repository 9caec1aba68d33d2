package author

import (
	"errors"

	"github.com/sslgate/sslgate/internal/readfile"
)

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
