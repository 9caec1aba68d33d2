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

// Records of what is refused are bounded, of one client and of all: who is refused
// thousands of times a second must not fill the disk, nor push out the records of
// others. What was let through always has its record. What gets none is counted in
// the next record of its kind: SYNs in the field suppressed, flows in the field
// suppressed_flows. The youngest that was left out is held, and written with the
// count where no other record comes soon. So what is refused is, at the end, the
// sum of the records and of what they count.

const (
	// refusalQueue bounds the refused SYNs that wait to be recorded; about
	// 500 bytes each, so half a megabyte.
	refusalQueue = 1024
	// defaultRefusals and defaultRefusalsPerClient are those of internal/config:
	// records a second. refusalBurst is how many seconds' worth may come at once.
	defaultRefusals          = 200
	defaultRefusalsPerClient = 10
	refusalBurst             = 10
	// refusalClients bounds those that are told apart: some 200 bytes each. A
	// client that finds no room shares the bucket of all.
	refusalClients = 1 << 14
	// refusalFlush is how long what was left out waits for a record that counts it.
	refusalFlush = 10 * time.Second
)

// refusals decides which refusals are recorded, and carries refused SYNs from the
// packet path to the audit log.
type refusals struct {
	queue     chan *audit.Record
	writeSYN  func(*audit.Record)
	writeFlow func(*audit.Record) // of one that was told of before
	now       func() time.Time

	mu          sync.Mutex
	all         bucket
	clients     map[netip.Prefix]*bucket
	syns, flows tally
	ended       bool // run has: nobody writes what is held or queued
}

// tally is what was left out of one kind.
type tally struct {
	held  func() *audit.Record // makes the record of the youngest; nil: none
	since int64                // older ones since the last record
	total uint64               // since the start
}

// leaveOut takes the youngest; the one before it will have no record.
func (t *tally) leaveOut(record func() *audit.Record) {
	t.settle()
	t.held = record
}

// settle says that the one that is held will have no record.
func (t *tally) settle() {
	if t.held != nil {
		t.held = nil
		t.since++
		t.total++
	}
}

// count returns how many were left out since the last record, for the next.
func (t *tally) count() int64 {
	t.settle()
	n := t.since
	t.since = 0
	return n
}

// bucket is a token bucket, with what found it empty since it gave the last token.
type bucket struct {
	*rate.Limiter // nil before the first token was asked for
	suppressed    int64
}

// take takes a token of one that gets perSecond a second.
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

// full says whether nothing has been taken that has not come back.
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

// allow says whether a refusal of a is recorded, for which there may be no room,
// and how many of the client were not since its last record. q.mu is held.
func (q *refusals) allow(a netip.Addr, l Limits, room bool) (suppressed int64, ok bool) {
	now := q.now()
	b := q.client(a, now)
	if b == nil {
		return 0, room && q.all.take(now, l.Refusals)
	}
	// The client's first: it must not use up what is there for all.
	if !room || !b.take(now, l.RefusalsPerClient) || !q.all.take(now, l.Refusals) {
		b.suppressed++
		return 0, false
	}
	suppressed, b.suppressed = b.suppressed, 0
	return suppressed, true
}

// syn is told of a refused SYN of client.
func (q *refusals) syn(client netip.Addr, l Limits, record func() *audit.Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	// Only here is put into the queue, so what has room now has it below.
	n, ok := q.allow(client, l, len(q.queue) < cap(q.queue) && !q.ended)
	if !ok {
		q.syns.leaveOut(record)
		return
	}
	r := record()
	r.Suppressed, r.SuppressedClient = q.syns.count(), n
	q.queue <- r
}

// flow says whether the record of a refused flow is written; in it is what was
// left out before.
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

// flush writes the youngest that were left out, where no other record has counted
// them; with last, no other will.
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

// heldRecord is a copy, for others read the record of a flow, with what else was
// left out of its client. q.mu is held.
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

// Unrecorded is how many refused SYNs and flows have got no record of their own
// since the start, because there were too many. One of each that is still held may
// get one.
func (g *Gateway) Unrecorded() (syns, flows uint64) {
	q := g.refusals
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.syns.total, q.flows.total
}
