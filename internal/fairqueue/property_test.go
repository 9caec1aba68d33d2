package fairqueue

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// model drives a queue without goroutines: it keeps the turns that Begin would wait for.
type model struct {
	q   *Queue
	now time.Time
	run []*client // one for each handshake that is worked at
	off []paused  // those that wait for somebody
	all []*waiter
	// since counts, for each client that could have begun all the time, the turns that
	// others got since its own last one, or since it began to wait.
	since map[*client]map[*client]int
	debt  float64 // the most that was taken out of buckets
}

type paused struct {
	c       *client
	counted bool // for its client
}

type waiter struct {
	c *client
	t *place
}

func (m *model) begin(n int) {
	q := m.q
	c := q.client(clientkey.Of(addr(byte(n))))
	m.wait(c, &place{done: make(chan struct{})})
}

// resume has a paused handshake ask for its turn again.
func (m *model) resume(p paused) {
	c := p.c
	if !p.counted {
		c = m.q.client(c.key)
	}
	m.wait(c, &place{done: make(chan struct{}), again: true, counted: p.counted})
}

// wait stands in the line.
func (m *model) wait(c *client, t *place) {
	q := m.q
	m.all = append(m.all, &waiter{c, t})
	m.quietly(func() { q.stand(c, t) })
	m.dispatch()
	for q.waiting > q.limits.Waiting && t.at != nil {
		most := 0
		for _, c := range q.clients {
			most = max(most, c.waiting.Len())
		}
		if q.most.first().waiting.Len() != most {
			panic("the one that loses is not the one with the most waiting")
		}
		lost := &waiter{q.most.first(), q.most.first().waiting.last()}
		m.quietly(func() { q.refuse(lost.c) })
		m.dispatch()
	}
	m.settle()
}

// quietly does something that would hand out turns, without handing out any: m.dispatch
// does that, where it can be watched.
func (m *model) quietly(do func()) {
	limit := m.q.limits.InFlight
	m.q.limits.InFlight = 0
	do()
	m.q.limits.InFlight = limit
}

// dispatch watches one turn after the other.
func (m *model) dispatch() {
	q := m.q
	limit := q.limits.InFlight
	for {
		before := map[*client]int{}
		for _, c := range q.clients {
			before[c] = c.waiting.Len()
		}
		could := map[*client]bool{}
		for _, c := range q.clients {
			could[c] = q.able(c) && (c.waiting.first().again || q.tokens(c) >= token)
			if !could[c] { // whether somebody gets a turn now or not
				delete(m.since, c)
			}
		}
		q.limits.InFlight = min(limit, q.inFlight+1) // one at a time
		q.dispatch()
		q.limits.InFlight = limit
		var got *client
		for c, n := range before {
			if c.waiting.Len() < n {
				got = c
			}
		}
		if got == nil {
			return
		}
		m.run = append(m.run, got)
		delete(m.since, got)
		for c, able := range could {
			switch {
			case c == got:
			case able:
				if m.since[c] == nil {
					m.since[c] = map[*client]int{}
				}
				if m.since[c][got]++; m.since[c][got] > 1 {
					panic("a client got two turns while another one that could begin got none")
				}
			}
		}
	}
}

// able says whether a waiting handshake of a client could begin or go on, if tokens are
// ignored.
func (q *Queue) able(c *client) bool {
	return c.waiting.lanes[0].Len() > 0 || c.waiting.Len() > 0 && c.inFlight < q.limits.InFlightPerClient
}

// pay settles with a client: it has cost more than it has paid, or less.
func (m *model) pay(t *rapid.T) {
	c := m.q.client(clientkey.Of(addr(byte(rapid.IntRange(1, 5).Draw(t, "who pays")))))
	cost := rapid.Float64Range(-1, 40).Draw(t, "how much")
	m.debt += max(cost, 0)
	m.q.pay(c, cost)
	m.dispatch()
}

// pause pauses a handshake that is worked on, or resumes one that is paused.
func (m *model) pause(t *rapid.T) {
	if len(m.off) > 0 && rapid.Bool().Draw(t, "resumes") {
		p := m.off[0]
		m.off = m.off[1:]
		m.resume(p)
		return
	}
	if len(m.run) == 0 {
		return
	}
	c := m.run[0]
	m.run = m.run[1:]
	counted := rapid.Bool().Draw(t, "for its client")
	m.q.inFlight--
	if !counted {
		c.inFlight--
		m.q.place(c)
	}
	m.off = append(m.off, paused{c, counted})
	m.dispatch()
}

// settle removes what waits no longer.
func (m *model) settle() {
	var left []*waiter
	for _, w := range m.all {
		if w.t.at != nil {
			left = append(left, w)
		}
	}
	m.all = left
	for c := range m.since {
		if c.waiting.Len() == 0 { // who comes to wait again begins anew
			delete(m.since, c)
		}
	}
}

// In any sequence of calls no client that could begin is passed over twice by the same
// client, no slot stays free while a handshake could have it, every bound holds, and
// nothing is lost or counted twice.
func TestFairness(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{now: time.Unix(1e9, 0), since: map[*client]map[*client]int{}}
		m.q = New(Limits{
			InFlight:          rapid.IntRange(1, 6).Draw(t, "in flight"),
			InFlightPerClient: rapid.IntRange(1, 4).Draw(t, "per client"),
			PerSecond:         rapid.IntRange(1, 30).Draw(t, "per second"),
			Waiting:           rapid.IntRange(1, 12).Draw(t, "waiting"),
		}, func() time.Time { return m.now })
		m.q.timer = time.AfterFunc(time.Hour, func() {}) // time is the model's: nothing else looks
		defer m.q.timer.Stop()
		for range rapid.IntRange(1, 120).Draw(t, "steps") {
			switch rapid.IntRange(0, 12).Draw(t, "what") {
			case 0, 1, 2, 3:
				m.begin(rapid.IntRange(1, 5).Draw(t, "who"))
			case 4, 5, 6:
				if len(m.run) > 0 {
					i := rapid.IntRange(0, len(m.run)-1).Draw(t, "ends")
					c := m.run[i]
					m.run = append(m.run[:i], m.run[i+1:]...)
					c.inFlight--
					m.q.inFlight--
					m.q.place(c)
					m.dispatch()
				}
			case 7:
				if len(m.all) > 0 {
					w := m.all[rapid.IntRange(0, len(m.all)-1).Draw(t, "gives up")]
					m.quietly(func() { m.q.drop(w.c, w.t) })
					m.dispatch()
				}
			case 8:
				m.pause(t)
			case 12:
				m.pay(t)
			default:
				m.now = m.now.Add(time.Duration(rapid.IntRange(0, 400).Draw(t, "ms")) * time.Millisecond)
				m.dispatch()
			}
			m.settle()
			m.check(t)
		}
	})
}

func (m *model) check(t *rapid.T) {
	q := m.q
	if q.inFlight != len(m.run) || q.inFlight > q.limits.InFlight {
		t.Fatalf("%d in flight, counted as %d, at most %d", len(m.run), q.inFlight, q.limits.InFlight)
	}
	if q.waiting != len(m.all) || q.waiting > q.limits.Waiting {
		t.Fatalf("%d wait, counted as %d, at most %d", len(m.all), q.waiting, q.limits.Waiting)
	}
	inRound := map[*client]bool{}
	for e := q.ready.Front(); e != nil; e = e.Next() {
		inRound[e.Value.(*client)] = true
	}
	waiting := 0
	for _, c := range q.clients {
		waiting += c.waiting.Len()
		if c.inFlight < 0 || c.inFlight > q.limits.InFlightPerClient || c.tokens < tokensOf(-m.debt)-1000 || c.tokens > q.full() {
			t.Fatalf("client %s: %d in flight, %d tokens", c.key, c.inFlight, c.tokens)
		}
		if inRound[c] != (c.round != nil) || (c.mostAt >= 0) != (c.waiting.Len() > 0) {
			t.Fatalf("client %s is not where it says", c.key)
		}
		able := q.able(c)
		if (c.round != nil || c.starvedAt >= 0) != able {
			t.Fatalf("client %s could begin: %v, but it is in round: %v, starved: %v", c.key, able, c.round != nil, c.starvedAt >= 0)
		}
	}
	if waiting != q.waiting {
		t.Fatalf("the clients have %d waiting, the queue %d", waiting, q.waiting)
	}
	if q.inFlight < q.limits.InFlight && q.ready.Len() > 0 {
		t.Fatal("a slot is free while somebody could have it")
	}
}
