package admin

import (
	"cmp"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/reason"
)

// Hub remembers a little of the flows that have finished and hands their
// records to whoever listens. Finished takes no lock that another flow could
// hold: rings and counters are atomics, and a record is never changed.
type Hub struct {
	allowed, denied ring
	reached         [handshake.StepApplicationData + 1]atomic.Uint64 // flows not let through
	verdicts        [3]atomic.Uint64                                 // by kind
	unrecorded      atomic.Int64

	groups     sync.Map // groupKey -> *group
	groupCount atomic.Int64

	wouldTotal atomic.Uint64
	woulds     sync.Map // wouldKey -> *atomic.Uint64
	wouldCount atomic.Int64

	mu   sync.Mutex // over changes of subs
	subs atomic.Pointer[[]*Subscription]
}

const (
	// ringSize is how many finished flows are remembered, let through and not
	// each; at most about 20 KiB with two full ledgers, so 5 MiB both.
	ringSize = 128
	// maxGroups bounds the pairs of rule and reason that are counted apart;
	// each keeps one record. Those after it count for their verdict alone.
	maxGroups = 1024
	// maxSubscribers bounds the readers of the trace. Each has a queue of
	// traceQueue records, shared between them: the queue is pointers.
	maxSubscribers = 16
	traceQueue     = 512
	// exampleEvery is how often the example of a group changes at most, so
	// that it can be looked at.
	exampleEvery = 2 * time.Second
)

// NewHub returns an empty one.
func NewHub() *Hub {
	h := &Hub{}
	h.subs.Store(&[]*Subscription{})
	return h
}

// ring keeps the newest records.
type ring struct {
	next  atomic.Uint64
	slots [ringSize]atomic.Pointer[audit.Record]
}

func (r *ring) add(rec *audit.Record) { r.slots[(r.next.Add(1)-1)%ringSize].Store(rec) }

// newest calls f for the records, newest first, until it returns false.
func (r *ring) newest(f func(*audit.Record) bool) {
	n := r.next.Load()
	for i := uint64(1); i <= min(n, ringSize); i++ {
		if rec := r.slots[(n-i)%ringSize].Load(); rec != nil && !f(rec) {
			return
		}
	}
}

type groupKey struct {
	rule string
	kind reason.Kind
	code reason.Code
}

// group counts the flows with the same rule and reason, and keeps one.
type group struct {
	groupKey
	count   atomic.Uint64
	would   atomic.Uint64 // those of count that were only observed
	last    atomic.Int64  // unix milliseconds
	changed atomic.Int64  // of example
	example atomic.Pointer[audit.Record]
}

// Finished takes a record. It does not block.
func (h *Hub) Finished(r *audit.Record) {
	kind := reason.Refused
	if e, ok := reason.Lookup(r.Reason); ok {
		kind = e.Kind
	}
	h.verdicts[min(int(kind), len(h.verdicts)-1)].Add(1)
	h.unrecorded.Add(r.Suppressed)
	if kind == reason.Allowed {
		h.allowed.add(r)
	} else {
		h.denied.add(r)
		h.reached[min(r.Step, handshake.StepApplicationData)].Add(1)
	}
	h.count(groupKey{r.Rule, kind, r.Reason}, r)
	if w := r.Would; w != nil {
		h.wouldTotal.Add(1)
		h.countWould(wouldKey{w.Rule, w.Reason})
	}
	for _, s := range *h.subs.Load() {
		s.offer(r)
	}
}

func (h *Hub) count(key groupKey, r *audit.Record) {
	v, ok := h.groups.Load(key)
	if !ok {
		if h.groupCount.Load() >= maxGroups {
			return
		}
		if v, ok = h.groups.LoadOrStore(key, &group{groupKey: key}); !ok {
			h.groupCount.Add(1)
		}
	}
	g := v.(*group)
	g.count.Add(1)
	if r.Would != nil {
		g.would.Add(1)
	}
	now := r.Start.Add(r.Duration).UnixMilli()
	g.last.Store(now)
	if old := g.changed.Load(); (old == 0 || now-old >= exampleEvery.Milliseconds()) && g.changed.CompareAndSwap(old, now) {
		g.example.Store(r)
	}
}

// wouldKey is what would have refused, and why.
type wouldKey struct {
	rule string
	code reason.Code
}

// maxWoulds bounds the pairs that are counted apart; those after it count for
// their rule alone.
const maxWoulds = 256

func (h *Hub) countWould(key wouldKey) {
	v, ok := h.woulds.Load(key)
	if !ok {
		if h.wouldCount.Load() >= maxWoulds {
			return
		}
		if v, ok = h.woulds.LoadOrStore(key, new(atomic.Uint64)); !ok {
			h.wouldCount.Add(1)
		}
	}
	v.(*atomic.Uint64).Add(1)
}

// Woulds lists what would have been refused, the most frequent first.
func (h *Hub) Woulds() []Would {
	all := []Would{}
	h.woulds.Range(func(k, v any) bool {
		key := k.(wouldKey)
		all = append(all, Would{Rule: key.rule, Reason: string(key.code), Flows: v.(*atomic.Uint64).Load()})
		return true
	})
	slices.SortFunc(all, func(a, b Would) int {
		return cmp.Or(cmp.Compare(b.Flows, a.Flows), cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Reason, b.Reason))
	})
	return all
}

// Hits counts the flows that a rule decided; "" is the default.
func (h *Hub) Hits(rule string) (hits Hits) {
	h.groups.Range(func(_, v any) bool {
		g := v.(*group)
		if g.rule != rule {
			return true
		}
		hits.Would += g.would.Load()
		switch n := g.count.Load(); g.kind {
		case reason.Allowed:
			hits.Allowed += n
		case reason.Failed:
			hits.Failed += n
		default:
			hits.Refused += n
		}
		return true
	})
	return hits
}

// Recent returns at most limit finished flows that pass the filter, the newest
// of both rings.
func (h *Hub) Recent(f Filter, limit int) []*audit.Record {
	var all []*audit.Record
	for _, r := range []*ring{&h.denied, &h.allowed} {
		n := 0
		r.newest(func(rec *audit.Record) bool {
			if f.Finished(rec) {
				all = append(all, rec)
				n++
			}
			return n < limit
		})
	}
	slices.SortFunc(all, func(a, b *audit.Record) int { return ended(b).Compare(ended(a)) })
	return all[:min(limit, len(all))]
}

func ended(r *audit.Record) time.Time { return r.Start.Add(r.Duration) }

// Lookup finds a finished flow that is still remembered, nil if it is not.
func (h *Hub) Lookup(id string) (found *audit.Record) {
	look := func(r *audit.Record) bool {
		if r.ID == id {
			found = r
		}
		return found == nil
	}
	h.denied.newest(look)
	h.allowed.newest(look)
	h.groups.Range(func(_, v any) bool {
		if r := v.(*group).example.Load(); found == nil && r != nil {
			look(r)
		}
		return found == nil
	})
	return found
}

// ErrBusy is returned by Subscribe when nobody else can listen.
var ErrBusy = errors.New("too many readers: 16 can trace at a time")

// Subscription receives the records that pass its filter. It is bounded: what
// finds its queue full is counted and lost, and no flow waits for a reader.
type Subscription struct {
	C      <-chan *audit.Record
	c      chan *audit.Record
	filter Filter
	lost   atomic.Uint64
}

// Lost returns how many records were lost since it was last asked.
func (s *Subscription) Lost() uint64 { return s.lost.Swap(0) }

func (s *Subscription) offer(r *audit.Record) {
	if !s.filter.Finished(r) {
		return
	}
	select {
	case s.c <- r:
	default:
		s.lost.Add(1)
	}
}

// Subscribe listens from now on. Unsubscribe must be called.
func (h *Hub) Subscribe(f Filter) (*Subscription, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	old := *h.subs.Load()
	if len(old) >= maxSubscribers {
		return nil, ErrBusy
	}
	c := make(chan *audit.Record, traceQueue)
	s := &Subscription{C: c, c: c, filter: f}
	subs := append(slices.Clone(old), s)
	h.subs.Store(&subs)
	return s, nil
}

// Unsubscribe ends it.
func (h *Hub) Unsubscribe(s *Subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	subs := slices.DeleteFunc(slices.Clone(*h.subs.Load()), func(x *Subscription) bool { return x == s })
	h.subs.Store(&subs)
}

// EncodeRecord is the record as the audit file has it, without the newline.
func EncodeRecord(r *audit.Record) (json.RawMessage, error) {
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	buf, err := enc.EncodeEntry(zapcore.Entry{}, []zapcore.Field{zap.Inline(r)})
	if err != nil {
		return nil, err
	}
	defer buf.Free()
	return slices.Clone(buf.Bytes()), nil
}
