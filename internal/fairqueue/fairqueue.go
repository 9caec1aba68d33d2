// Package fairqueue hands out a bounded number of handshakes, fairly by client: who
// asks for one waits for its turn, and the turns go round between the clients
// that wait, not between their handshakes. A client is an IPv4 address, or an
// IPv6 /64, which is what one host is given.
//
// Three bounds decide whose turn it is:
//
//   - so many handshakes in flight altogether;
//   - so many of one client, so that what it is slow with holds no other up;
//   - so much work a second of one client (token bucket), so that one client
//     does not have all of the CPU. It is counted in ordinary handshakes: one
//     is paid at the beginning, and what it has really cost at the end.
//
// A turn is held only while the gateway itself is at work. While somebody else is
// waited for it is given back (Turn.Pause): for the client, whose own bound it
// still counts against, or for a destination or a responder, for which the client
// can do nothing. So who is silent holds up nobody else, however many they are.
//
// Over a bound a handshake waits; only where too many wait it is refused, and
// then it is the client with the most waiting that loses its newest.
package fairqueue

import (
	"container/heap"
	"container/list"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Limits are the bounds. A value below 1 is taken as 1, and more than ten million
// a second as that.
type Limits struct {
	InFlight          int // handshakes that are worked at, at the same time
	InFlightPerClient int // of one client, those that wait for it too
	PerSecond         int // work of one client in a second, in ordinary handshakes (work.Ordinary), also the size of its bucket
	Waiting           int // handshakes that wait for their turn
}

func (l Limits) inRange() Limits {
	for _, n := range []*int{&l.InFlight, &l.InFlightPerClient, &l.PerSecond, &l.Waiting} {
		*n = max(*n, 1)
	}
	l.PerSecond = min(l.PerSecond, maxPerSecond)
	return l
}

// ErrFull is inside the error of a handshake that was refused because too many
// wait.
var ErrFull = errors.New("too many handshakes wait for their turn")

// maxClients bounds the table of clients: about 350 bytes each, 23 MB. A client
// stays in it while one of its handshakes is worked at, waits for its turn or
// waits for the client: these are flows, and the gateway bounds flows. Of all
// others only the bucket is remembered, until it is full again or the table is.
const maxClients = 1 << 16

// maxDebt is how long a client can be made to wait by what Charge takes, however
// much that is. Charge slows nobody down who sends more of the same, so more debt
// would only shut out who shares the address. What turns cost is always paid in
// full: a turn begins with a whole token, and that bounds the debt by turns.
const maxDebt = time.Minute

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
	forPeers int // paused, for their clients
	forOther int // paused, for somebody else
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
	// Work is what clients were charged with, in ordinary handshakes.
	Work float64

	// InFlight are those that have begun and not ended: of them ForClient wait
	// for their client and ForOthers for a destination or a responder. What is
	// left is bounded by InFlightMax.
	InFlight, InFlightMax int
	ForClient, ForOthers  int
	Waiting, WaitingMax   int
}

// client is one source of handshakes.
type client struct {
	key      netip.Prefix
	inFlight int
	waiting  line

	tokens tokens    // negative: debt
	at     time.Time // when tokens was right

	round *list.Element // in Queue.ready, nil if it is not
	// The places in the heaps, -1 for none.
	starvedAt, mostAt int
	tokenAt           time.Time // while in starved
}

// place is one handshake that waits.
type place struct {
	at    *list.Element // in its lane of client.waiting, nil once it is out
	done  chan struct{} // closed when it has its turn, or lost its place
	begun bool
	err   error
	// again: it had its turn before, and paid for it. counted: it is among
	// client.inFlight still.
	again, counted bool
}

// lane is where in its client's line the place stands: a place in front of it
// that may not begin must be none that keeps it from beginning.
func (p *place) lane() int {
	switch {
	case p.counted:
		return 0 // needs neither a token nor room among its client's
	case p.again:
		return 1 // needs room
	}
	return 2 // needs both
}

// line is what waits of one client, by lane, the oldest first in each.
type line struct{ lanes [3]list.List }

func (l *line) push(p *place)   { p.at = l.lanes[p.lane()].PushBack(p) }
func (l *line) remove(p *place) { l.lanes[p.lane()].Remove(p.at); p.at = nil }

// Len is how many wait.
func (l *line) Len() (n int) {
	for i := range l.lanes {
		n += l.lanes[i].Len()
	}
	return n
}

// first is who begins next, nil if nobody waits.
func (l *line) first() *place {
	for i := range l.lanes {
		if e := l.lanes[i].Front(); e != nil {
			return e.Value.(*place)
		}
	}
	return nil
}

// last is who would begin last; somebody must wait.
func (l *line) last() *place {
	i := len(l.lanes) - 1
	for l.lanes[i].Len() == 0 {
		i--
	}
	return l.lanes[i].Back().Value.(*place)
}

// New makes a queue. now is the clock; nil means time.Now.
func New(l Limits, now func() time.Time) *Queue {
	if now == nil {
		now = time.Now
	}
	return &Queue{limits: l.inRange(), now: now, clients: map[netip.Prefix]*client{}, starved: byTime(), most: byWaiting()}
}

// SetLimits changes the bounds. What is in flight stays, and what waits beyond
// a smaller bound waits on.
func (q *Queue) SetLimits(l Limits) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.limits = l.inRange()
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
	s.InFlight, s.InFlightMax = q.inFlight+q.forPeers+q.forOther, q.limits.InFlight
	s.ForClient, s.ForOthers = q.forPeers, q.forOther
	s.Waiting, s.WaitingMax, s.Clients = q.waiting, q.limits.Waiting, len(q.clients)
	return s
}

// client finds or makes the entry of a client.
func (q *Queue) client(key netip.Prefix) *client {
	if c, ok := q.clients[key]; ok {
		return c
	}
	q.forget()
	c := &client{key: key, tokens: q.full(), at: q.now(), starvedAt: -1, mostAt: -1}
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
		if c.inFlight == 0 && c.waiting.Len() == 0 && c.round == nil && (crowded || q.tokens(c) >= q.full()) {
			delete(q.clients, key)
		}
	}
}

// place puts a client where it belongs: into the round if it may begin one or go
// on with one, among the starved if only a token is missing, else nowhere. Who is
// in the round already keeps its place.
func (q *Queue) place(c *client) {
	first := c.waiting.first()
	may := first != nil && (first.counted || c.inFlight < q.limits.InFlightPerClient)
	paid := may && (first.again || q.tokens(c) >= token)
	if c.round != nil && !paid {
		q.ready.Remove(c.round)
		c.round = nil
	}
	if c.starvedAt >= 0 && (paid || !may) {
		heap.Remove(&q.starved, c.starvedAt)
	}
	switch {
	case c.round != nil, c.starvedAt >= 0, !may:
	case !paid:
		c.tokenAt = c.at.Add(c.tokens.until(token, q.limits.PerSecond))
		heap.Push(&q.starved, c)
	default:
		c.round = q.ready.PushBack(c)
	}
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
		t := c.waiting.first()
		q.leave(c, t)
		t.begun = true
		if !t.again {
			q.tokens(c)
			c.tokens -= token
		}
		if !t.counted {
			c.inFlight++
		}
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

// stand puts a place into its client's line, where nobody else has it begin.
func (q *Queue) stand(c *client, p *place) {
	c.waiting.push(p)
	q.waiting++
	q.count(c, 1)
	q.place(c)
	q.dispatch()
}

// leave takes a place out of the waiting ones.
func (q *Queue) leave(c *client, t *place) {
	c.waiting.remove(t)
	q.waiting--
	q.count(c, -1)
}

// drop takes out a place whose owner waits no longer. Who stood behind it may
// begin now.
func (q *Queue) drop(c *client, p *place) {
	if p.at == nil {
		return
	}
	q.leave(c, p)
	if p.counted { // at once, else the client lost its place in the round
		c.inFlight--
	}
	q.place(c)
	q.dispatch()
}

// refuse takes the newest place of a client from it.
func (q *Queue) refuse(c *client) {
	n := c.waiting.Len()
	q.stats.Refused++
	q.take(c, c.waiting.last(), fmt.Errorf("%w: %d, of them %d of this client", ErrFull, q.waiting, n))
}

// take takes a place from who waits in it, for err.
func (q *Queue) take(c *client, p *place, err error) {
	p.err = err
	q.drop(c, p)
	close(p.done)
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
