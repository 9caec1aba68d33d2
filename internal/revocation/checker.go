package revocation

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/memory"
)

// Options of a Checker. The zero value can be used.
type Options struct {
	// State is the directory for the last good copies of what was fetched; New creates
	// it. With "" nothing survives a restart.
	State string
	// Log gets messages for the operator; nil is silent.
	Log *zap.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Poll is how often files are checked and due work is started; 0 is a second.
	Poll time.Duration
	// FetchTimeout bounds one whole fetch; 0 is a minute, in which 38 MB arrive over 6
	// Mbit/s.
	FetchTimeout time.Duration
	// MaxBytes bounds one file or answer with lists; 0 is MaxListBytes. See
	// ListBytes.
	MaxBytes int64
	// Memory lends the memory that loading takes; nil lends without a bound.
	Memory *memory.Budget

	// Mark is that of the sockets by which lists and answers are fetched; 0: none.
	Mark dialer.Mark

	pace time.Duration // for tests; 0 is paceEvery
}

// Checker says whether a certificate of a verified chain is revoked. It is safe for
// concurrent use; Check never waits for a list to load.
type Checker struct {
	o      Options
	client *http.Client // for lists
	asks   *http.Client // for responders, so that slow list servers cannot take their connections
	data   atomic.Pointer[snapshot]
	denied atomic.Pointer[Denied] // nil: nothing
	epoch  atomic.Uint64
	slots  slots
	copies *copies // of the lists in force; they survive a restart

	reloading   sync.Mutex // held over a Reload
	mu          sync.Mutex
	authorities []*Authority
	sources     []*source
	responders  map[string]*responder // by authority
	counters    map[string]*counters  // by authority
	takens      map[string]*taken     // by authority
	kept        map[string][]keptList // by authority
	ended       map[[32]byte]bool     // kept lists whose end was logged, by digest
	subscribers map[int]func()
	nextSub     int
}

// snapshot is everything Check reads of the lists. Immutable.
type snapshot struct {
	authorities map[string]*view
	digest      string // see Checker.Digest
}

// view is one authority in a snapshot.
type view struct {
	*Authority
	lists     map[string][]*List // by the issuer's RawSubject
	all       []keptList         // the same lists, each with its source
	responder *responder
	counters  *counters
	taken     *taken
	digest    [32]byte // see Checker.Digest
}

// of returns the lists of an issuer: those signed with exactly its key.
func (v *view) of(issuer *x509.Certificate) []*List {
	named := v.lists[string(issuer.RawSubject)]
	other := func(l *List) bool { return !bytes.Equal(l.spki, issuer.RawSubjectPublicKeyInfo) }
	if !slices.ContainsFunc(named, other) {
		return named
	}
	return slices.DeleteFunc(slices.Clone(named), other) // two CAs of the same name: rare
}

// New builds a Checker for the authorities from their files and the last good copies. A
// list that cannot be used is logged and counted; it is no error, because it must not
// keep the clients of other authorities out. An error means that the state directory
// cannot be used.
func New(authorities []Authority, o Options) (*Checker, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.FetchTimeout <= 0 {
		o.FetchTimeout = time.Minute
	}
	if o.MaxBytes <= 0 || o.MaxBytes > MaxListBytes {
		o.MaxBytes = MaxListBytes
	}
	if o.pace <= 0 {
		o.pace = paceEvery
	}
	if o.State != "" {
		if err := os.MkdirAll(o.State, 0o700); err != nil {
			return nil, fmt.Errorf("state directory: %w", err)
		}
		// The copies decide which older lists are refused, so nobody else may remove
		// them.
		if info, err := os.Stat(o.State); err == nil && info.Mode().Perm()&0o022 != 0 {
			o.Log.Warn("the state directory can be changed by others, who can let an older revocation list be taken after a restart: chmod go-w",
				zap.String("directory", o.State), zap.String("mode", fmt.Sprintf("%04o", info.Mode().Perm())))
		}
	}
	c := &Checker{
		o: o, client: newClient(o.Mark), asks: newClient(o.Mark), slots: newSlots(), copies: newCopies(o.State),
		responders: map[string]*responder{}, counters: map[string]*counters{}, ended: map[[32]byte]bool{}, subscribers: map[int]func(){},
	}
	authorities = slices.Clone(authorities)
	c.replace(authorities, c.recall(authorities))
	return c, nil
}

// Reload replaces the authorities. A source that stays keeps what was fetched for it; an
// authority that stays keeps its counters and OCSP answers. New files and copies are read
// before anything changes.
func (c *Checker) Reload(authorities []Authority) { c.replace(authorities, nil) }

// replace is Reload; copies are the lists that an earlier process had in force.
func (c *Checker) replace(authorities []Authority, copies []*source) {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	c.replaceLocked(authorities, copies)
}

// renew replaces the authorities whose CAs are others than before.
func (c *Checker) renew() {
	c.reloading.Lock()
	defer c.reloading.Unlock()
	c.mu.Lock()
	list, renewed := make([]Authority, len(c.authorities)), false
	for i, a := range c.authorities {
		list[i] = *a
	}
	c.mu.Unlock()
	for i := range list {
		if list[i].renew() {
			renewed = true
			c.o.Log.Info("the authority has other CA certificates; its revocation lists are held against them", zap.String("authority", list[i].Name))
		}
	}
	if renewed {
		c.replaceLocked(list, nil)
	}
}

// replaceLocked is replace for who holds reloading.
func (c *Checker) replaceLocked(authorities []Authority, copies []*source) {
	c.mu.Lock()
	before, responders, counts, takens := slices.Clone(c.sources), c.responders, c.counters, c.takens
	c.mu.Unlock()

	var list []*Authority
	var sources []*source
	newResponders, newCounts, newTakens := map[string]*responder{}, map[string]*counters{}, map[string]*taken{}
	for i := range authorities {
		a := &authorities[i]
		a.renew()
		list = append(list, a)
		n := counts[a.Name]
		if n == nil {
			n = &counters{}
		}
		newCounts[a.Name] = n
		if newTakens[a.Name] = takens[a.Name]; newTakens[a.Name] == nil {
			newTakens[a.Name] = &taken{}
		}
		if a.Mode == Off {
			continue
		}
		if a.OCSP != nil {
			r := newResponder(*a.OCSP, c.asks, n)
			if old := responders[a.Name]; old != nil && old.cfg == r.cfg {
				r = old
			}
			newResponders[a.Name] = r
		}
		for _, s := range a.Sources {
			src := &source{authority: a, counters: n, location: s.Location, lists: s.Lists, file: s.file, due: c.o.Now()}
			if !slices.ContainsFunc(before, src.same) {
				c.begin(src)
			}
			sources = append(sources, src)
		}
	}

	c.mu.Lock()
	for _, src := range sources {
		failed, by := src.err, c.orderOf(src.authority.Name)
		if i := slices.IndexFunc(c.sources, src.same); i >= 0 {
			failed = c.sources[i].err
			src.inherit(c.sources[i], by)
		} else if i := slices.IndexFunc(c.sources, src.samePlace); i >= 0 && src.lists == nil {
			src.adopt(c.sources[i])
		}
		if i := slices.IndexFunc(copies, src.samePlace); i >= 0 {
			src.recall(copies[i], by)
		}
		if src.err != nil && (failed == nil || failed.Error() != src.err.Error()) {
			c.complain(src, src.lists, src.err)
		}
	}
	c.authorities, c.sources, c.responders, c.counters, c.takens = list, sources, newResponders, newCounts, newTakens
	c.publishLocked()
	c.mu.Unlock()
	c.changed()
}

// publishLocked makes a new snapshot and publishes it.
func (c *Checker) publishLocked() {
	s, before := &snapshot{authorities: map[string]*view{}}, c.data.Load()
	kept := map[string][]keptList{}
	for _, a := range c.authorities {
		v := &view{Authority: a, lists: map[string][]*List{}, responder: c.responders[a.Name], counters: c.counters[a.Name], taken: c.takens[a.Name]}
		var carried [][]*List
		for _, src := range c.sources {
			if src.authority.Name == a.Name {
				carried = append(carried, src.lists)
				for _, l := range src.lists {
					v.all = append(v.all, keptList{l, src.location})
				}
			}
		}
		kept[a.Name] = c.keepLocked(a, before, carried)
		v.all = append(v.all, kept[a.Name]...)
		for _, l := range v.all {
			v.lists[string(l.rawIssuer)] = append(v.lists[string(l.rawIssuer)], l.List)
		}
		c.sayKept(a.Name, c.kept[a.Name], kept[a.Name])
		v.digest = v.sum()
		s.authorities[a.Name] = v
	}
	c.kept = kept
	maps.DeleteFunc(c.ended, func(sum [32]byte, _ bool) bool {
		for _, all := range kept {
			if slices.ContainsFunc(all, func(l keptList) bool { return l.sum == sum }) {
				return false
			}
		}
		return true
	})
	s.digest = digestOf(s.authorities, slices.Collect(maps.Keys(s.authorities)))
	c.data.Store(s)
	c.copies.mark()
	c.epoch.Add(1)
}

// changed calls the subscribers.
func (c *Checker) changed() {
	c.mu.Lock()
	fs := make([]func(), 0, len(c.subscribers))
	for _, f := range c.subscribers {
		fs = append(fs, f)
	}
	c.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// Epoch grows with every change of what Check may answer: a list that is new or has
// become stale, an OCSP answer that changed, a Reload. A caller that caches a result of
// Check must store the epoch with it.
func (c *Checker) Epoch() uint64 { return c.epoch.Load() }

// OnChange calls f after every growth of the epoch, until cancel is called. f runs in the
// Checker's goroutines and must not block.
func (c *Checker) OnChange(f func()) (cancel func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextSub
	c.nextSub++
	c.subscribers[id] = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subscribers, id)
	}
}
