package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/member"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/service"
	"github.com/sslgate/sslgate/tun"
)

// openMember opens the part that a gateway has in a fleet.
func openMember(own *config.Config, log *zap.Logger, readOnly bool) (*member.Member, error) {
	f := own.Fleet
	mark := dialer.Mark(0)
	if own.CapturesOut() {
		mark = dialer.Mark(own.OwnMark())
	}
	refuseAfter := time.Duration(0)
	if f.Stale == config.StaleRefuse {
		refuseAfter = f.StaleAfter.Std()
	}
	return member.OpenFiles(member.Files{Root: f.Root, Certificate: f.Certificate, Key: f.Key, CA: f.CA}, mark, member.Options{
		Source: f.Source, State: f.State, Version: version(), Poll: f.Poll.Std(), Log: log, ReadOnly: readOnly, RefuseAfter: refuseAfter,
	})
}

// inForce is the configuration of a gateway in a fleet as it is in force: its own file and the
// last good bundle.
func inForce(ctx context.Context, file string, own *config.Config) (config.Checked, error) {
	m, err := openMember(own, nil, true)
	if err != nil {
		return config.Checked{}, err
	}
	defer m.Close()
	src, _, err := m.Good()
	if err != nil {
		return config.Checked{}, err
	}
	return checkBundle(ctx, file, src)
}

// loadPolicy is config.Load, for a gateway in a fleet of the bundle that is in force.
func loadPolicy(path string) (*config.File, error) {
	own, found := config.InFleet(path)
	if own == nil && found == nil {
		return config.Load(path)
	}
	if own == nil {
		return nil, config.Findings(found)
	}
	m, err := openMember(own, nil, true)
	if err != nil {
		return nil, err
	}
	defer m.Close()
	src, _, err := m.Good()
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	return config.LoadFrom(overlay(src), abs)
}

// overlay is where the files of a gateway in a fleet are; without a bundle on its disk alone.
func overlay(src *bundle.Source) fileset.Source {
	if src == nil {
		return fileset.Disk{}
	}
	return fileset.Overlay{Bundle: src}
}

// checkBundle is config.Check of a gateway's own file with a bundle; nil is none.
func checkBundle(ctx context.Context, file string, src *bundle.Source) (config.Checked, error) {
	abs, err := filepath.Abs(file)
	if err != nil {
		return config.Checked{}, err
	}
	return config.CheckWithin(ctx, nil, overlay(src), abs, engines.New())
}

// fleetStart is what a gateway in a fleet starts with.
type fleetStart struct {
	member *member.Member
	bundle *bundle.Verified
	rt     *config.Runtime
	found  []config.Finding
}

// startInFleet finds the bundle to start with: one that waits for a restart, the last good one, or
// what the source has. Until there is one, nothing that would be captured passes: the guard is set.
func startInFleet(ctx context.Context, file string, own *config.Config, log *zap.Logger) (*fleetStart, error) {
	m, err := openMember(own, log, false)
	if err != nil {
		return nil, err
	}
	guarded := own.TUN.Attach
	guard := func() error {
		if guarded || answers(ctx, own) {
			return nil
		}
		guarded = true
		log.Warn("there is no bundle of the fleet to start with: captured traffic goes nowhere until there is one")
		return tun.Guard(service.SteerConfig(own))
	}
	look := func() (*bundle.Source, *bundle.Verified, error) {
		src, v, err := m.Look(ctx) // first: it says what the list begins with
		m.LookForRevoked(ctx)
		return src, v, err
	}
	for places := []func() (*bundle.Source, *bundle.Verified, error){m.Pending, m.Good, look}; ; places = places[len(places)-2:] {
		for i, place := range places {
			if i == len(places)-1 { // before the source is asked: it may take minutes
				if err := guard(); err != nil {
					m.Close()
					return nil, fmt.Errorf("set the guard: %w", err)
				}
			}
			src, v, err := place()
			if err != nil && ctx.Err() == nil && i < len(places)-1 {
				m.Refuse(err) // a look says so itself
			}
			if v == nil {
				continue
			}
			if s := tryBundle(ctx, file, m, src, v); s != nil {
				return s, nil
			}
			m.Retry() // a file of the host that it names may come
		}
		select {
		case <-ctx.Done():
			m.Close()
			return nil, ctx.Err()
		case <-time.After(max(own.Fleet.Poll.Std(), time.Second)):
		}
	}
}

// answers says whether another process of this gateway runs: then it has the steering.
func answers(ctx context.Context, own *config.Config) bool {
	if own.Admin.Socket == config.AdminOff {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	_, err := admin.NewClient(own.Admin.Socket).Status(ctx)
	return err == nil
}

// tryBundle checks a bundle; nil if it is of no use.
func tryBundle(ctx context.Context, file string, m *member.Member, src *bundle.Source, v *bundle.Verified) *fleetStart {
	checked, err := checkBundle(ctx, file, src)
	if err == nil && checked.Runtime != nil {
		return &fleetStart{member: m, bundle: v, rt: checked.Runtime, found: checked.Findings}
	}
	if err == nil && len(checked.Findings) > 0 {
		err = errors.New(checked.Findings[0].String())
	}
	if err != nil && ctx.Err() == nil {
		m.Refuse(seal.Refuse(seal.RefusedCheck, "epoch %d: %w", v.Manifest.Epoch, err))
	}
	return nil
}
