package fairqueue

import (
	"container/heap"
	"context"
	"net/netip"
	"time"

	"github.com/sslgate/sslgate/internal/clientkey"
	"github.com/sslgate/sslgate/internal/work"
)

// For says for whom a handshake waits.
type For uint8

// The values of For.
const (
	ForClient For = iota // goes on counting against the client's bound
	ForOthers            // a destination, a responder: counts against nothing here
)

// turnState is the state of a Turn; Queue.mu guards it.
type turnState uint8

const (
	running turnState = iota
	pausedForClient
	pausedForOthers
	resuming // waits for its turn again
	ended
)

// Turn is the turn of one handshake. Its methods are for the handshake's own goroutines,
// one at a time; End may be called from any goroutine, and again.
type Turn struct {
	q     *Queue
	c     *client
	state turnState
	place *place  // while resuming
	cost  float64 // in ordinary handshakes, taken from the bucket at the end
}

// estimate is what a handshake pays when it begins, in ordinary handshakes. The
// difference to its real cost is settled at its end.
const estimate = 1

// Begin waits for the turn of one handshake of addr. End must be called when the
// handshake has ended. The error is ctx's, or wraps ErrFull.
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

// wait waits in the line until p has begun. The caller holds the lock; wait releases it
// while it waits.
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
	case p.begun: // it began and ctx ended at the same time
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

// Pause gives the turn back while the handshake waits for somebody. It returns false and
// does nothing if the turn is paused already or has ended: then Resume must not be
// called.
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

// Resume waits for the turn again, ahead of handshakes of the same client that have not
// begun; it costs no tokens. After an error, which is like those of Begin, the turn has
// ended. If End is called meanwhile, the error is context.Canceled.
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
	case err == nil && endedMeanwhile: // it got its turn just before End
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

// Cost sets what the handshake has cost so far, in total; End settles it. A handshake
// that costs more than an ordinary one makes its client wait longer for the next, one
// that costs less makes it wait less. Without Cost it counts as an ordinary one.
func (t *Turn) Cost(u work.Units) {
	t.q.mu.Lock()
	defer t.q.mu.Unlock()
	t.cost = ordinary(u)
}

// Charge takes from a client's bucket what the client has cost outside a turn. It may
// overdraw the bucket by as much as comes back in maxDebt. The client then waits until
// the debt is paid.
func (q *Queue) Charge(addr netip.Addr, u work.Units) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.client(clientkey.Of(addr))
	room := q.tokens(c) + q.full()*tokens(maxDebt/time.Second)
	q.pay(c, min(ordinary(u), max(float64(room)/float64(token), 0)))
	q.dispatch()
}

// Pace is Charge for a client that can be held up: it returns how long until the client may
// go on. That is when half of a second's work is in the bucket again, so that handshakes of
// the same client find their tokens there. Of several that are held up each waits for what
// those before it have used.
func (q *Queue) Pace(addr netip.Addr, u work.Units) time.Duration {
	q.Charge(addr, u)
	q.mu.Lock()
	defer q.mu.Unlock()
	wait := q.tokens(q.client(clientkey.Of(addr))).until(q.full()/2, q.limits.PerSecond)
	if wait > 0 {
		q.stats.Paced++
	}
	return wait
}

// pay takes handshakes from a bucket, or gives them back if negative, and puts the client
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

// End ends the turn, whatever its state.
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
		if t.place.at != nil { // otherwise it has begun or lost its place, which Resume sees
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
