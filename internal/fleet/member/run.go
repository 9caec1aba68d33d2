package member

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// Status is what a gateway knows of its fleet.
type Status struct {
	Fleet, Site, Gateway string
	Root                 int64     // version
	Epoch                int64     // in force; 0: none
	Seen                 int64     // the highest
	Pending              int64     // taken, and in force after a restart; 0: none
	Contact              time.Time // when the source last had that
	Fresh                bool      // the source had what is in force, or newer, within StaleAfter, and its not_after has not passed
	Refusals             map[seal.Reason]uint64
	Last                 *Refused // nil: nothing was refused since the last that was taken
}

// Refused is a bundle, or a root, that was not taken.
type Refused struct {
	Reason seal.Reason
	Detail string
	At     time.Time
}

// Took says that a bundle is in force: the next start is with it.
func (m *Member) Took(v *bundle.Verified) error {
	text, err := v.Envelope.Text()
	if err != nil {
		return err
	}
	m.mu.Lock()
	seen := m.seen
	m.mu.Unlock()
	if seen.Good != v.Sum {
		if err := m.state.setGood(v.Sum, text, seen); err != nil {
			return err
		}
		seen.Good = v.Sum
	}
	m.mu.Lock()
	m.good, m.seen, m.said = v, seen, ""
	m.status.Last, m.status.Pending = nil, 0
	m.mu.Unlock()
	if err := errors.Join(m.state.remove(pendingFile), m.state.sweep(v)); err != nil {
		m.log.Warn("old files of the fleet cannot be removed", zap.Error(err))
	}
	m.log.Info("epoch in force", zap.Int64("epoch", v.Manifest.Epoch), zap.String("manifest", v.Sum), zap.String("site", m.site))
	return nil
}

// Wait says that a bundle is good and that only a restart can put it in force.
func (m *Member) Wait(v *bundle.Verified) error {
	text, err := v.Envelope.Text()
	if err == nil {
		err = m.state.write(pendingFile, text)
	}
	if err == nil {
		m.mu.Lock()
		m.status.Pending = v.Manifest.Epoch
		m.mu.Unlock()
	}
	return err
}

// Refuse logs, counts and shows a refusal. The same one in a row is logged once.
func (m *Member) Refuse(err error) {
	why := seal.ReasonOf(err)
	m.mu.Lock()
	m.status.Refusals[why]++
	m.status.Last = &Refused{Reason: why, Detail: err.Error(), At: m.o.Now()}
	again := m.said == err.Error()
	m.said = err.Error()
	m.mu.Unlock()
	if !again {
		m.log.Warn("the fleet's bundle is refused, the one in force stays", zap.String("reason", string(why)), zap.Error(err))
	}
}

// Status is the state of the moment.
func (m *Member) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Fleet, s.Site, s.Gateway = m.root.Fleet, m.site, m.gateway
	s.Root, s.Seen = m.root.Version, m.seen.Epoch
	if m.good != nil {
		s.Epoch = m.good.Manifest.Epoch
	}
	now := m.o.Now()
	s.Fresh = now.Sub(s.Contact) < StaleAfter
	if m.good != nil {
		end := m.good.Manifest.Ends()
		s.Fresh = s.Fresh && (end.IsZero() || now.Before(end)) // what is withheld is seen by then
	}
	s.Refusals = map[seal.Reason]uint64{}
	for _, r := range seal.Reasons() {
		s.Refusals[r] = m.status.Refusals[r]
	}
	return s
}

// Run looks at the source every Poll until ctx ends. apply puts a bundle in force; its error is a
// seal.Refusal where the bundle is at fault.
func (m *Member) Run(ctx context.Context, apply func(ctx context.Context, src fileset.Source) error) error {
	tick := time.NewTicker(m.o.Poll)
	defer tick.Stop()
	fresh := true
	for {
		if src, v, err := m.Look(ctx); err == nil && v != nil {
			m.put(ctx, src, v, apply)
		}
		if now := m.Status().Fresh; now != fresh {
			if fresh = now; fresh {
				m.log.Info("the fleet's source answers again")
			} else {
				m.log.Warn("not fresh: the fleet's source has not had a bundle that is good for a while, or the one in force has ended; the gateway goes on with what it has", zap.Duration("after", StaleAfter))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (m *Member) put(ctx context.Context, src *bundle.Source, v *bundle.Verified, apply func(context.Context, fileset.Source) error) {
	err := apply(ctx, fileset.Overlay{Bundle: src})
	switch {
	case err == nil:
		err = m.Took(v)
	case ctx.Err() != nil:
		return
	case seal.ReasonOf(err) == seal.NeedsRestart:
		if wait := m.Wait(v); wait != nil {
			err = wait
		}
	}
	if err != nil {
		if why := seal.ReasonOf(err); why != seal.NeedsRestart && why != seal.RefusedCheck {
			m.tag = "" // not the bundle's fault: it is tried again
		}
		m.Refuse(err)
	}
}
