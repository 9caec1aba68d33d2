package member

import (
	"errors"
	"fmt"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// Pending returns the bundle that waits for a restart, nil if there is none. It is given out once:
// if it takes the gateway down, the next start is with the good one. A process that takes over from
// another leaves it there: if this one does not do well, that one goes on. The caller says with Took
// or Refuse what became of it.
func (m *Member) Pending() (*bundle.Source, *bundle.Verified, error) {
	text, err := m.state.read(pendingFile, seal.MaxEnvelope)
	if err != nil || text == nil {
		return nil, nil, err
	}
	m.mu.Lock()
	root, seen := m.root, m.seen
	m.mu.Unlock()
	v, err := bundle.Verify(root, seen, m.who(), text)
	if err == nil {
		err = m.hold(v)
	}
	if err == nil && !m.complete(v) {
		err = seal.Refuse(seal.Missing, "a file of the bundle that waited for a restart is gone")
	}
	if m.state.leads() {
		err = errors.Join(err, m.state.remove(pendingFile))
	}
	if err != nil {
		return nil, nil, err
	}
	return bundle.NewSource(m.state.dir, v), v, nil
}

// Good returns the bundle that was in force last, as the state directory says, nil if there is none.
func (m *Member) Good() (*bundle.Source, *bundle.Verified, error) {
	for range 10 { // another process puts bundles in force at the moment
		seen, err := m.state.seen()
		if err != nil || seen.Good == "" {
			return nil, nil, err
		}
		name := fmt.Sprintf(goodFile, seen.Good)
		text, err := m.state.read(name, seal.MaxEnvelope)
		if err == nil && text == nil {
			if again, err := m.state.seen(); err == nil && again.Good != seen.Good {
				continue
			}
			err = fmt.Errorf("%s is not there", m.state.path(name))
		}
		if err != nil {
			return nil, nil, err
		}
		v, err := m.remembered(seen, text)
		if err != nil {
			return nil, nil, fmt.Errorf("the last good bundle: %w", err)
		}
		if err := m.hold(v); err != nil {
			return nil, nil, err
		}
		return bundle.NewSource(m.state.dir, v), v, nil
	}
	return nil, nil, errors.New("the last good bundle: another process changes it all the time")
}

// remembered reads the bundle that was in force. It was verified when it was taken, and its
// manifest is the one that was written down then; the roots of today may know other keys, and its
// not_after says until when it is taken, not until when it is used.
func (m *Member) remembered(seen bundle.Seen, text []byte) (*bundle.Verified, error) {
	e, err := seal.ParseEnvelope(text)
	if err != nil {
		return nil, err
	}
	if sum := bundle.Sum(e.Unverified()); sum != seen.Good {
		return nil, seal.Refuse(seal.Altered, "its manifest is %.12s, and %.12s was written down", sum, seen.Good)
	}
	manifest, err := bundle.Parse(e.Unverified())
	if err != nil {
		return nil, err
	}
	if err := manifest.FitsVersion(m.o.Version); err != nil { // this sslgate may be an older one than before
		return nil, err
	}
	v := &bundle.Verified{Manifest: manifest, Envelope: e, Sum: seen.Good, Seen: seen}
	v.Files, err = manifest.Of(m.site)
	return v, err
}

func (m *Member) complete(v *bundle.Verified) bool {
	for name, f := range v.Files {
		if !m.state.has(name, f) {
			return false
		}
	}
	return true
}

func (m *Member) who() bundle.Gateway {
	return bundle.Gateway{Site: m.site, Version: m.o.Version, Now: m.o.Now()}
}

// keep sees to it that the files of a bundle stay, and those of all others need not: none with "".
func (m *Member) keep(sum string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other, f := range m.keeps {
		if other != sum {
			_ = f.Close() // read only: nothing to lose
			delete(m.keeps, other)
		}
	}
}

// hold keeps the files of a bundle besides those that are kept.
func (m *Member) hold(v *bundle.Verified) error {
	m.mu.Lock()
	_, has := m.keeps[v.Sum]
	m.mu.Unlock()
	if has {
		return nil
	}
	text, err := v.Envelope.Text()
	if err != nil {
		return err
	}
	f, err := m.state.hold(v.Sum, text)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.keeps[v.Sum]; old != nil {
		_ = old.Close() // read only: nothing to lose
	}
	m.keeps[v.Sum] = f
	return nil
}
