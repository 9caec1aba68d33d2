package service

import (
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/readfile"
)

// lockState takes the state directory for this gateway alone. Two that share it would take each
// other's copies for lists that are not in force any more, and remove them.
func (s *Service) lockState(dir string) error {
	if dir == "" {
		return nil
	}
	lock, err := readfile.Lock(dir)
	switch {
	case errors.Is(err, readfile.ErrLocked):
		return fmt.Errorf("state directory %w: each gateway needs one of its own; give this one another `state`, or stop the other", err)
	case errors.Is(err, readfile.ErrNoLocks): // some network file systems
		s.log.Warn("the state directory cannot be locked: see to it that no other gateway uses it", zap.String("directory", dir), zap.Error(err))
		return nil
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	}
	s.state = lock
	return nil
}

// unlockState gives the directory back.
func (s *Service) unlockState() {
	if s.state != nil {
		_ = s.state.Close() // read only: nothing to lose
	}
}
