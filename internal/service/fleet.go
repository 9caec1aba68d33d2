package service

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/times"
)

// runFleet takes the bundles of the fleet until ctx ends. Without a fleet it does nothing.
func (s *Service) runFleet(ctx context.Context) error {
	m := s.opt.Fleet
	if m == nil {
		return nil
	}
	if s.opt.Bundle != nil {
		if err := m.Took(s.opt.Bundle); err != nil {
			s.log.Error("the bundle in force is not remembered: the next start is with the one before", zap.Error(err))
		}
	}
	return m.Run(ctx, s.applyBundle)
}

// applyBundle puts a bundle in force, all of it or nothing: it is a reload from another place.
func (s *Service) applyBundle(ctx context.Context, src fileset.Source) error {
	res, err := s.reloadFrom(ctx, src)
	var restart *restartError
	switch {
	case errors.As(err, &restart):
		return seal.Refuse(seal.NeedsRestart, "%w", err)
	case errors.Is(err, errUnusable) && len(res.Findings) > 0:
		return seal.Refuse(seal.RefusedCheck, "%s", res.Findings[0])
	case errors.Is(err, errUnusable):
		return seal.Refuse(seal.RefusedCheck, "%w", err)
	}
	return err
}

// fleetWarnings is what readiness says of the fleet.
func (s *Service) fleetWarnings() []string {
	m := s.opt.Fleet
	if m == nil {
		return nil
	}
	st := m.Status()
	var all []string
	if !st.Fresh {
		all = append(all, fmt.Sprintf("not fresh: epoch %d of fleet %s is in force, and since %s nothing says that it is the newest", st.Epoch, st.Fleet, times.Stamp(st.Contact)))
	}
	if st.Pending != 0 {
		all = append(all, fmt.Sprintf("epoch %d of fleet %s waits for a restart", st.Pending, st.Fleet))
	}
	if st.Last != nil {
		all = append(all, fmt.Sprintf("epoch %d of fleet %s stays in force, what its source has is refused: %s", st.Epoch, st.Fleet, st.Last.Detail))
	}
	return all
}
