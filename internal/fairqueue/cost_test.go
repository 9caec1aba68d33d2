package fairqueue

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/clientkey"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/work"
)

// many begins and ends handshakes of one client until it would have to wait, and returns
// how many there were.
func many(t *testing.T, q *Queue, client byte, cost work.Units) (n int) {
	t.Helper()
	for ; n < 10000; n++ {
		if q.Stats().Waiting != 0 {
			t.Fatal("somebody waits")
		}
		q.mu.Lock()
		c := q.clients[clientOf(client)]
		wouldWait := c != nil && q.tokens(c) < token
		q.mu.Unlock()
		if wouldWait {
			return n
		}
		turn, err := q.Begin(t.Context(), addr(client))
		if err != nil {
			t.Fatal(err)
		}
		turn.Cost(cost)
		turn.End()
		turn.End() // is paid once
	}
	return n
}

// Work uses up a client's second, not the number of handshakes: one that costs ten times
// as much is possible a tenth as often, one that costs half twice as often.
func TestCostIsSettled(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := New(Limits{InFlight: 10, InFlightPerClient: 10, PerSecond: 100, Waiting: 10}, func() time.Time { return now })
	for i, c := range []struct {
		cost work.Units
		n    int
	}{
		{work.Ordinary, 100},
		{10 * work.Ordinary, 10},
		{100 * work.Ordinary, 1},
		{1000 * work.Ordinary, 1}, // the bucket is overdrawn
		{work.Ordinary / 2, 199},
		{work.Ordinary / 10, 990},
	} {
		client := byte(i + 1)
		if n := many(t, q, client, c.cost); n < c.n-c.n/50 || n > c.n+c.n/50+1 {
			t.Errorf("at %d units each: %d handshakes in a second's worth, want %d", c.cost, n, c.n)
		}
	}
	// Only time pays the debt.
	now = now.Add(time.Second)
	if n := many(t, q, 1, work.Ordinary); n < 99 || n > 101 {
		t.Errorf("a second later: %d", n)
	}
	if n := many(t, q, 4, work.Ordinary); n != 0 {
		t.Errorf("900 in debt, a second later: %d", n)
	}
	now = now.Add(9 * time.Second)
	if n := many(t, q, 4, work.Ordinary); n < 98 || n > 101 {
		t.Errorf("900 in debt, ten seconds later: %d", n)
	}
	if n := many(t, q, 50, work.Ordinary); n < 99 || n > 101 {
		t.Errorf("another client: %d", n)
	}
}

// What is charged outside a turn counts too, and a handshake that waits already goes on
// waiting; a refund lets it begin at once.
func TestChargeWhileWaiting(t *testing.T) {
	q := New(Limits{InFlight: 10, InFlightPerClient: 10, PerSecond: 1, Waiting: 10}, nil)
	first, err := q.Begin(t.Context(), addr(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan error, 1)
	go func() {
		turn, err := q.Begin(ctx, addr(1))
		if err == nil {
			turn.End()
		}
		got <- err
	}()
	testenv.Eventually(t, "one waits", func() bool { return q.Stats().Waiting == 1 })
	q.Charge(addr(1), 3600*work.Ordinary)
	if other, err := q.Begin(t.Context(), addr(2)); err != nil {
		t.Error(err)
	} else {
		other.End()
	}
	first.Cost(0)
	first.End()
	q.mu.Lock()
	c := q.clients[clientOf(1)]
	if wait := time.Until(c.tokenAt); c.starvedAt < 0 || wait < maxDebt-10*time.Second || wait > maxDebt+10*time.Second {
		t.Errorf("it is let in after %s", wait)
	}
	q.pay(c, -maxDebt.Seconds()-1)
	q.dispatch()
	q.mu.Unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
	cancel()
}

// What is charged outside turns delays a client by at most maxDebt, however much it is;
// the cost of a turn is always paid in full.
func TestDebtHasAFloor(t *testing.T) {
	for _, c := range []struct {
		name   string
		charge func(q *Queue)
		after  time.Duration // until the bucket is empty, and no longer overdrawn
	}{
		{"once", func(q *Queue) { q.Charge(addr(1), 1e9*work.Ordinary) }, maxDebt},
		{"again and again", func(q *Queue) {
			for range 10_000 {
				q.Charge(addr(1), work.Ordinary)
			}
		}, maxDebt},
		{"less than that", func(q *Queue) { q.Charge(addr(1), 60*work.Ordinary) }, 5 * time.Second},
		{"in debt by a turn already", func(q *Queue) {
			turn, err := q.Begin(t.Context(), addr(1))
			if err != nil {
				t.Fatal(err)
			}
			turn.Cost(1210 * work.Ordinary)
			turn.End()
			q.Charge(addr(1), 1e6*work.Ordinary)
		}, 2 * maxDebt},
	} {
		now := time.Unix(1e9, 0)
		q := New(Limits{InFlight: 10, InFlightPerClient: 10, PerSecond: 10, Waiting: 10}, func() time.Time { return now })
		c.charge(q)
		now = now.Add(c.after)
		if n := many(t, q, 1, work.Ordinary); n != 0 {
			t.Errorf("%s: %d handshakes after %s", c.name, n, c.after)
		}
		now = now.Add(time.Second)
		if n := many(t, q, 1, work.Ordinary); n < 9 || n > 10 {
			t.Errorf("%s: %d handshakes a second later", c.name, n)
		}
	}
}

func clientOf(n byte) netip.Prefix { return clientkey.Of(addr(n)) }

// A client whose flows are paced may still begin as many handshakes as half of its bucket
// holds, however much its flows send.
func TestPaceLeavesHalfForHandshakes(t *testing.T) {
	const perSecond = 100
	now := time.Unix(1e9, 0)
	q := New(Limits{InFlight: 10, InFlightPerClient: 10, PerSecond: perSecond, Waiting: 10}, func() time.Time { return now })
	begins := func() int { return many(t, q, 1, work.Ordinary) }
	// Three flows read as fast as they may, each in steps of one ordinary handshake.
	flows := [3]time.Time{now, now, now}
	for range 20 * perSecond {
		next := 0
		for i := range flows {
			if flows[i].Before(flows[next]) {
				next = i
			}
		}
		if flows[next].After(now) {
			now = flows[next]
		}
		flows[next] = now.Add(q.Pace(addr(1), work.Ordinary))
	}
	if q.Stats().Paced == 0 {
		t.Fatal("nothing was paced")
	}
	last := flows[0]
	for _, f := range flows {
		if f.After(last) {
			last = f
		}
	}
	if gone := last.Sub(time.Unix(1e9, 0)); gone < 19*time.Second {
		t.Errorf("the work of 20 s was read in %s", gone)
	}
	// Each flow may be one step behind what it was told.
	if n := begins(); n < perSecond/2-len(flows) || n > perSecond/2+1 {
		t.Errorf("%d handshakes can begin at once, want about %d", n, perSecond/2)
	}
}
