package gateway

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/clientkey"
)

// The records of refusals are bounded, for each client and in total: a client that is
// refused thousands of times a second must not fill the disk, nor displace the records of
// others. A flow that was let through always has its record. A refusal without a record is
// counted in the next record of its kind: SYNs in the field suppressed, flows in the field
// suppressed_flows. The newest one that was left out is held, and written with the count if
// no other record comes soon. So in the end the number of refusals is the number of records
// plus the counts in them.

const (
	// refusalQueue bounds the refused SYNs that wait to be recorded; about
	// 500 bytes each, so half a megabyte.
	refusalQueue = 1024
	// defaultRefusals and defaultRefusalsPerClient are the defaults of internal/config,
	// in records per second. refusalBurst is how many seconds' worth may come at once.
	defaultRefusals          = 200
	defaultRefusalsPerClient = 10
	refusalBurst             = 10
	// refusalClients bounds the clients with a bucket of their own, some 200 bytes each.
	// A client without one uses the bucket of all.
	refusalClients = 1 << 14
	// refusalFlush is how long left-out refusals wait for a record that counts them.
	refusalFlush = 10 * time.Second
)

// refusals decides which refusals are recorded, and carries refused SYNs from the
// packet path to the audit log.
type refusals struct {
	queue     chan *audit.Record
	writeSYN  func(*audit.Record)
	writeFlow func(*audit.Record) // for a flow that was already passed to flow()
	now       func() time.Time

	mu          sync.Mutex
	all         bucket
	clients     map[netip.Prefix]*bucket
	syns, flows tally
	ended       bool // run has returned: nobody writes held or queued records
}

// tally counts what was left out of one kind (SYNs or flows).
type tally struct {
	held  func() *audit.Record // makes the record of the newest; nil: none
	since int64                // older ones since the last record
	total uint64               // since the start
}

// leaveOut holds the newest; the one held before will have no record.
func (t *tally) leaveOut(record func() *audit.Record) {
	t.settle()
	t.held = record
}

// settle decides that the held one will have no record, and counts it.
func (t *tally) settle() {
	if t.held != nil {
		t.held = nil
		t.since++
		t.total++
	}
}

// count returns how many were left out since the last record, and starts again at zero.
func (t *tally) count() int64 {
	t.settle()
	n := t.since
	t.since = 0
	return n
}

// bucket is a token bucket. suppressed counts the requests it has refused since its last token.
type bucket struct {
	*rate.Limiter // nil before the first token was asked for
	suppressed    int64
}

// take takes a token; the bucket refills perSecond tokens a second.
func (b *bucket) take(now time.Time, perSecond int) bool {
	limit, burst := rate.Limit(perSecond), perSecond*refusalBurst
	switch {
	case b.Limiter == nil:
		b.Limiter = rate.NewLimiter(limit, burst)
	case b.Limit() != limit: // changed by a reload
		b.SetLimitAt(now, limit)
		b.SetBurstAt(now, burst)
	}
	return b.AllowN(now, 1)
}

// full says whether the bucket is full again, so that it can be forgotten.
func (b *bucket) full(now time.Time) bool {
	return b.Limiter == nil || b.TokensAt(now) >= float64(b.Burst())
}

func newRefusals(writeSYN, writeFlow func(*audit.Record)) *refusals {
	return &refusals{
		queue:    make(chan *audit.Record, refusalQueue),
		writeSYN: writeSYN, writeFlow: writeFlow, now: time.Now, clients: map[netip.Prefix]*bucket{},
	}
}

// client finds or makes the bucket of a client; nil where there is no room for it.
func (q *refusals) client(a netip.Addr, now time.Time) *bucket {
	key := clientkey.Of(a)
	if b := q.clients[key]; b != nil {
		return b
	}
	if len(q.clients) >= refusalClients {
		looked := 0
		for key, b := range q.clients { // the order of a map is random
			if b.full(now) {
				delete(q.clients, key)
			}
			if looked++; looked >= 16 {
				break
			}
		}
		if len(q.clients) >= refusalClients {
			return nil
		}
	}
	b := &bucket{}
	q.clients[key] = b
	return b
}

// allow says whether a refusal of client a is recorded; room says whether there is room
// for the record. suppressed is how many of the client's refusals had no record since its
// last one. q.mu is held.
func (q *refusals) allow(a netip.Addr, l Limits, room bool) (suppressed int64, ok bool) {
	now := q.now()
	b := q.client(a, now)
	if b == nil {
		return 0, room && q.all.take(now, l.Refusals)
	}
	// The client's bucket comes first: a client over its limit must not use up the common one.
	if !room || !b.take(now, l.RefusalsPerClient) || !q.all.take(now, l.Refusals) {
		b.suppressed++
		return 0, false
	}
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}

// syn takes a refused SYN of client.
func (q *refusals) syn(client netip.Addr, l Limits, record func() *audit.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Only this function adds to the queue, under q.mu: the room seen here is there below.
	n, ok := q.allow(client, l, len(q.queue) < cap(q.queue) && !q.ended)
	if !ok {
		q.syns.leaveOut(record)
		return
	}
	r := record()
	r.Suppressed, r.SuppressedClient = q.syns.count(), n
	q.queue <- r
}

// flow says whether the record of a refused flow is to be written, and adds the count of
// the flows left out before.
func (q *refusals) flow(r *audit.Record, l Limits) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, ok := q.allow(r.Client.Addr(), l, true)
	if !ok && !q.ended {
		q.flows.leaveOut(func() *audit.Record { return r })
		return false
	}
	r.SuppressedFlows, r.SuppressedClient = q.flows.count(), n
	return true
}

// flush writes the newest that were left out, if no other record has counted them. last
// says that no other record will come.
func (q *refusals) flush(last bool) {
	q.mu.Lock()
	var syn, flow *audit.Record
	if held := q.syns.held; held != nil {
		q.syns.held = nil
		syn = q.heldRecord(held())
		syn.Suppressed = q.syns.count()
	}
	if held := q.flows.held; held != nil {
		q.flows.held = nil
		flow = q.heldRecord(held())
		flow.SuppressedFlows = q.flows.count()
	}
	q.ended = last
	q.mu.Unlock()
	if syn != nil {
		q.writeSYN(syn)
	}
	if flow != nil {
		q.writeFlow(flow)
	}
}

// heldRecord returns a copy, because others read the record of a flow, with the count of
// what else was left out of its client. q.mu is held.
func (q *refusals) heldRecord(r *audit.Record) *audit.Record {
	c := *r
	if b := q.clients[clientkey.Of(c.Client.Addr())]; b != nil && b.suppressed > 0 {
		c.SuppressedClient, b.suppressed = b.suppressed-1, 0
	}
	return &c
}

// run writes the queued records until ctx ends, and then those still queued.
func (q *refusals) run(ctx context.Context) {
	tick := time.NewTicker(refusalFlush)
	defer tick.Stop()
	for {
		select {
		case r := <-q.queue:
			q.writeSYN(r)
		case <-tick.C:
			q.flush(false)
		case <-ctx.Done():
			q.flush(true)
			for {
				select {
				case r := <-q.queue:
					q.writeSYN(r)
				default:
					return
				}
			}
		}
	}
}

// Unrecorded is how many refused SYNs and flows have got no record of their own since the
// start, because there were too many. One of each may still be held; it is not counted and
// may get a record.
func (g *Gateway) Unrecorded() (syns, flows uint64) {
	q := g.refusals
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.syns.total, q.flows.total
}
