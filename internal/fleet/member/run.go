package member

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/seal"
)

// Status is what a gateway knows of its fleet.
type Status struct {
	Fleet, Site, Gateway string
	Root                 int64 // version
	Epoch                int64 // in force; 0: none
	Seen                 int64 // the highest
	Offered              int64 // what the source had last that enough policy keys have signed; 0: nothing
	Follows              bool  // another process of this gateway writes the state directory
	// Withdrawn is why the bundle in force should not be any more: the root voids it, or does not
	// name the keys that have signed it. "": all is well.
	Withdrawn string
	Pending   int64     // taken, and in force after a restart; 0: none
	Contact   time.Time // when the source last had that
	Fresh     bool      // the source had what is in force, or newer, within StaleAfter, and its not_after has not passed
	Refusals  map[seal.Reason]uint64
	Last      *Refused // nil: nothing was refused since the last that was taken
	Revoked   RevokedStatus
	// LastRevoked is why the list of what is revoked was refused at the last look; nil: it was not.
	LastRevoked *Refused
}

// RevokedStatus is the list of what is revoked.
type RevokedStatus struct {
	Number  int64 // 0: none
	Entries int
	Named   int64  // what there was when the newest bundle was signed; 0: it says nothing
	Behind  string // what this gateway lacks of that; "": nothing
	Full    string // that there is little room left; "": there is
}

func newRevokedStatus(r *bundle.SignedRevoked, at bundle.RevokedAt) RevokedStatus {
	s := RevokedStatus{Named: at.Number, Behind: at.Behind(r)}
	if r == nil {
		return s
	}
	if s.Number, s.Entries = r.Number, r.Entries(); bundle.NearlyFull(s.Entries) {
		s.Full = fmt.Sprintf("list %d of what is revoked has %d entries%s", s.Number, s.Entries, bundle.RoomLeft(s.Entries))
	}
	return s
}

// Refused is a bundle, or a root, that was not taken.
type Refused struct {
	Reason seal.Reason
	Detail string
	At     time.Time
}

// Took says that a bundle is in force: the next start is with it. Where another process of this
// gateway writes the state directory, that is written down once this one does.
func (m *Member) Took(v *bundle.Verified) error {
	err := m.hold(v)
	if err == nil {
		m.keep(v.Sum)
	}
	m.mu.Lock()
	m.good = v
	m.said = map[string]bool{}
	m.status.Last, m.status.Pending = nil, 0
	seen := m.seen
	m.mu.Unlock()
	m.owed = nil
	switch {
	case err != nil:
		m.owed = v
	case m.state.leads():
		err = m.writeGood(v)
	case v.Sum != seen.Good:
		m.owed = v
	}
	m.log.Info("epoch in force", zap.Int64("epoch", v.Manifest.Epoch), zap.String("manifest", v.Sum), zap.String("site", m.site))
	return err
}

// writeGood writes down which bundle is in force, and removes what no process needs. If it cannot be
// written, the next look tries it again.
func (m *Member) writeGood(v *bundle.Verified) error {
	m.mu.Lock()
	seen := m.seen
	m.mu.Unlock()
	m.owed = v
	if err := m.hold(v); err != nil {
		return err
	}
	if seen.Good != v.Sum {
		if err := m.state.setGood(v.Sum, seen); err != nil {
			return err
		}
		m.mu.Lock()
		m.seen.Good = v.Sum
		m.mu.Unlock()
	}
	m.owed, m.followed = nil, v.Sum
	if err := errors.Join(m.state.remove(pendingFile), m.state.sweep(v)); err != nil {
		m.log.Warn("old files of the fleet cannot be removed", zap.Error(err))
	}
	return nil
}

// Retry lets the next look return what the source has, though it is what it had.
func (m *Member) Retry() { m.tag, m.skip = "", false }

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

// maxSaid bounds the refusals that are remembered, so that a source that is different each time
// costs no memory.
const maxSaid = 256

// Refuse logs, counts and shows a refusal. Each is logged once until a bundle is taken; a source
// that does not answer once until it does.
func (m *Member) Refuse(err error) {
	m.refuse(err, &m.status.Last, "the fleet's bundle is refused, the one in force stays")
}

// refusedList is Refuse for the list of what is revoked, unless the gateway stops.
func (m *Member) refusedList(ctx context.Context, err error) {
	if err != nil && (ctx.Err() == nil || !errors.Is(err, context.Canceled)) {
		m.refuse(err, &m.status.LastRevoked, "the fleet's list of what is revoked is refused, the one in force stays")
	}
}

func (m *Member) refuse(err error, last **Refused, what string) {
	why := seal.ReasonOf(err)
	key := err.Error()
	if r := (*seal.Refusal)(nil); errors.As(err, &r) && why == seal.Unreachable {
		key = string(why) // the text may have the number of a port, another one each time
	}
	m.mu.Lock()
	m.status.Refusals[why]++
	*last = &Refused{Reason: why, Detail: err.Error(), At: m.o.Now()}
	again := m.said[key] || !m.mayLog(why)
	if len(m.said) >= maxSaid {
		m.said = map[string]bool{}
	}
	m.said[key] = true
	m.mu.Unlock()
	if !again {
		m.log.Warn(what, zap.String("reason", string(why)), zap.Error(err))
	}
}

// A source that is different each time is not logged more often than maxLogged times in a minute for
// each reason; the status has the last one, and the metrics count all.
const maxLogged = 10

// logged counts the lines of a reason since a time.
type logged struct {
	since time.Time
	n     int
}

// mayLog says whether there is room for a line. mu is held.
func (m *Member) mayLog(why seal.Reason) bool {
	l, now := m.logged[why], m.o.Now()
	if now.Sub(l.since) >= time.Minute {
		l = logged{since: now}
	}
	l.n++
	m.logged[why] = l
	return l.n <= maxLogged
}

// Status is the state of the moment.
func (m *Member) Status() Status {
	follows := !m.o.ReadOnly && !m.state.leads()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.status
	s.Fleet, s.Site, s.Gateway = m.root.Fleet, m.site, m.gateway
	s.Root, s.Seen, s.Follows = m.root.Version, m.seen.Epoch, follows
	if m.good != nil {
		s.Epoch, s.Withdrawn = m.good.Manifest.Epoch, m.withdrawn.of(m.root, m.seen, m.good)
	}
	s.Fresh = m.fresh(StaleAfter)
	s.Revoked = newRevokedStatus(m.revoked, m.seen.Revoked)
	s.Refusals = map[seal.Reason]uint64{}
	for _, r := range seal.Reasons() {
		s.Refusals[r] = m.status.Refusals[r]
	}
	return s
}

// fresh says whether the source had what is in force, or newer, within a time, and the bundle in
// force has not ended: what is withheld is seen by that. mu is held.
func (m *Member) fresh(within time.Duration) bool {
	now := m.o.Now()
	if now.Sub(m.status.Contact) >= within {
		return false
	}
	if m.good == nil {
		return true
	}
	end := m.good.Manifest.Ends()
	return end.IsZero() || now.Before(end)
}

// Refuses says whether new flows are refused, because the bundle in force is too old and the
// operator has chosen that.
func (m *Member) Refuses() bool {
	if m.o.RefuseAfter == 0 {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.fresh(m.o.RefuseAfter)
}

// withdrawal is Seen.Withdrawn, which verifies signatures, of what it was asked last.
type withdrawal struct {
	root  *seal.Root
	epoch int64
	good  *bundle.Verified
	why   string
}

func (w *withdrawal) of(root *seal.Root, seen bundle.Seen, good *bundle.Verified) string {
	if w.root == root && w.epoch == seen.Epoch && w.good == good {
		return w.why
	}
	*w = withdrawal{root: root, epoch: seen.Epoch, good: good}
	if err := seen.Withdrawn(root, good); err != nil {
		w.why = err.Error()
	}
	return w.why
}

// Use is what a gateway does with bundles.
type Use struct {
	// Apply puts a bundle in force; its error is a seal.Refusal where the bundle is at fault.
	Apply func(ctx context.Context, src fileset.Source) error
	// Stamp changes when one of the files does that the configuration read last names: then what
	// was refused may be good. A bundle may name files of the host.
	Stamp func() string
	// Revoke is called with each new list of what is revoked, beside the others.
	Revoke func(r *bundle.SignedRevoked)
}

// Run looks at the source every Poll until ctx ends.
func (m *Member) Run(ctx context.Context, use Use) error {
	tick := time.NewTicker(m.o.Poll)
	defer tick.Stop()
	changed := [2]chan struct{}{make(chan struct{}, 1), make(chan struct{}, 1)}
	var group sync.WaitGroup
	defer group.Wait()
	beside, stop := context.WithCancel(ctx)
	defer stop()
	if w, ok := m.source.(Watcher); ok {
		group.Go(func() {
			w.Watch(beside, func() {
				for _, c := range changed {
					select {
					case c <- struct{}{}:
					default:
					}
				}
			})
		})
	}
	anew := make(chan struct{}, 1)
	group.Go(func() { m.runRevoked(beside, changed[1], anew, use.Revoke) })
	said := news{fresh: true}
	for {
		if m.skip && use.Stamp() != m.stamp {
			m.Retry()
		}
		if src, v, err := m.Look(ctx); err == nil && v != nil {
			select {
			case anew <- struct{}{}:
			default:
			}
			m.put(ctx, src, v, use)
		}
		said.look(m.Status(), m.log)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-changed[0]:
			pause(ctx)
		}
	}
}

// pause keeps a source that says all the time that it has something new from making all gateways look
// all the time, and all at once.
func pause(ctx context.Context) {
	wait := time.NewTimer(100*time.Millisecond + rand.N(100*time.Millisecond))
	defer wait.Stop()
	select {
	case <-ctx.Done():
	case <-wait.C:
	}
}

// news logs what changes by itself, once.
type news struct {
	fresh     bool
	withdrawn string
}

func (n *news) look(s Status, log *zap.Logger) {
	switch {
	case s.Fresh == n.fresh:
	case s.Fresh:
		log.Info("the fleet's source answers again")
	default:
		log.Warn("not fresh: the fleet's source has not had a bundle that is good, or not the list of what is revoked, for a while, or the one in force has ended",
			zap.Duration("after", StaleAfter), zap.String("lacks", s.Revoked.Behind))
	}
	if s.Withdrawn != n.withdrawn && s.Withdrawn != "" {
		log.Warn("the bundle in force was withdrawn and stays until there is another one", zap.Int64("epoch", s.Epoch), zap.String("why", s.Withdrawn))
	}
	n.fresh, n.withdrawn = s.Fresh, s.Withdrawn
}

func (m *Member) put(ctx context.Context, src *bundle.Source, v *bundle.Verified, use Use) {
	before := use.Stamp()
	err := use.Apply(ctx, fileset.Overlay{Bundle: src})
	why := seal.ReasonOf(err)
	switch {
	case err == nil:
		m.judged, m.skip = "", false
		err = m.Took(v)
	case ctx.Err() != nil:
		return
	case why == seal.NeedsRestart && m.state.leads():
		if wait := m.Wait(v); wait != nil {
			err = wait
		}
	}
	if err == nil {
		return
	}
	switch {
	case why == seal.NeedsRestart || why == seal.RefusedCheck:
		// The stamp is of the files that were named before. So the second verdict counts: a file
		// may have come after the first, and before anybody looked for it.
		if m.stamp = ""; m.judged == v.Sum {
			m.stamp = before
		}
		m.judged, m.skip = v.Sum, true
	default:
		m.tag = "" // not the bundle's fault: it is tried again
	}
	m.Refuse(err)
}
