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
	if err := m.lookForRevoked(ctx); err != nil {
		_ = m.refused(ctx, err) // it is said; what is known of revocations stays
	}
}

func (m *Member) lookForRevoked(ctx context.Context) error {
	text, err := m.source.Get(ctx, bundle.RevokedName, seal.MaxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		return m.writeRevoked()
	}
	if err != nil {
		return errors.Join(unreachable(err), m.writeRevoked())
	}
	m.mu.Lock()
	root, have, same := m.root, m.revoked, bytes.Equal(text, m.revokedText)
	m.mu.Unlock()
	if !same {
		r, err := bundle.VerifyRevoked(root, have, text)
		if err != nil {
			return errors.Join(err, m.writeRevoked())
		}
		m.mu.Lock()
		m.revoked, m.revokedText, m.revokedOwed = r, text, true
		m.mu.Unlock()
		m.log.Info("a new list of what is revoked", zap.Int64("number", r.Number), zap.Int("entries", len(r.Serials)+len(r.Keys)+len(r.Subjects)))
	}
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
	if m.revoked != nil && r.Lacks(m.revoked.Revoked) != "" {
		m.revokedOwed = true
		return nil
	}
	m.revoked, m.revokedText, m.revokedOwed = r, text, false
	return nil
}

// Revoked is the list of what is revoked, nil if there is none.
func (m *Member) Revoked() *bundle.SignedRevoked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoked
}

// runRevoked looks for revocations every Poll, and when changed says so, until ctx ends: beside the
// looks for bundles, which may take minutes.
func (m *Member) runRevoked(ctx context.Context, changed <-chan struct{}, use func(*bundle.SignedRevoked)) {
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
		case <-changed:
			pause(ctx)
		}
	}
}
