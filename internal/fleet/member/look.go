package member

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/readfile"
)

// lookFor bounds one look at the source: a large bundle over a slow line.
const lookFor = 5 * time.Minute

// Look looks at the source once. It returns a bundle that is verified, written down and complete
// in the state directory, nil if there is nothing new. Where another process of this gateway writes
// the directory, it looks at what that one has put in force instead. What is refused is logged,
// counted and in the status; the error is that.
func (m *Member) Look(ctx context.Context) (*bundle.Source, *bundle.Verified, error) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	leads, err := m.leads()
	if err == nil {
		if src, v, err := m.follow(leads); err != nil || v != nil {
			return src, v, m.refused(ctx, err)
		}
		if !leads {
			return nil, nil, nil
		}
		m.baseOwed(ctx)
		if m.owed != nil {
			err = m.writeGood(m.owed)
		}
	}
	var v *bundle.Verified
	if err == nil {
		v, err = m.look(ctx)
	}
	if err != nil {
		return nil, nil, m.refused(ctx, err)
	}
	if m.held == nil {
		m.contact()
	}
	if v == nil {
		return nil, nil, nil
	}
	return bundle.NewSource(m.state.dir, v), v, nil
}

// refused is Refuse, unless the gateway stops; it returns the error.
func (m *Member) refused(ctx context.Context, err error) error {
	if err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		m.Refuse(err)
	}
	return err
}

// contact notes that the source has answered with what is in force, or newer. Where this gateway lacks
// revocations that the bundle in force says there were, it withholds them.
func (m *Member) contact() {
	now := m.o.Now()
	m.mu.Lock()
	if m.seen.Revoked.Behind(m.revoked) != "" {
		m.mu.Unlock()
		return
	}
	m.status.Contact = now
	delete(m.said, string(seal.Unreachable))
	due := m.o.RefuseAfter > 0 && (m.noted.IsZero() || now.Sub(m.noted) >= m.o.RefuseAfter/10)
	m.mu.Unlock()
	if !due {
		return
	}
	if err := m.state.write(contactFile, []byte(seal.Time(now.Truncate(time.Second))+"\n")); err != nil {
		m.Refuse(err)
		return
	}
	m.mu.Lock()
	m.noted = now
	m.mu.Unlock()
}

// lastContact reads when the source has answered last, where that counts over restarts.
func (m *Member) lastContact() error {
	if m.o.RefuseAfter == 0 {
		return nil
	}
	text, err := m.state.read(contactFile, 64)
	if err != nil || text == nil {
		return err
	}
	at, err := seal.When(strings.TrimSuffix(string(text), "\n"))
	if err != nil {
		return fmt.Errorf("%s: %w", m.state.path(contactFile), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := m.o.Now(); at.Before(now) {
		m.status.Contact = at
	} else {
		m.status.Contact = now
	}
	return nil
}

// leads says whether this process writes the state directory. It does if no other does.
func (m *Member) leads() (bool, error) {
	leads, now, err := m.state.lead()
	if !leads {
		if err != nil {
			err = seal.Refuse(seal.StateUnwritten, "%w", err)
		}
		return false, err
	}
	if now {
		if err := m.remember(); err != nil {
			m.state.yield(false)
			return false, seal.Refuse(seal.StateUnwritten, "%w", err)
		}
		m.Retry() // what was refused by what the other one knew may be good
		m.mu.Lock()
		if m.own && m.good != nil {
			m.followed, m.owed = m.seen.Good, m.good
		}
		m.own = false
		m.mu.Unlock()
		m.log.Info("this process writes fleet.state from now on", zap.String("directory", m.o.State))
	}
	return true, nil
}

// follow returns the bundle that another process of this gateway has put in force since the last
// look, nil if there is none.
func (m *Member) follow(leads bool) (*bundle.Source, *bundle.Verified, error) {
	if !leads {
		if err := m.remember(); err != nil {
			return nil, nil, seal.Refuse(seal.StateUnwritten, "%w", err)
		}
		if m.o.RefuseAfter == 0 {
			m.contact() // it is the other one's to say how fresh it is
		} else if err := m.lastContact(); err != nil {
			return nil, nil, seal.Refuse(seal.StateUnwritten, "%w", err)
		}
	}
	m.mu.Lock()
	seen, good := m.seen, m.good
	if !leads {
		m.status.Pending = 0
	}
	m.mu.Unlock()
	if seen.Good == "" || seen.Good == m.followed {
		return nil, nil, nil
	}
	if good != nil && good.Sum == seen.Good {
		m.followed, m.owed = seen.Good, nil
		return nil, nil, nil
	}
	src, v, err := m.Good()
	if err != nil || v == nil {
		return nil, nil, err
	}
	m.followed, m.owed = v.Sum, nil
	return src, v, nil
}

// look looks at the source.
func (m *Member) look(ctx context.Context) (*bundle.Verified, error) {
	if err := m.lookForRoots(ctx); err != nil {
		return nil, err
	}
	text, tag, err := m.source.Newer(ctx, bundle.HeadName, m.tag, seal.MaxEnvelope)
	if err != nil {
		return nil, unreachable(err)
	}
	if text == nil && m.tag != "" && tag == m.tag { // an empty one has another tag, and is refused
		return nil, nil
	}
	m.tag, m.held = "", nil
	m.mu.Lock()
	root, seen, good := m.root, m.seen, m.good
	m.mu.Unlock()
	m.offered(bundle.Epoch(root, text))
	v, err := bundle.Verify(root, seen, m.who(), text)
	if err != nil {
		if settled(err) {
			m.tag, m.held = tag, err
		}
		return nil, err
	}
	if good != nil && v.Sum == good.Sum {
		m.tag, m.judged, m.skip = tag, "", false
		if err := m.saw(v.Seen); err != nil { // a root may have voided it, and its keys count all the same
			return nil, err
		}
		return nil, m.nothingWaits()
	}
	if m.skip && v.Sum == m.judged {
		m.tag = tag
		return nil, nil
	}
	if err := m.fetch(ctx, v); err != nil {
		return nil, err
	}
	base, err := m.newBase(ctx, v.Seen)
	if err != nil {
		return nil, err
	}
	// From here on nothing older is taken, whatever becomes of this one.
	if err := m.saw(v.Seen); err != nil {
		return nil, err
	}
	if err := m.beginAnew(base); err != nil {
		return nil, err
	}
	m.tag = tag
	return v, nil
}

func (m *Member) offered(epoch int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Offered = epoch
}

// nothingWaits says that the source has what is in force: a bundle that waited for a restart was
// taken back.
func (m *Member) nothingWaits() error {
	m.mu.Lock()
	waits := m.status.Pending != 0
	m.mu.Unlock()
	if waits {
		if err := m.state.remove(pendingFile); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.status.Last, m.status.Pending = nil, 0
	return nil
}

// settled says whether the same text would be refused again: then there is no need to read it
// again.
func settled(err error) bool {
	switch seal.ReasonOf(err) {
	case seal.Expired, seal.Unreachable, seal.StateUnwritten, seal.Missing, seal.Altered: // none of the text alone
		return false
	}
	return true
}

func unreachable(err error) error {
	var r *seal.Refusal
	switch {
	case errors.As(err, &r):
		return err
	case errors.Is(err, readfile.ErrTooLarge):
		return seal.Refuse(seal.TooLarge, "%w", err)
	}
	return seal.Refuse(seal.Unreachable, "%w", err)
}

// maxRoots bounds the roots that are followed in one look.
const maxRoots = 64

// lookForRoots follows the roots from the one in force.
func (m *Member) lookForRoots(ctx context.Context) error {
	for range maxRoots {
		m.mu.Lock()
		root, seen := m.root, m.seen
		m.mu.Unlock()
		text, err := m.source.Get(ctx, bundle.RootName(root.Version+1), seal.MaxEnvelope)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return unreachable(err)
		}
		next, err := root.Next(text)
		if err != nil {
			return err
		}
		// What the new root voids first: after a crash between the two it is done again.
		if err := m.saw(seen.Voided(next)); err != nil {
			return err
		}
		if err := m.state.write(rootFile, text); err != nil {
			return err
		}
		m.mu.Lock()
		m.root, m.tag = next, "" // what was refused under the old one may be good
		m.mu.Unlock()
		m.log.Info("a new root of the fleet", zap.Int64("version", next.Version))
	}
	return nil
}

// saw writes down what was seen, and remembers it then.
func (m *Member) saw(seen bundle.Seen) error {
	m.mu.Lock()
	same := seen.Root == m.seen.Root && seen.Epoch == m.seen.Epoch && seen.Manifest == m.seen.Manifest && seen.Good == m.seen.Good && seen.Back == m.seen.Back
	m.mu.Unlock()
	if same {
		return nil
	}
	if err := m.state.setSeen(seen); err != nil {
		return err
	}
	m.mu.Lock()
	m.seen = seen
	m.mu.Unlock()
	return nil
}

// fetch gets the files that are not here yet.
func (m *Member) fetch(ctx context.Context, v *bundle.Verified) error {
	for name, f := range v.Files {
		if m.state.has(name, f) {
			continue
		}
		text, err := f.Fetch(ctx, name, m.source.Get)
		if err != nil {
			return unreachable(err)
		}
		if err := m.state.write(bundle.BlobName(f.SHA256), text); err != nil {
			return err
		}
	}
	return nil
}
