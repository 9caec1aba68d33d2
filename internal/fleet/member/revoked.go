package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// LookForRevoked takes a newer list of what is revoked. It counts at once, and is written down so that
// a restart does not forget it; where it cannot be written, each further call tries again. A source
// that has none changes nothing.
func (m *Member) LookForRevoked(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	m.revoking.Lock()
	defer m.revoking.Unlock()
	err := m.lookForRevoked(ctx)
	if err == nil {
		m.mu.Lock()
		m.status.LastRevoked = nil
		m.mu.Unlock()
	}
	m.refusedList(ctx, err) // it is said; what is known of revocations stays
}

func (m *Member) lookForRevoked(ctx context.Context) error {
	text, tag, err := m.source.Newer(ctx, bundle.RevokedName, m.revokedTag, seal.MaxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		m.revokedTag = ""
		return m.writeRevoked()
	}
	if err != nil {
		return errors.Join(unreachable(err), m.writeRevoked())
	}
	if text == nil && m.revokedTag != "" && tag == m.revokedTag { // an empty one has another tag
		return m.writeRevoked()
	}
	m.revokedTag = ""
	m.mu.Lock()
	root, have, base, same := m.root, m.revoked, m.seen.Revoked.Base.SHA256, bytes.Equal(text, m.revokedText)
	m.mu.Unlock()
	if !same {
		r, err := bundle.VerifyRevoked(root, base, have, text)
		if err != nil {
			return errors.Join(err, m.writeRevoked())
		}
		m.mu.Lock()
		m.revoked, m.revokedText, m.revokedOwed = r, text, true
		m.mu.Unlock()
		m.log.Info("a new list of what is revoked", zap.Int64("number", r.Number), zap.Int("entries", r.Entries()))
		if bundle.NearlyFull(r.Entries()) {
			m.log.Warn("the list of what is revoked is nearly full", zap.Int("entries", r.Entries()), zap.Int("at_most", bundle.MaxRevoked))
		}
	}
	m.revokedTag = tag
	return m.writeRevoked()
}

// newBase gets the list that the list of what is revoked begins anew with, as the newest bundle says;
// nil: it goes on.
func (m *Member) newBase(ctx context.Context, seen bundle.Seen) (*bundle.SignedRevoked, error) {
	m.mu.Lock()
	fleet, have, at := m.root.Fleet, m.revoked, seen.Revoked
	m.mu.Unlock()
	if at.Base == (bundle.File{}) || have != nil && have.Base == at.Base.SHA256 {
		return nil, nil
	}
	const name = "what the list of what is revoked begins with"
	text, err := at.Base.Fetch(ctx, name, m.source.Get)
	if err != nil {
		return nil, unreachable(err)
	}
	return bundle.ParseBase(fleet, text)
}

// baseOwed begins anew where the process that took the bundle did not come to it.
func (m *Member) baseOwed(ctx context.Context) {
	m.mu.Lock()
	seen := m.seen
	m.mu.Unlock()
	base, err := m.newBase(ctx, seen)
	if err == nil {
		err = m.beginAnew(base)
	}
	m.refusedList(ctx, err)
}

// beginAnew has the list of what is revoked begin with another one, which the policy keys have signed;
// nil: it goes on.
func (m *Member) beginAnew(r *bundle.SignedRevoked) error {
	if r == nil {
		return nil
	}
	text, err := r.Envelope.Text()
	if err != nil {
		return err
	}
	m.revoking.Lock()
	defer m.revoking.Unlock()
	m.mu.Lock()
	m.revoked, m.revokedText, m.revokedOwed = r, text, true
	m.mu.Unlock()
	m.revokedTag = "" // what was refused may be good
	m.log.Warn("the policy keys have the list of what is revoked begin anew", zap.Int("entries", r.Entries()))
	return m.writeRevoked()
}

// writeRevoked writes the list down, if that is owed and this process writes the directory.
func (m *Member) writeRevoked() error {
	m.mu.Lock()
	text, owed := m.revokedText, m.revokedOwed
	m.mu.Unlock()
	if !owed || !m.state.leads() {
		return nil
	}
	if err := m.state.write(bundle.RevokedName, text); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revokedOwed = false
	return nil
}

// rememberRevoked reads the list that was taken last. A damaged one is an error, never "nothing". What
// this process knows of revocations already is not forgotten.
func (m *Member) rememberRevoked() error {
	text, err := m.state.read(bundle.RevokedName, seal.MaxEnvelope)
	if err != nil || text == nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if bytes.Equal(text, m.revokedText) {
		return nil
	}
	r, err := bundle.ParseRevoked(text)
	if err != nil {
		return fmt.Errorf("%s: %w", m.state.path(bundle.RevokedName), err)
	}
	if m.revoked != nil && !m.replaces(r) {
		m.revokedOwed = true
		return nil
	}
	m.revoked, m.revokedText, m.revokedOwed = r, text, false
	return nil
}

// replaces says whether what another process has written down takes the place of the list that is in
// force here. mu is held.
func (m *Member) replaces(r *bundle.SignedRevoked) bool {
	if base := m.seen.Revoked.Base.SHA256; r.Base != m.revoked.Base {
		return r.Base == base
	}
	return r.Lacks(m.revoked.Revoked) == ""
}

// Revoked is the list of what is revoked, nil if there is none.
func (m *Member) Revoked() *bundle.SignedRevoked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoked
}

// runRevoked looks for revocations every Poll, and when changed or anew says so, until ctx ends: beside the
// looks for bundles, which may take minutes.
func (m *Member) runRevoked(ctx context.Context, changed, anew <-chan struct{}, use func(*bundle.SignedRevoked)) {
	tick := time.NewTicker(m.o.Poll)
	defer tick.Stop()
	var used *bundle.SignedRevoked
	for {
		m.LookForRevoked(ctx)
		if r := m.Revoked(); r != used {
			use(r)
			used = r
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-anew: // what another bundle says of the list may be what it waits for
		case <-changed:
			pause(ctx)
		}
	}
}
