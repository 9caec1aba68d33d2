package member

import (
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// StaleAfter is how long a source may be silent before the gateway says so.
const StaleAfter = 90 * time.Second

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
	// RefuseAfter is after how long without the source Refuses says true; 0: never. Then the time
	// of the last answer is on disk, so that a restart does not begin a new one.
	RefuseAfter time.Duration
	// ReadOnly is for who only wants to see what is there: Good and Status.
	ReadOnly bool
}

// Member is a gateway in a fleet. Its methods may be called by anyone at any time, but for Look,
// Took, Wait and Run, which one goroutine calls.
type Member struct {
	o             Options
	log           *zap.Logger
	site, gateway string
	state         *state
	source        Source

	tag      string           // of the bundle.json that needs no second look
	held     error            // why that one was refused; nil: it was not
	judged   string           // the manifest that apply has refused last; "": none
	skip     bool             // it is not tried again while stamp is what it was
	stamp    string           // of the host's files that it names
	followed string           // what another process has put in force, as far as this one has looked
	owed     *bundle.Verified // in force here, and not written down, for another process writes; nil: none

	mu     sync.Mutex
	logged map[seal.Reason]logged
	said   map[string]bool // the refusals that were logged since the last bundle that was taken
	root   *seal.Root
	seen   bundle.Seen
	good   *bundle.Verified    // in force; nil: none yet
	keeps  map[string]*os.File // the bundles that are not to be swept, by manifest
	status Status
	// revoked is what is revoked besides; nil: nothing. revokedText is its text.
	revoked     *bundle.SignedRevoked
	revokedText []byte
	revokedOwed bool       // it is not on disk yet
	revoking    sync.Mutex // held while the source is asked for it
	revokedTag  string     // of the one in force; revoking is held
	own         bool       // see Return
	// withdrawn is computed when it is asked for.
	withdrawn withdrawal
	noted     time.Time // the last answer of the source that is on disk
}

// Open makes a Member of what it was given and of what its state directory remembers.
func Open(o Options) (*Member, error) {
	m := &Member{o: o, log: o.Log, keeps: map[string]*os.File{}, said: map[string]bool{}, logged: map[seal.Reason]logged{}}
	if m.log == nil {
		m.log = zap.NewNop()
	}
	if m.o.Now == nil {
		m.o.Now = time.Now
	}
	fleet, site, gateway, err := Names(o.Certificate)
	if err != nil {
		return nil, fmt.Errorf("fleet.certificate: %w", err)
	}
	m.site, m.gateway = site, gateway
	if m.source, err = newSource(o.Source, o.Credentials); err != nil {
		return nil, fmt.Errorf("fleet.source: %w", err)
	}
	m.status = Status{Refusals: map[seal.Reason]uint64{}, Contact: m.o.Now()}
	if err := m.begin(fleet); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// begin opens the state directory.
func (m *Member) begin(fleet string) (err error) {
	if m.state, err = openState(m.o.State, m.o.ReadOnly); err != nil {
		return fmt.Errorf("fleet.state: %w", err)
	}
	leads, now, err := m.state.lead()
	if err != nil && !leads {
		return fmt.Errorf("fleet.state: %w", err)
	}
	if err != nil {
		m.log.Warn("fleet.state cannot be locked: see to it that no other gateway uses it", zap.Error(err))
	}
	if err := m.remember(); err != nil {
		return err
	}
	if fleet != m.root.Fleet {
		return fmt.Errorf("fleet.certificate is of fleet %s, and fleet.root of %s", fleet, m.root.Fleet)
	}
	m.followed = m.seen.Good
	if err := m.lastContact(); err != nil {
		return fmt.Errorf("fleet.state: %w", err)
	}
	if !now && !m.o.ReadOnly {
		m.log.Info("another process writes fleet.state: this one follows it", zap.String("directory", m.o.State))
	}
	return nil
}

// remember reads the root and what was seen. The process that writes the directory adds to them
// what a root that was handed over by hand changes.
func (m *Member) remember() error {
	readOnly := !m.state.leads()
	root, err := m.state.root(m.o.Root, readOnly)
	if err != nil {
		return fmt.Errorf("fleet.root: %w", err)
	}
	seen, err := m.state.begin(readOnly)
	if err != nil {
		return fmt.Errorf("fleet.state: %w", err)
	}
	m.mu.Lock()
	m.root, m.seen = root, seen
	m.mu.Unlock()
	if err := m.rememberRevoked(); err != nil {
		return fmt.Errorf("fleet.state: %w", err)
	}
	if readOnly {
		return nil
	}
	if err := m.saw(seen.Voided(root)); err != nil {
		return fmt.Errorf("fleet.state: %w", err)
	}
	return nil
}

// Close ends the connections to the source and gives the state directory back.
func (m *Member) Close() {
	m.source.Close()
	if m.state == nil {
		return
	}
	m.state.yield(true)
	m.keep("")
}

// Yield leaves the state directory to another process of this gateway, which takes over: from now
// on this one follows what that one writes.
func (m *Member) Yield() { m.state.yield(true) }

// Return ends Yield: once nobody has the directory, this process writes again. With own what it has
// in force itself counts then, for the other one has not done well; else what that one has put in
// force.
func (m *Member) Return(own bool) {
	m.mu.Lock()
	m.own = own
	m.mu.Unlock()
	m.state.comeBack()
}

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
