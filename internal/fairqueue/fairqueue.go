// Package fairqueue hands out a bounded number of handshakes, fairly by client. A
// handshake waits for its turn, and turns rotate between the waiting clients, not between
// their handshakes. A client is an IPv4 address or an IPv6 /64, which is what one host is
// given.
//
// Three bounds decide whose turn it is:
//
//   - the handshakes in flight altogether;
//   - the handshakes in flight of one client, so that a slow client holds up no other;
//   - the work of one client a second (token bucket), so that one client cannot take all
//     of the CPU. It is counted in ordinary handshakes: one is paid at the beginning, and
//     the difference to the real cost at the end.
//
// A handshake holds a turn only while the gateway itself works on it. While it waits for
// somebody else the turn is given back (Turn.Pause). That may be the client, whose own
// bound still counts the handshake, or a destination or a responder, for which the client
// is not responsible. So silent clients hold up nobody else, however many they are.
//
// A handshake over a bound waits. Only when too many wait is one refused: the newest of
// the client with the most waiting.
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

// Limits are the bounds. A value below 1 counts as 1. PerSecond above ten million counts
// as ten million.
type Limits struct {
	InFlight          int // handshakes worked on at the same time
	InFlightPerClient int // handshakes of one client, including those that wait for it
	PerSecond         int // work of one client, in work.Ordinary; also the size of its bucket
	Waiting           int // handshakes that wait for their turn
}

func (l Limits) inRange() Limits {
	for _, n := range []*int{&l.InFlight, &l.InFlightPerClient, &l.PerSecond, &l.Waiting} {
		*n = max(*n, 1)
	}
	l.PerSecond = min(l.PerSecond, maxPerSecond)
	return l
}

// ErrFull is wrapped in the error of a handshake that was refused because too many wait.
var ErrFull = errors.New("too many handshakes wait for their turn")

// maxClients bounds the table of clients: about 350 bytes each, 23 MB. A client stays in
// it while one of its handshakes is worked on, waits for its turn or waits for the
// client; these are flows, which the gateway bounds. Of other clients only the bucket is
// kept, until it is full again or the table is.
const maxClients = 1 << 16

// maxDebt is the longest time that Charge can make a client wait. Charge does not slow
// down a client that keeps sending the same, so more debt would only shut out others at
// the same address. The cost of turns is always paid in full: a turn begins with a whole
// token, which bounds that debt.
const maxDebt = time.Minute

// Queue hands out the turns. It is safe for many goroutines.
type Queue struct {
	mu       sync.Mutex
	limits   Limits
	now      func() time.Time
	clients  map[netip.Prefix]*client
	ready    list.List // of *client: those that wait and may begin, in the order of the round
	starved  clients   // those that wait for a token
	most     clients   // those with the most waiting first
	inFlight int
	forPeers int // paused: waiting for their clients
	forOther int // paused: waiting for somebody else
	waiting  int
	stats    Stats
	timer    *time.Timer // fires when the first of starved has its token
}

// Stats are counters since the start, and the present state.
type Stats struct {
	Begun   uint64 // handshakes that got their turn and took it
	Waited  uint64 // handshakes that did not get their turn at once
	Refused uint64 // handshakes refused because too many wait
	Expired uint64 // handshakes whose deadline came before their turn
	Paced   uint64 // times that a flow was not read for a while, see Pace
	Clients int    // in the table now
	// Work is what clients were charged with, in ordinary handshakes.
	Work float64

	// InFlight are the handshakes that have begun and not ended. Of these ForClient wait
	// for their client and ForOthers for a destination or a responder; the others are
	// bounded by InFlightMax.
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
	at     time.Time // when tokens was last updated

	round *list.Element // in Queue.ready, nil if it is not
	// The places in the heaps, -1 for none.
	starvedAt, mostAt int
	tokenAt           time.Time // while in starved
}

// place is one handshake that waits.
type place struct {
	at    *list.Element // in its lane of client.waiting, nil once it is out
	done  chan struct{} // closed when the handshake has its turn or has lost its place
	begun bool
	err   error
	// again: the handshake had a turn before, and has paid for it. counted:
	// client.inFlight still counts it.
	again, counted bool
}

// lane is the lane of the client's line for the place. Lanes go by what a place needs to
// begin, so that no place can block one behind it that needs less.
func (p *place) lane() int {
	switch {
	case p.counted:
		return 0 // needs neither a token nor room among its client's
	case p.again:
		return 1 // needs room
	}
	return 2 // needs both
}

// line is the waiting handshakes of one client, by lane, the oldest first in each.
type line struct{ lanes [3]list.List }

func (l *line) push(p *place)   { p.at = l.lanes[p.lane()].PushBack(p) }
func (l *line) remove(p *place) { l.lanes[p.lane()].Remove(p.at); p.at = nil }

// Len is the number of waiting places.
func (l *line) Len() (n int) {
	for i := range l.lanes {
		n += l.lanes[i].Len()
	}
	return n
}

// first is the place that begins next; nil if none waits.
func (l *line) first() *place {
	for i := range l.lanes {
		if e := l.lanes[i].Front(); e != nil {
			return e.Value.(*place)
		}
	}
	return nil
}

// last is the place that would begin last; at least one must wait.
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

// SetLimits changes the bounds. Handshakes in flight stay, and those that wait beyond a
// smaller bound go on waiting.
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

// forget removes entries that carry no information any more. It checks a few at each new
// client, so that the table shrinks as fast as it grows. If the table is full it also
// removes idle clients whose bucket is not full.
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

// place puts a client where it belongs: into the round if its first handshake may begin
// or go on, among the starved if only a token is missing, else nowhere. A client that is
// in the round already keeps its position.
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

// dispatch gives turns to waiting clients, round after round, while there are turns to
// give.
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

// wake sets the timer to the next token that a client waits for.
func (q *Queue) wake() {
	if q.starved.Len() == 0 || q.inFlight >= q.limits.InFlight { // the end of a handshake calls dispatch again
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

// stand puts a place into its client's line. It may begin at once.
func (q *Queue) stand(c *client, p *place) {
	c.waiting.push(p)
	q.waiting++
	q.count(c, 1)
	q.place(c)
	q.dispatch()
}

// leave removes a place from the waiting ones.
func (q *Queue) leave(c *client, t *place) {
	c.waiting.remove(t)
	q.waiting--
	q.count(c, -1)
}

// drop removes a place whose owner waits no longer. Places behind it may begin now.
func (q *Queue) drop(c *client, p *place) {
	if p.at == nil {
		return
	}
	q.leave(c, p)
	if p.counted { // before q.place, otherwise the client would lose its position in the round
		c.inFlight--
	}
	q.place(c)
	q.dispatch()
}

// refuse refuses the newest waiting handshake of a client.
func (q *Queue) refuse(c *client) {
	n := c.waiting.Len()
	q.stats.Refused++
	q.take(c, c.waiting.last(), fmt.Errorf("%w: %d, of them %d of this client", ErrFull, q.waiting, n))
}

// take removes a place and makes its owner return err.
func (q *Queue) take(c *client, p *place, err error) {
	p.err = err
	q.drop(c, p)
	close(p.done)
}

// count updates the heap of waiting clients after one place more or less.
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
