// Package peerlimit bounds what one proven identity may have of the gateway: flows at a
// time, handshakes in a second, bytes in a second. An address is not an identity: many
// clients share one, and one client has many.
package peerlimit

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/certname"
)

// Limits of one identity; 0 is none.
type Limits struct {
	Flows      int   // at a time
	Handshakes int   // in a second; as many may come at once after a second without any
	Bytes      int64 // in a second, both directions together
}

// ErrFlows and ErrHandshakes say which limit is met.
var (
	ErrFlows      = errors.New("limits.per_identity.flows")
	ErrHandshakes = errors.New("limits.per_identity.handshakes")
)

// Key is an identity: what a certificate says of its holder, and which authority says so. A
// renewed certificate, for another key too, is the same identity.
type Key [sha256.Size]byte

// KeyOf is the identity of a peer that has proven it. A certificate without any name is
// known by its key.
func KeyOf(p *handshake.Peer) Key {
	leaf := p.Leaf()
	parts := []string{p.Authority, string(leaf.RawSubject)}
	var names []string
	for _, n := range certname.Alt(leaf.Extensions) {
		names = append(names, n.String())
	}
	slices.Sort(names)
	if parts = append(parts, names...); certname.Subject(leaf) == "" && len(names) == 0 {
		parts = append(parts, string(leaf.RawSubjectPublicKeyInfo))
	}
	h := sha256.New()
	for _, s := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(s))))
		h.Write([]byte(s))
	}
	return Key(h.Sum(nil))
}

// Table has the identities with flows, and those of the last second. It is safe for many
// goroutines.
type Table struct {
	now   func() time.Time
	bytes atomic.Int64 // Limits.Bytes: without it a relay takes no lock

	mu     sync.Mutex
	limits Limits
	known  map[Key]*identity
	sweep  int // how many are known when those are forgotten that hold nothing
	stats  Stats
}

// identity is one of the table. mu of the table guards it.
type identity struct {
	flows int
	made  float64   // handshakes that fill the bucket
	then  time.Time // when they were so many
	free  time.Time // when the bytes that were moved are paid for
}

// Stats are counts since the start, but for Known and Flows.
type Stats struct {
	Known   int    // identities
	Flows   int    // of the identity that has the most
	Refused uint64 // flows beyond a limit
	Paced   uint64 // waits of flows for limits.per_identity.bytes
}

const sweepFirst = 1024

// NewTable makes an empty table. now is a monotonic clock; nil means time.Now.
func NewTable(now func() time.Time) *Table {
	if now == nil {
		now = time.Now
	}
	return &Table{now: now, known: map[Key]*identity{}, sweep: sweepFirst}
}

// SetLimits changes the limits for what comes from now on: who holds more than it may keeps
// that.
func (t *Table) SetLimits(l Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits = l
	t.bytes.Store(l.Bytes)
}

// Hold is what a flow takes of its identity. nil takes nothing.
type Hold struct {
	t    *Table
	id   *identity
	once sync.Once
}

// Admit takes a flow and a handshake of an identity; the Hold must be released. The error is
// ErrFlows or ErrHandshakes.
func (t *Table) Admit(k Key) (*Hold, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	id := t.known[k]
	if id == nil {
		t.forget(now)
		id = &identity{then: now}
		t.known[k] = id
	}
	if n := t.limits.Flows; n > 0 && id.flows >= n {
		t.stats.Refused++
		return nil, ErrFlows
	}
	if n := float64(t.limits.Handshakes); n > 0 {
		id.made = max(0, id.made-n*now.Sub(id.then).Seconds())
		if id.then = now; id.made+1 > n {
			t.stats.Refused++
			return nil, ErrHandshakes
		}
		id.made++
	}
	id.flows++
	return &Hold{t: t, id: id}, nil
}

// forget removes identities that hold nothing, where the table has doubled since the last
// time: so the cost of it is bounded by that of the handshakes.
func (t *Table) forget(now time.Time) {
	if len(t.known) < t.sweep {
		return
	}
	for k, id := range t.known {
		if id.flows == 0 && now.Sub(id.then) > time.Second && now.After(id.free) {
			delete(t.known, k)
		}
	}
	t.sweep = max(sweepFirst, 2*len(t.known))
}

// Release gives the flow back. Further calls do nothing.
func (h *Hold) Release() {
	if h == nil {
		return
	}
	h.once.Do(func() {
		h.t.mu.Lock()
		defer h.t.mu.Unlock()
		h.id.flows--
	})
}

// Moved notes n bytes, and says how long to wait before the next are read.
func (h *Hold) Moved(n int) time.Duration {
	if h == nil || n <= 0 {
		return 0
	}
	most := h.t.bytes.Load()
	if most <= 0 {
		return 0
	}
	h.t.mu.Lock()
	defer h.t.mu.Unlock()
	now := h.t.now()
	// A second without any is not saved up: bytes of one tenth may come at once.
	if floor := now.Add(-burst); h.id.free.Before(floor) {
		h.id.free = floor
	}
	h.id.free = h.id.free.Add(time.Duration(float64(n) / float64(most) * float64(time.Second)))
	wait := h.id.free.Sub(now)
	if wait <= 0 {
		return 0
	}
	h.t.stats.Paced++
	return wait
}

// burst is how much of what was not used is kept.
const burst = 100 * time.Millisecond

// Stats are the counts of the moment.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	for _, id := range t.known {
		if id.flows > 0 {
			s.Known++
			s.Flows = max(s.Flows, id.flows)
		}
	}
	return s
}
