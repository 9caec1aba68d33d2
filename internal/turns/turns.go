// Package turns hands out a bounded number of handshakes, fairly by client: who
// asks for one waits for its turn, and the turns go round between the clients
// that wait, not between their handshakes. A client is an IPv4 address, or an
// IPv6 /64, which is what one host is given.
//
// Three bounds decide whose turn it is:
//
//   - so many handshakes in flight altogether;
//   - so many of one client, so that what it is slow with holds no other up;
//   - so many a second of one client (token bucket), so that one client does
//     not have all of the CPU.
//
// Over a bound a handshake waits; only where too many wait it is refused, and
// then it is the client with the most waiting that loses its newest.
package turns

import (
	"container/heap"
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/sslgate/sslgate/internal/clientnet"
)

// Limits are the bounds. A value below 1 is taken as 1.
type Limits struct {
	InFlight          int // handshakes at the same time
	InFlightPerClient int // of one client
	PerSecond         int // handshakes of one client begun in a second, also the size of its bucket
	Waiting           int // handshakes that wait for their turn
}

func (l Limits) atLeastOne() Limits {
	for _, n := range []*int{&l.InFlight, &l.InFlightPerClient, &l.PerSecond, &l.Waiting} {
		*n = max(*n, 1)
	}
	return l
}

// ErrFull is inside the error of a handshake that was refused because too many
// wait.
var ErrFull = errors.New("too many handshakes wait for their turn")

// maxClients bounds the table of clients: about 200 bytes each, 13 MB. Those
// with handshakes in flight or waiting are never more than Limits allow; of the
// others only the bucket is remembered, until it is full again.
const maxClients = 1 << 16

// Queue hands out the turns. It is safe for many goroutines.
type Queue struct {
	mu       sync.Mutex
	limits   Limits
	now      func() time.Time
	clients  map[netip.Prefix]*client
	ready    list.List // of *client: the round of those that wait and may begin
	starved  clients   // those that wait for a token
	most     clients   // those with the most waiting first
	inFlight int
	waiting  int
	stats    Stats
	timer    *time.Timer // fires when the first of starved has its token
}

// Stats count since the start, and tell how it stands.
type Stats struct {
	Begun   uint64 // handshakes that got their turn and took it
	Waited  uint64 // handshakes that did not get their turn at once
	Refused uint64 // because too many wait
	Expired uint64 // whose deadline came before their turn
	Clients int    // in the table now

	InFlight, InFlightMax int
	Waiting, WaitingMax   int
}

// client is one source of handshakes.
type client struct {
	key      netip.Prefix
	inFlight int
	waiting  list.List // of *turn, the oldest first

	tokens float64
	at     time.Time // when tokens was right

	round *list.Element // in Queue.ready, nil if it is not
	// The places in the heaps, -1 for none.
	starvedAt, mostAt int
	tokenAt           time.Time // while in starved
}

// turn is one handshake that waits.
type turn struct {
	place *list.Element // in client.waiting, nil once it is out
	done  chan struct{} // closed when it has its turn, or lost its place
	begun bool
	err   error
}

// New makes a queue. now is the clock; nil means time.Now.
func New(l Limits, now func() time.Time) *Queue {
	if now == nil {
		now = time.Now
	}
	return &Queue{limits: l.atLeastOne(), now: now, clients: map[netip.Prefix]*client{}, starved: byTime(), most: byWaiting()}
}

// SetLimits changes the bounds. What is in flight stays, and what waits beyond
// a smaller bound waits on.
func (q *Queue) SetLimits(l Limits) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = l.atLeastOne()
	for _, c := range q.clients {
		if c.starvedAt >= 0 {
			heap.Remove(&q.starved, c.starvedAt)
		}
		q.place(c)
	}
	q.dispatch()
}

// Stats returns the counters.
func (q *Queue) Stats() Stats {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.stats
	s.InFlight, s.InFlightMax = q.inFlight, q.limits.InFlight
	s.Waiting, s.WaitingMax, s.Clients = q.waiting, q.limits.Waiting, len(q.clients)
	return s
}

// Begin waits for the turn of one handshake of addr. end must be called once
// when the handshake has ended. The error is ctx's own, or has ErrFull in it.
func (q *Queue) Begin(ctx context.Context, addr netip.Addr) (end func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	c := q.client(clientnet.Of(addr))
	t := &turn{done: make(chan struct{})}
	t.place = c.waiting.PushBack(t)
	q.waiting++
	q.count(c, 1)
	q.place(c)
	q.dispatch()
	if !t.begun {
		q.stats.Waited++
		for q.waiting > q.limits.Waiting && t.place != nil {
			q.refuse(q.most.first())
		}
	}
	q.mu.Unlock()

	select {
	case <-t.done:
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case t.begun && ctx.Err() == nil:
		q.stats.Begun++
		return sync.OnceFunc(func() { q.end(c) }), nil
	case t.begun: // both at once
		q.release(c)
		q.stats.Expired++
		return nil, ctx.Err()
	case t.err != nil:
		return nil, t.err
	}
	q.drop(c, t)
	q.stats.Expired++
	return nil, ctx.Err()
}

func (q *Queue) end(c *client) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.release(c)
}

// client finds or makes the entry of a client.
func (q *Queue) client(key netip.Prefix) *client {
	if c, ok := q.clients[key]; ok {
		return c
	}
	q.forget()
	c := &client{key: key, tokens: float64(q.limits.PerSecond), at: q.now(), starvedAt: -1, mostAt: -1}
	q.clients[key] = c
	return c
}

// forget takes out entries that say nothing any more: a few at each new client,
// so that the table shrinks as fast as it grows, and without an idle client's
// bucket being full if it must make room.
func (q *Queue) forget() {
	looked := 0
	for key, c := range q.clients { // the order of a map is random
		crowded := len(q.clients) >= maxClients
		if looked++; looked > 8 && !crowded {
			return
		}
		if c.inFlight == 0 && c.waiting.Len() == 0 && c.round == nil && (crowded || q.tokens(c) >= float64(q.limits.PerSecond)) {
			delete(q.clients, key)
		}
	}
}

// tokens brings a bucket up to date.
func (q *Queue) tokens(c *client) float64 {
	now, rate := q.now(), float64(q.limits.PerSecond)
	if d := now.Sub(c.at); d > 0 {
		c.tokens += d.Seconds() * rate
		c.at = now
	}
	c.tokens = min(c.tokens, rate)
	return c.tokens
}

// place puts a client where it belongs: into the round if it may begin one,
// among the starved if only a token is missing, else nowhere. Who is in the
// round already keeps its place.
func (q *Queue) place(c *client) {
	if c.waiting.Len() == 0 || c.inFlight >= q.limits.InFlightPerClient {
		if c.round != nil {
			q.ready.Remove(c.round)
			c.round = nil
		}
		if c.starvedAt >= 0 {
			heap.Remove(&q.starved, c.starvedAt)
		}
		return
	}
	if c.round != nil || c.starvedAt >= 0 {
		return
	}
	if have := q.tokens(c); have < 1 {
		// Never before there is a whole token, so that the timer finds one.
		c.tokenAt = c.at.Add(time.Duration((1-have)/float64(q.limits.PerSecond)*float64(time.Second)) + time.Microsecond)
		heap.Push(&q.starved, c)
		return
	}
	c.round = q.ready.PushBack(c)
}

// dispatch gives turns to those who wait, round after round, while there are
// any to give.
func (q *Queue) dispatch() {
	for now := q.now(); q.starved.Len() > 0 && !now.Before(q.starved.first().tokenAt); {
		q.place(heap.Pop(&q.starved).(*client))
	}
	for q.inFlight < q.limits.InFlight && q.ready.Len() > 0 {
		c := q.ready.Remove(q.ready.Front()).(*client)
		c.round = nil
		t := c.waiting.Front().Value.(*turn)
		q.leave(c, t)
		t.begun = true
		q.tokens(c)
		c.tokens--
		c.inFlight++
		q.inFlight++
		q.place(c)
		close(t.done)
	}
	q.wake()
}

// wake sets the timer to the next token that somebody waits for.
func (q *Queue) wake() {
	if q.starved.Len() == 0 || q.inFlight >= q.limits.InFlight { // who ends a handshake looks again
		if q.timer != nil {
			q.timer.Stop()
		}
		return
	}
	wait := max(q.starved.first().tokenAt.Sub(q.now()), 0)
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, func() {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.dispatch()
		})
		return
	}
	q.timer.Reset(wait)
}

// release ends a handshake.
func (q *Queue) release(c *client) {
	c.inFlight--
	q.inFlight--
	q.place(c)
	q.dispatch()
}

// leave takes a turn out of the waiting ones.
func (q *Queue) leave(c *client, t *turn) {
	c.waiting.Remove(t.place)
	t.place = nil
	q.waiting--
	q.count(c, -1)
}

// drop takes out a turn whose owner waits no longer.
func (q *Queue) drop(c *client, t *turn) {
	if t.place != nil {
		q.leave(c, t)
		q.place(c)
		q.wake()
	}
}

// refuse takes the newest turn of a client from it.
func (q *Queue) refuse(c *client) {
	n := c.waiting.Len()
	t := c.waiting.Back().Value.(*turn)
	q.leave(c, t)
	q.stats.Refused++
	t.err = fmt.Errorf("%w: %d, of them %d of this client", ErrFull, q.waiting+1, n)
	q.place(c)
	close(t.done)
}

// count keeps the heap of those who wait, after one more or one less.
func (q *Queue) count(c *client, change int) {
	switch {
	case c.mostAt < 0 && change > 0:
		heap.Push(&q.most, c)
	case c.waiting.Len() == 0:
		heap.Remove(&q.most, c.mostAt)
	default:
		heap.Fix(&q.most, c.mostAt)
	}
}
