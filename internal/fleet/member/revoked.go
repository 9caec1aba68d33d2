package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// lookForRevoked takes a newer list of what is revoked. It is on disk before it counts, so that a
// restart does not forget it. A source that has none changes nothing.
func (m *Member) lookForRevoked(ctx context.Context) error {
	text, err := m.source.Get(ctx, bundle.RevokedName, seal.MaxEnvelope)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return unreachable(err)
	}
	m.mu.Lock()
	root, have, same := m.root, m.revoked, bytes.Equal(text, m.revokedText)
	m.mu.Unlock()
	if same {
		return nil
	}
	r, err := bundle.VerifyRevoked(root, have, text)
	if err != nil {
		return err
	}
	if have == nil || r.Sum != have.Sum {
		if err := m.state.write(bundle.RevokedName, text); err != nil {
			return err
		}
		m.log.Info("a new list of what is revoked", zap.Int64("number", r.Number), zap.Int("entries", len(r.Serials)+len(r.Keys)+len(r.Subjects)))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoked, m.revokedText = r, text
	return nil
}

// rememberRevoked reads the list that was taken last. A damaged one is an error, never "nothing".
func (m *Member) rememberRevoked() error {
	text, err := m.state.read(bundle.RevokedName, seal.MaxEnvelope)
	if err != nil {
		return err
	}
	m.mu.Lock()
	same := bytes.Equal(text, m.revokedText)
	m.mu.Unlock()
	if same || text == nil {
		return nil
	}
	r, err := bundle.ParseRevoked(text)
	if err != nil {
		return fmt.Errorf("%s: %w", m.state.path(bundle.RevokedName), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoked, m.revokedText = r, text
	return nil
}

// Revoked is the list of what is revoked, nil if there is none.
func (m *Member) Revoked() *bundle.SignedRevoked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.revoked
}
