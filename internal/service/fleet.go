package service

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/member"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/metrics"
	"github.com/sslgate/sslgate/internal/revocation"
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
	return m.Run(ctx, member.Use{Apply: s.applyBundle, Stamp: s.stamps, Revoke: s.deny})
}

// deny refuses what the fleet has revoked, from now on; live flows of it end.
func (s *Service) deny(r *bundle.SignedRevoked) {
	if r == nil {
		return
	}
	set := func(all []string) map[string]bool {
		is := make(map[string]bool, len(all))
		for _, s := range all {
			is[s] = true
		}
		return is
	}
	s.revocation.Deny(&revocation.Denied{Number: r.Number, Serials: set(r.Serials), Keys: set(r.Keys), Subjects: set(r.Subjects)})
}

// fleetGood is the bundle of the fleet that was put in force last, by this process or by the one that
// had taken over; nil without a fleet.
func (s *Service) fleetGood() (fileset.Source, error) {
	if s.opt.Fleet == nil {
		return nil, nil
	}
	src, _, err := s.opt.Fleet.Good()
	if err != nil || src == nil {
		return nil, err
	}
	return fileset.Overlay{Bundle: src}, nil
}

// fleetStale is what refuses new flows; nil: nothing does.
func (s *Service) fleetStale() func() bool {
	if s.opt.Fleet == nil {
		return nil
	}
	return s.opt.Fleet.Refuses
}

// applyBundle puts a bundle in force, all of it or nothing: it is a reload from another place.
func (s *Service) applyBundle(ctx context.Context, src fileset.Source) error {
	res, err := s.reloadFrom(ctx, src)
	var restart *restartError
	switch {
	case errors.As(err, &restart):
		return seal.Refuse(seal.NeedsRestart, "%w", err)
	case errors.Is(err, errUnusable) && len(res.Findings) > 0:
		more := ""
		if n := len(res.Findings) - 1; n > 0 {
			more = fmt.Sprintf(" (and %d more)", n)
		}
		return seal.Refuse(seal.RefusedCheck, "%s%s", res.Findings[0], more)
	case errors.Is(err, errUnusable):
		return seal.Refuse(seal.RefusedCheck, "%w", err)
	}
	return err
}

// fleetStatus is what the status has of the fleet; nil: there is none.
func (s *Service) fleetStatus() *admin.Fleet {
	m := s.opt.Fleet
	if m == nil {
		return nil
	}
	st := m.Status()
	f := &admin.Fleet{
		Name: st.Fleet, Site: st.Site, Gateway: st.Gateway, Root: st.Root, Epoch: st.Epoch, Seen: st.Seen, Offered: st.Offered, Pending: st.Pending,
		Contact: st.Contact.UTC(), Fresh: st.Fresh, Refuses: m.Refuses(), Follows: st.Follows, Withdrawn: st.Withdrawn,
	}
	if st.Last != nil {
		f.Refused = st.Last.Detail
	}
	r := st.Revoked
	f.Revoked = admin.FleetRevoked{Number: r.Number, Entries: r.Entries, Named: r.Named, Behind: r.Behind, Full: r.Full}
	if st.LastRevoked != nil {
		f.Revoked.Refused = st.LastRevoked.Detail
	}
	return f
}

// fleetMetrics is what is exported of the fleet; nil: there is none.
func (s *Service) fleetMetrics() func() metrics.Fleet {
	m := s.opt.Fleet
	if m == nil {
		return nil
	}
	return func() metrics.Fleet {
		st := m.Status()
		f := metrics.Fleet{
			InForce: st.Epoch, Seen: st.Seen, Offered: st.Offered, Pending: st.Pending, Root: st.Root,
			Contact: st.Contact, Fresh: st.Fresh, Withdrawn: st.Withdrawn != "", Refused: map[string]uint64{},
			RevokedNumber: st.Revoked.Number, RevokedNamed: st.Revoked.Named, RevokedEntries: st.Revoked.Entries,
		}
		for why, n := range st.Refusals {
			f.Refused[string(why)] = n
		}
		return f
	}
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
	if m.Refuses() {
		all = append(all, "fleet.stale is refuse: new flows are refused until the fleet's source answers with a bundle that has not ended")
	}
	if st.Withdrawn != "" {
		all = append(all, fmt.Sprintf("epoch %d of fleet %s is in force though it was withdrawn (%s): sign the next one", st.Epoch, st.Fleet, st.Withdrawn))
	}
	if st.Follows && !s.over.gave.Load() {
		all = append(all, "another process writes fleet.state, and this one follows it: each gateway needs a directory of its own")
	}
	if st.Pending != 0 {
		all = append(all, fmt.Sprintf("epoch %d of fleet %s waits for a restart", st.Pending, st.Fleet))
	}
	if st.Last != nil {
		all = append(all, fmt.Sprintf("epoch %d of fleet %s stays in force, what its source has is refused: %s", st.Epoch, st.Fleet, st.Last.Detail))
	}
	for _, what := range []string{st.Revoked.Behind, st.Revoked.Full} {
		if what != "" {
			all = append(all, what)
		}
	}
	if st.LastRevoked != nil {
		all = append(all, "the fleet's list of what is revoked that the source has is refused, the one in force stays: "+st.LastRevoked.Detail)
	}
	return all
}
