package fairqueue

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

func addr(n byte) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, n}) }

// A client that holds all its turns does not delay another one.
func TestSlowClientHoldsNobodyUp(t *testing.T) {
	q := New(Limits{InFlight: 10, InFlightPerClient: 4, PerSecond: 1000, Waiting: 100}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var held atomic.Int64
	for range 60 {
		wg.Go(func() {
			end, err := q.Begin(ctx, addr(1))
			if err == nil {
				held.Add(1)
				<-ctx.Done()
				end.End()
			}
		})
	}
	testenv.Eventually(t, "four at work, the others waiting", func() bool { s := q.Stats(); return s.InFlight == 4 && s.Waiting == 56 })
	for range 50 {
		soon, done := context.WithTimeout(t.Context(), testenv.Patience())
		end, err := q.Begin(soon, addr(2))
		done()
		if err != nil {
			t.Fatalf("the other client waits: %v, %+v", err, q.Stats())
		}
		end.End()
		end.End() // once more does nothing
	}
	cancel()
	wg.Wait()
	if s := q.Stats(); held.Load() != 4 || s.InFlight != 0 || s.Waiting != 0 || s.Expired != 56 {
		t.Errorf("%d held, then %+v", held.Load(), s)
	}
}

// Over the bound of the queue the client with the most waiting loses its newest
// handshake, even if another client came last.
func TestFull(t *testing.T) {
	q := New(Limits{InFlight: 1, InFlightPerClient: 1, PerSecond: 1000, Waiting: 5}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := q.Begin(ctx, addr(9))
	if err != nil {
		t.Fatal(err)
	}
	defer first.End()
	var wg sync.WaitGroup
	begin := func(a netip.Addr) chan error {
		result := make(chan error, 1)
		before := q.Stats()
		wg.Go(func() {
			end, err := q.Begin(ctx, a)
			if err == nil {
				end.End()
			}
			result <- err
		})
		testenv.Eventually(t, "one more waits or is refused", func() bool { s := q.Stats(); return s.Waiting > before.Waiting || s.Refused > before.Refused })
		return result
	}
	var greedy []chan error
	for range 5 {
		greedy = append(greedy, begin(addr(1)))
	}
	begin(addr(2))
	if err := <-greedy[4]; !errors.Is(err, ErrFull) {
		t.Errorf("the newest of the greedy client got %v", err)
	}
	if err := <-begin(addr(1)); !errors.Is(err, ErrFull) {
		t.Errorf("one more of the greedy client got %v", err)
	}
	if s := q.Stats(); s.Refused != 2 || s.Waiting != 5 {
		t.Errorf("%+v", s)
	}
	cancel()
	wg.Wait()
}

// Over its rate a client waits until it has a token, and no longer; another client does
// not wait.
func TestRate(t *testing.T) { synctest.Test(t, testRate) }

func testRate(t *testing.T) {
	q := New(Limits{InFlight: 10, InFlightPerClient: 10, PerSecond: 20, Waiting: 100}, nil)
	one := func(a netip.Addr) {
		end, err := q.Begin(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		end.End()
	}
	start := time.Now()
	for range 20 { // the bucket
		one(addr(1))
	}
	if took := time.Since(start); took != 0 {
		t.Errorf("a full bucket took %s", took)
	}
	start = time.Now()
	for range 10 {
		one(addr(1))
	}
	if took := time.Since(start); took.Round(time.Millisecond) != 500*time.Millisecond {
		t.Errorf("10 beyond the bucket took %s, at 20 a second", took)
	}
	before := q.Stats().Waited
	one(addr(2))
	if q.Stats().Waited != before {
		t.Error("another client had to wait")
	}
}

func TestDeadline(t *testing.T) { synctest.Test(t, testDeadline) }

func testDeadline(t *testing.T) {
	q := New(Limits{InFlight: 1, InFlightPerClient: 1, PerSecond: 100, Waiting: 10}, nil)
	end, err := q.Begin(t.Context(), addr(1))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := q.Begin(ctx, addr(2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := q.Begin(ctx, addr(2)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a context that has ended: %v", err)
	}
	end.End()
	if s := q.Stats(); s.InFlight != 0 || s.Waiting != 0 || s.Expired != 1 {
		t.Errorf("%+v", s)
	}
}

func TestSetLimits(t *testing.T) {
	q := New(Limits{InFlight: 1, InFlightPerClient: 1, PerSecond: 1, Waiting: 10}, nil)
	first, err := q.Begin(t.Context(), addr(1))
	if err != nil {
		t.Fatal(err)
	}
	defer first.End()
	second := make(chan error)
	go func() {
		end, err := q.Begin(t.Context(), addr(1))
		if err == nil {
			end.End()
		}
		second <- err
	}()
	testenv.Eventually(t, "one waits", func() bool { return q.Stats().Waiting == 1 })
	q.SetLimits(Limits{InFlight: 2, InFlightPerClient: 2, PerSecond: 10000, Waiting: 10})
	if err := <-second; err != nil {
		t.Error(err)
	}
	q.SetLimits(Limits{}) // refuses nothing for good
	if s := q.Stats(); s.InFlightMax != 1 || s.WaitingMax != 1 {
		t.Errorf("%+v", s)
	}
}

// The table does not grow with the number of clients that ever came.
func TestTableIsBounded(t *testing.T) {
	now := time.Unix(1e9, 0)
	q := New(Limits{InFlight: 10, InFlightPerClient: 10, PerSecond: 2, Waiting: 10}, func() time.Time { return now })
	come := func(i int) {
		end, err := q.Begin(t.Context(), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
		if err != nil {
			t.Fatal(err)
		}
		end.End()
	}
	for i := range maxClients + 1000 {
		come(i)
	}
	if n := q.Stats().Clients; n > maxClients {
		t.Errorf("%d clients in the table, the bound is %d", n, maxClients)
	}
	now = now.Add(time.Minute) // every bucket is full again
	for i := range 30000 {
		come(1<<20 + i)
	}
	if n := q.Stats().Clients; n > 31000 {
		t.Errorf("%d clients in the table, 30000 came since their buckets were full", n)
	}
}

func BenchmarkBegin(b *testing.B) {
	q := New(Limits{InFlight: 1000, InFlightPerClient: 100, PerSecond: 1 << 30, Waiting: 1000}, nil)
	b.ReportAllocs()
	for b.Loop() {
		end, err := q.Begin(b.Context(), addr(1))
		if err != nil {
			b.Fatal(err)
		}
		end.End()
	}
}
