package member

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
	"github.com/sslgate/sslgate/internal/readfile"
)

// StaleAfter is how long a source may be silent before the gateway says so.
const StaleAfter = 90 * time.Second

// lookFor bounds one look at the source: a large bundle over a slow line.
const lookFor = 5 * time.Minute

// Options of a Member.
type Options struct {
	Root        []byte // the pinned root, in its envelope
	Certificate *x509.Certificate
	Source      string // file:/DIRECTORY or https://HOST/PATH
	Credentials Credentials
	State       string // directory
	Version     string // of sslgate
	Poll        time.Duration
	Log         *zap.Logger
	Now         func() time.Time // nil: time.Now
	// ReadOnly is for who only wants to see what is there: Good and Status.
	ReadOnly bool
}

// Member is a gateway in a fleet. Its methods may be called by anyone at any time, but for Look
// and Run, which one goroutine calls.
type Member struct {
	o             Options
	log           *zap.Logger
	site, gateway string
	state         *state
	source        Source

	tag  string // of the bundle.json that needs no second look
	held error  // why that one was refused; nil: it was not

	mu     sync.Mutex
	said   string // the refusal that was logged last
	root   *seal.Root
	seen   bundle.Seen
	good   *bundle.Verified // in force; nil: none yet
	status Status
}

// Open makes a Member of what it was given and of what its state directory remembers.
func Open(o Options) (*Member, error) {
	m := &Member{o: o, log: o.Log}
	if m.log == nil {
		m.log = zap.NewNop()
	}
	if m.o.Now == nil {
		m.o.Now = time.Now
	}
	var err error
	if m.state, err = openState(o.State, o.ReadOnly); err != nil {
		return nil, fmt.Errorf("fleet.state: %w", err)
	}
	if m.root, err = m.state.root(o.Root, o.ReadOnly); err != nil {
		return nil, fmt.Errorf("fleet.root: %w", err)
	}
	fleet, site, gateway, err := Names(o.Certificate)
	if err != nil {
		return nil, fmt.Errorf("fleet.certificate: %w", err)
	}
	if fleet != m.root.Fleet {
		return nil, fmt.Errorf("fleet.certificate is of fleet %s, and fleet.root of %s", fleet, m.root.Fleet)
	}
	m.site, m.gateway = site, gateway
	if m.seen, err = m.state.begin(o.ReadOnly); err != nil {
		return nil, fmt.Errorf("fleet.state: %w", err)
	}
	if seen := m.seen.Voided(m.root); !o.ReadOnly { // of a root that was handed over by hand
		if err := m.saw(seen); err != nil {
			return nil, fmt.Errorf("fleet.state: %w", err)
		}
	}
	if m.source, err = newSource(o.Source, o.Credentials); err != nil {
		return nil, fmt.Errorf("fleet.source: %w", err)
	}
	m.status = Status{Refusals: map[seal.Reason]uint64{}, Contact: m.o.Now()}
	return m, nil
}

// Close ends the connections to the source.
func (m *Member) Close() { m.source.Close() }

// Names are fleet, site and gateway of the one name spiffe://FLEET/gw/SITE/GATEWAY that a gateway's
// certificate has.
func Names(c *x509.Certificate) (fleet, site, gateway string, err error) {
	alt, err := certname.ReadAltNames(c.Extensions)
	if err != nil {
		return "", "", "", err
	}
	found := 0
	for _, uri := range alt.URI {
		rest, ok := strings.CutPrefix(uri, "spiffe://")
		part := strings.Split(rest, "/")
		if !ok || len(part) != 4 || part[1] != "gw" || !seal.NameFits(part[0]) || !seal.NameFits(part[2]) || !seal.NameFits(part[3]) {
			continue
		}
		fleet, site, gateway = part[0], part[2], part[3]
		found++
	}
	if found != 1 {
		return "", "", "", fmt.Errorf("has %d names of the form spiffe://FLEET/gw/SITE/GATEWAY, one is needed", found)
	}
	return fleet, site, gateway, nil
}

// Pending returns the bundle that waits for a restart, nil if there is none. It is given out once:
// if it takes the gateway down, the next start is with the good one. The caller says with Took or
// Refuse what became of it.
func (m *Member) Pending() (*bundle.Source, *bundle.Verified, error) {
	text, err := m.state.read(pendingFile, seal.MaxEnvelope)
	if err != nil || text == nil {
		return nil, nil, err
	}
	if err := m.state.remove(pendingFile); err != nil {
		return nil, nil, err
	}
	v, err := bundle.Verify(m.root, m.seen, m.who(), text)
	if err == nil && !m.complete(v) {
		err = seal.Refuse(seal.Missing, "a file of the bundle that waited for a restart is gone")
	}
	if err != nil {
		return nil, nil, err
	}
	return bundle.NewSource(m.state.dir, v), v, nil
}

// Good returns the bundle that was in force last, nil if there is none.
func (m *Member) Good() (*bundle.Source, *bundle.Verified, error) {
	m.mu.Lock()
	seen := m.seen
	m.mu.Unlock()
	if seen.Good == "" {
		return nil, nil, nil
	}
	name := fmt.Sprintf(goodFile, seen.Good)
	text, err := m.state.read(name, seal.MaxEnvelope)
	if err == nil && text == nil {
		err = fmt.Errorf("%s is not there", m.state.path(name))
	}
	if err != nil {
		return nil, nil, err
	}
	v, err := m.remembered(seen, text)
	if err != nil {
		return nil, nil, fmt.Errorf("the last good bundle: %w", err)
	}
	return bundle.NewSource(m.state.dir, v), v, nil
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

// Look looks at the source once. It returns a bundle that is verified, written down and complete
// in the state directory, nil if there is nothing new. What is refused is logged, counted and in
// the status; the error is that.
func (m *Member) Look(ctx context.Context) (*bundle.Source, *bundle.Verified, error) {
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	v, err := m.look(ctx)
	if err != nil {
		if ctx.Err() != nil && errors.Is(err, context.Canceled) {
			return nil, nil, err // the gateway stops
		}
		m.Refuse(err)
		return nil, nil, err
	}
	if m.held == nil {
		m.mu.Lock()
		m.status.Contact = m.o.Now()
		m.mu.Unlock()
	}
	if v == nil {
		return nil, nil, nil
	}
	return bundle.NewSource(m.state.dir, v), v, nil
}

func (m *Member) look(ctx context.Context) (*bundle.Verified, error) {
	if err := m.lookForRoots(ctx); err != nil {
		return nil, err
	}
	text, tag, err := m.source.Head(ctx, m.tag)
	if err != nil {
		return nil, unreachable(err)
	}
	if text == nil {
		return nil, nil
	}
	m.tag, m.held = "", nil
	m.mu.Lock()
	root, seen, good := m.root, m.seen, m.good
	m.mu.Unlock()
	v, err := bundle.Verify(root, seen, m.who(), text)
	if err != nil {
		if settled(err) {
			m.tag, m.held = tag, err
		}
		return nil, err
	}
	if good != nil && v.Sum == good.Sum {
		m.tag = tag
		m.mu.Lock()
		m.status.Last = nil
		m.mu.Unlock()
		return nil, nil
	}
	if err := m.fetch(ctx, v); err != nil {
		return nil, err
	}
	// From here on nothing older is taken, whatever becomes of this one.
	if err := m.saw(v.Seen); err != nil {
		return nil, err
	}
	m.tag = tag
	return v, nil
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
	same := seen.Root == m.seen.Root && seen.Epoch == m.seen.Epoch && seen.Manifest == m.seen.Manifest && seen.Good == m.seen.Good
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
