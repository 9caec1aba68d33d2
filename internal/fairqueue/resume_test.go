package fairqueue

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/work"
)

// resumed resumes a turn; the channel gets the error of Resume.
func resumed(ctx context.Context, t *testing.T, q *Queue, turn *Turn) chan error {
	t.Helper()
	result := make(chan error, 1)
	before := q.Stats().Waiting
	go func() { result <- turn.Resume(ctx) }()
	testenv.Eventually(t, "one more waits", func() bool { return q.Stats().Waiting == before+1 })
	return result
}

// held is a turn of a client, begun and paused.
func held(t *testing.T, q *Queue, client byte, whom For) *Turn {
	t.Helper()
	turn, err := q.Begin(t.Context(), addr(client))
	if err != nil {
		t.Fatal(err)
	}
	if !turn.Pause(whom) {
		t.Fatal("not paused")
	}
	return turn
}

// Among the handshakes of one client that resume, those that its bound still counts come
// first, because they need no more room. Then come the others, then the new ones; within
// each kind the oldest first.
func TestOrderOfThoseThatGoOn(t *testing.T) {
	for _, c := range []struct {
		name   string
		paused []For // in the order in which they ask again
		want   []int
	}{
		{"counted behind others", []For{ForOthers, ForClient}, []int{1, 0}},
		{"two others in front", []For{ForOthers, ForOthers, ForClient}, []int{2, 0, 1}},
		{"two others", []For{ForOthers, ForOthers}, []int{0, 1}},
		{"counted in front", []For{ForClient, ForOthers}, []int{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			q := New(Limits{InFlight: 1, InFlightPerClient: 1, PerSecond: 1000, Waiting: 10}, nil)
			turns := make([]*Turn, len(c.paused))
			for _, whom := range []For{ForOthers, ForClient} { // else the bound of the client would keep some out
				for i := range turns {
					if c.paused[i] == whom {
						turns[i] = held(t, q, 1, whom)
					}
				}
			}
			other, err := q.Begin(t.Context(), addr(2))
			if err != nil {
				t.Fatal(err)
			}
			again := make([]chan error, len(turns))
			for i, turn := range turns {
				again[i] = resumed(t.Context(), t, q, turn)
			}
			fresh := make(chan error, 1)
			go func() {
				turn, err := q.Begin(t.Context(), addr(1))
				if err == nil {
					turn.End()
				}
				fresh <- err
			}()
			testenv.Eventually(t, "all wait", func() bool { return q.Stats().Waiting == len(turns)+1 })
			end := other
			for n, i := range c.want {
				end.End()
				select {
				case err := <-again[i]:
					if err != nil {
						t.Fatal(err)
					}
				case <-time.After(testenv.Patience()):
					t.Fatalf("turn %d of the order does not come, %+v", n, q.Stats())
				}
				if s := q.Stats(); s.Waiting != len(turns)-n {
					t.Fatalf("after %d: %+v", n, s)
				}
				end = turns[i]
			}
			end.End()
			if err := <-fresh; err != nil {
				t.Fatal(err)
			}
			if s := q.Stats(); s.InFlight != 0 || s.Waiting != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// End while a turn waits to resume ends the wait, whoever the pause was for, and pays.
// Nothing of the turn stays.
func TestEndWhileResuming(t *testing.T) {
	for name, whom := range map[string]For{"for the client": ForClient, "for others": ForOthers} {
		t.Run(name, func(t *testing.T) {
			q := New(Limits{InFlight: 1, InFlightPerClient: 2, PerSecond: 1000, Waiting: 10}, nil)
			turn := held(t, q, 1, whom)
			other, err := q.Begin(t.Context(), addr(2))
			if err != nil {
				t.Fatal(err)
			}
			again := resumed(t.Context(), t, q, turn)
			before := q.Stats().Work
			turn.Cost(10 * work.Ordinary)
			turn.End()
			turn.End()
			if err := <-again; !errors.Is(err, context.Canceled) {
				t.Errorf("Resume says %v", err)
			}
			if paid := q.Stats().Work - before; paid != 9 {
				t.Errorf("%f were paid", paid)
			}
			if err := turn.Resume(t.Context()); !errors.Is(err, context.Canceled) {
				t.Errorf("Resume after it: %v", err)
			}
			other.End()
			nothingLeft(t, q)
		})
	}
}

// End at the very moment at which the turn resumes: whichever comes first, nothing of it
// stays and it is paid once.
func TestEndAsItGoesOn(t *testing.T) {
	q := New(Limits{InFlight: 1, InFlightPerClient: 2, PerSecond: 1_000_000, Waiting: 10}, nil)
	for i := range 500 {
		turn := held(t, q, 1, For(i%2))
		other, err := q.Begin(t.Context(), addr(2))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		again := resumed(ctx, t, q, turn)
		ended := make(chan struct{})
		go func() { turn.End(); close(ended) }()
		if i%3 == 0 {
			go cancel()
		}
		other.End()
		<-ended
		if err := <-again; err == nil {
			turn.End()
		} else if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
	nothingLeft(t, q)
}

// A turn that End has ended after its place had begun: Resume releases it at once.
func TestEndedInItsPlace(t *testing.T) {
	q := New(Limits{InFlight: 1, InFlightPerClient: 2, PerSecond: 1000, Waiting: 10}, nil)
	for _, whom := range []For{ForClient, ForOthers} {
		turn := held(t, q, 1, whom)
		other, err := q.Begin(t.Context(), addr(2))
		if err != nil {
			t.Fatal(err)
		}
		again := resumed(t.Context(), t, q, turn)
		q.mu.Lock() // who waits cannot look until both have happened
		q.release(other.c)
		other.state = ended
		q.pay(turn.c, 1)
		turn.state = ended // as End does where the place has begun
		q.mu.Unlock()
		if err := <-again; !errors.Is(err, context.Canceled) {
			t.Errorf("Resume says %v", err)
		}
		nothingLeft(t, q)
	}
}

// nothingLeft checks that the queue is as it was at the beginning.
func nothingLeft(t *testing.T, q *Queue) {
	t.Helper()
	if s := q.Stats(); s.InFlight != 0 || s.Waiting != 0 || s.ForClient != 0 || s.ForOthers != 0 {
		t.Errorf("%+v", s)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, c := range q.clients {
		if c.inFlight != 0 || c.waiting.Len() != 0 || c.round != nil {
			t.Errorf("client %s: %d in flight, %d wait", c.key, c.inFlight, c.waiting.Len())
		}
	}
}
