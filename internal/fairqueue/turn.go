package fairqueue

import (
	"container/heap"
	"context"
	"net/netip"
	"time"

	"github.com/sslgate/sslgate/internal/clientkey"
	"github.com/sslgate/sslgate/internal/work"
)

// For says whom a handshake waits for.
type For uint8

// Whom one may wait for.
const (
	ForClient For = iota // counts against the client's bound all the while
	ForOthers            // a destination, a responder: counts against nothing here
)

// turnState is what a Turn does; Queue.mu guards it.
type turnState uint8

const (
	running turnState = iota
	pausedForClient
	pausedForOthers
	resuming // waits for its turn again
	ended
)

// Turn is the turn of one handshake. Its methods are for the handshake's own
// goroutines, one at a time; End may be called from anywhere, and again.
type Turn struct {
	q     *Queue
	c     *client
	state turnState
	place *place  // while resuming
	cost  float64 // in ordinary handshakes, taken from the bucket at the end
}

// estimate is what a handshake pays when it begins, in ordinary handshakes;
// what it has cost in truth is settled when it ends.
const estimate = 1

// Begin waits for the turn of one handshake of addr. End must be called when the
// handshake has ended. The error is ctx's own, or has ErrFull in it.
func (q *Queue) Begin(ctx context.Context, addr netip.Addr) (*Turn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &Turn{q: q, c: q.client(clientkey.Of(addr)), cost: estimate}
	if err := q.wait(ctx, t.c, &place{}); err != nil {
		return nil, err
	}
	q.stats.Begun++
	q.stats.Work += estimate
	return t, nil
}

// wait stands in the line until p has begun. The lock is held, and given away
// meanwhile.
func (q *Queue) wait(ctx context.Context, c *client, p *place) error {
	p.done = make(chan struct{})
	q.stand(c, p)
	if !p.begun {
		q.stats.Waited++
		for q.waiting > q.limits.Waiting && p.at != nil {
			q.refuse(q.most.first())
		}
	}
	q.mu.Unlock()
	select {
	case <-p.done:
	case <-ctx.Done():
	}
	q.mu.Lock()
	switch {
	case p.begun && ctx.Err() == nil:
		return nil
	case p.begun: // both at once
		q.release(c)
		q.stats.Expired++
		return ctx.Err()
	case p.err != nil:
		return p.err
	}
	q.drop(c, p)
	q.stats.Expired++
	return ctx.Err()
}

// Pause gives the turn back while somebody is waited for. It does nothing, and
// says false, where the turn is paused already or has ended: then Resume must not
// be called.
func (t *Turn) Pause(whom For) bool {
	q := t.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.state != running {
		return false
	}
	q.inFlight--
	if whom == ForClient {
		t.state = pausedForClient
		q.forPeers++
	} else {
		t.state = pausedForOthers
		q.forOther++
		t.c.inFlight--
		q.place(t.c)
	}
	q.dispatch()
	return true
}

// Resume waits for the turn again, before those of the same client that have not
// begun; it costs none of the handshakes a second. After an error, which is that
// of Begin, the turn has ended. End ends the waiting: the error is
// context.Canceled then.
func (t *Turn) Resume(ctx context.Context) error {
	q := t.q
	q.mu.Lock()
	defer q.mu.Unlock()
	p := &place{again: true}
	switch t.state {
	case pausedForClient:
		p.counted = true
		q.forPeers--
	case pausedForOthers:
		q.forOther--
		t.c = q.client(t.c.key) // it may have been forgotten
	case running:
		return nil
	default:
		return context.Canceled // ended meanwhile
	}
	t.state, t.place = resuming, p
	err := q.wait(ctx, t.c, p)
	t.place = nil
	endedMeanwhile := t.state == ended
	switch {
	case err == nil && endedMeanwhile: // it had just begun
		q.release(t.c)
		return context.Canceled
	case err == nil:
		t.state = running
		return nil
	case !endedMeanwhile:
		t.state = ended
		q.pay(t.c, t.cost-estimate)
	}
	q.dispatch()
	return err
}

// Cost says what the handshake has cost so far, all of it. End settles it: who
// cost more than an ordinary handshake waits longer for its next one, who cost
// less waits less. Without it a handshake is an ordinary one.
func (t *Turn) Cost(u work.Units) {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	t.cost = ordinary(u)
}

// Charge takes from a client's bucket what it has cost outside a turn. The
// bucket may be overdrawn, by as much as comes back in maxDebt: then the client
// waits until it is in credit again.
func (q *Queue) Charge(addr netip.Addr, u work.Units) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.client(clientkey.Of(addr))
	room := q.tokens(c) + q.full()*tokens(maxDebt/time.Second)
	q.pay(c, min(ordinary(u), max(float64(room)/float64(token), 0)))
	q.dispatch()
}

// pay takes handshakes out of a bucket, or gives some back, and puts the client
// where it belongs now.
func (q *Queue) pay(c *client, handshakes float64) {
	if q.tokens(c); handshakes == 0 {
		return
	}
	q.stats.Work += handshakes
	c.tokens = min(max(c.tokens-tokensOf(handshakes), -tokens(maxTokens)), q.full())
	if c.starvedAt >= 0 { // its time has changed
		heap.Remove(&q.starved, c.starvedAt)
	}
	q.place(c)
}

// End ends the handshake, or what of it holds a turn.
func (t *Turn) End() {
	q := t.q
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.state != ended {
		if t.state == pausedForOthers {
			t.c = q.client(t.c.key) // it may have been forgotten
		}
		q.pay(t.c, t.cost-estimate)
	}
	switch t.state {
	case resuming:
		if t.place.at != nil { // else it has begun, or lost its place: Resume sees it
			q.take(t.c, t.place, context.Canceled)
		}
	case running:
		q.release(t.c)
	case pausedForClient:
		q.forPeers--
		t.c.inFlight--
		q.place(t.c)
		q.dispatch()
	case pausedForOthers:
		q.forOther--
		q.dispatch()
	case ended:
	}
	t.state = ended
}
