package admin

import (
	"encoding/json"
	"errors"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/clientkey"
	"github.com/sslgate/sslgate/internal/reason"
)

// Hub remembers some finished flows and passes their records to subscribers. Finished takes no
// lock that another flow could hold: rings and counters are atomics, and a record never
// changes.
type Hub struct {
	allowed, denied ring
	lastOf          spread                                           // of those not let through
	reached         [handshake.StepApplicationData + 1]atomic.Uint64 // flows not let through
	verdicts        [3]atomic.Uint64                                 // by kind
	unrecorded      atomic.Int64

	rules sync.Map // name -> *ruleHits, see Keep

	groups     sync.Map // groupKey -> *group
	groupCount atomic.Int64

	wouldTotal atomic.Uint64
	woulds     sync.Map // wouldKey -> *atomic.Uint64
	wouldCount atomic.Int64

	mu   sync.Mutex // guards changes of subs
	subs atomic.Pointer[[]*Subscription]
}

const (
	// ringSize is how many finished flows are remembered: so many that were let through, so
	// many that were not, and the last refused one of so many clients. A record takes at
	// most about 20 KiB with two full ledgers, so 7.5 MiB in total.
	ringSize = 128
	// maxSubscribers bounds the readers of the trace. Each has a queue of traceQueue
	// pointers to records; the records are shared.
	maxSubscribers = 16
	traceQueue     = 512
)

// NewHub returns an empty Hub.
func NewHub() *Hub {
	h := &Hub{lastOf: spread{seed: maphash.MakeSeed()}}
	h.subs.Store(&[]*Subscription{})
	return h
}

// ring keeps the newest records.
type ring struct {
	next  atomic.Uint64
	slots [ringSize]atomic.Pointer[audit.Record]
}

func (r *ring) add(rec *audit.Record) { r.slots[(r.next.Add(1)-1)%ringSize].Store(rec) }

// newest calls f for the records, newest first, until f returns false.
func (r *ring) newest(f func(*audit.Record) bool) {
	n := r.next.Load()
	for i := uint64(1); i <= min(n, ringSize); i++ {
		if rec := r.slots[(n-i)%ringSize].Load(); rec != nil && !f(rec) {
			return
		}
	}
}

// spread keeps the newest record of each slot, and a client has one slot. So a client that is
// refused without end fills one slot only, and other clients stay remembered.
type spread struct {
	seed  maphash.Seed // random, so that no client can choose its slot
	slots [ringSize]atomic.Pointer[audit.Record]
}

func (s *spread) add(rec *audit.Record) {
	n := maphash.Comparable(s.seed, clientkey.Of(rec.Client.Addr()))
	s.slots[n%ringSize].Store(rec)
}

func (s *spread) each(f func(*audit.Record) bool) {
	for i := range s.slots {
		if rec := s.slots[i].Load(); rec != nil && !f(rec) {
			return
		}
	}
}

// Finished takes a record. It does not block.
func (h *Hub) Finished(r *audit.Record) {
	kind := reason.Refused
	if e, ok := reason.Lookup(r.Reason); ok {
		kind = e.Kind
	}
	h.verdicts[min(int(kind), len(h.verdicts)-1)].Add(1)
	h.unrecorded.Add(r.Suppressed)
	h.hit(r, kind)
	if kind == reason.Allowed {
		h.allowed.add(r)
	} else {
		h.denied.add(r)
		h.lastOf.add(r)
		h.reached[min(r.Step, handshake.StepApplicationData)].Add(1)
		h.count(groupKey{rule: r.Rule, kind: kind, code: r.Reason}, r)
	}
	if w := r.Would; w != nil {
		h.wouldTotal.Add(1)
		h.countWould(wouldKey{rule: w.Rule, code: w.Reason})
	}
	for _, s := range *h.subs.Load() {
		s.offer(r)
	}
}

// RefusedSince returns the time from which on all flows that were not let through are
// remembered: the end of the oldest of them. Zero while none was forgotten.
func (h *Hub) RefusedSince() time.Time {
	n := h.denied.next.Load()
	if n <= ringSize {
		return time.Time{}
	}
	oldest := h.denied.slots[n%ringSize].Load()
	return ended(oldest)
}

// Recent returns at most limit of the remembered finished flows that pass the filter, the
// newest.
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
	h.lastOf.each(func(rec *audit.Record) bool {
		if f.Finished(rec) && !slices.Contains(all, rec) {
			all = append(all, rec)
		}
		return true
	})
	slices.SortFunc(all, func(a, b *audit.Record) int { return ended(b).Compare(ended(a)) })
	return all[:min(limit, len(all))]
}

func ended(r *audit.Record) time.Time { return r.Start.Add(r.Duration) }

// Lookup returns a finished flow that is still remembered, else nil.
func (h *Hub) Lookup(id string) (found *audit.Record) {
	look := func(r *audit.Record) bool {
		if r.ID == id {
			found = r
		}
		return found == nil
	}
	h.denied.newest(look)
	h.allowed.newest(look)
	h.lastOf.each(look)
	h.groups.Range(func(_, v any) bool {
		if r := v.(*group).example.Load(); found == nil && r != nil {
			look(r)
		}
		return found == nil
	})
	return found
}

// ErrBusy is returned by Subscribe when there are maxSubscribers already.
var ErrBusy = errors.New("too many readers: 16 can trace at a time")

// Subscription receives the records that pass its filter. A record that finds the queue full
// is counted and lost, so no flow waits for a reader.
type Subscription struct {
	C      <-chan *audit.Record
	c      chan *audit.Record
	filter Filter
	lost   atomic.Uint64
}

// Lost returns how many records were lost since the last call.
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

// Subscribe begins to listen. Unsubscribe must be called.
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

// EncodeRecord encodes the record as in the audit file, without the newline.
func EncodeRecord(r *audit.Record) (json.RawMessage, error) {
	enc := zapcore.NewJSONEncoder(zapcore.EncoderConfig{SkipLineEnding: true})
	buf, err := enc.EncodeEntry(zapcore.Entry{}, []zapcore.Field{zap.Inline(r)})
	if err != nil {
		return nil, err
	}
	defer buf.Free()
	return slices.Clone(buf.Bytes()), nil
}
