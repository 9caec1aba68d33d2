package memory

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// Loans get what is free below three quarters of the limit, and at most half of the
// limit; what is returned can be lent again.
func TestLoansAreBounded(t *testing.T) {
	x := newBench(t) // the limit is 200 MiB, 10 are in use and more by stacks and the like
	_, l := x.b.Borrow(t.Context())
	if err := l.Take(101 * mib); !errors.Is(err, ErrNoRoom) {
		t.Errorf("more than half of the limit: %v", err)
	}
	if err := l.Take(60 * mib); err != nil {
		t.Fatal(err)
	}
	_, other := x.b.Borrow(t.Context())
	if err := other.Take(41 * mib); !errors.Is(err, ErrNoRoom) {
		t.Errorf("both together more than half: %v", err)
	}
	if err := other.Take(40 * mib); err != nil {
		t.Error(err)
	}
	other.Return()
	if st := x.b.Stats(); st.Lent != 60*mib || st.LoansRefused != 2 {
		t.Errorf("%+v", st)
	}
	l.Give(10 * mib)
	l.Give(1000 * mib) // no more than was taken
	l.Return()
	l.Return()
	if st := x.b.Stats(); st.Lent != 0 {
		t.Errorf("%+v", st)
	}
	if err := l.Take(1); !errors.Is(err, context.Canceled) {
		t.Errorf("after its return: %v", err)
	}
	// Flows hold much: there is room up to three quarters, not more.
	x.u.live, x.alive = 120*mib, 120*mib
	x.u.cycles++
	x.look(t)
	_, l = x.b.Borrow(t.Context())
	defer l.Return()
	if err := l.Take(40 * mib); !errors.Is(err, ErrNoRoom) {
		t.Errorf("beside flows that hold 120 of 200 MiB: %v", err)
	}
	if err := l.Take(20 * mib); err != nil {
		t.Error(err)
	}
	// The next collection measures what a loan has used, and it is not counted twice.
	x.u.live, x.alive = 140*mib, 140*mib
	x.u.cycles++
	x.look(t)
	if err := l.Take(8 * mib); err != nil {
		t.Errorf("counted twice: %v", err)
	}
}

// Flows that hold three quarters of the limit and more leave loans a part: lists are
// loaded beside them, but none that would end a flow.
func TestFlowsDoNotStarveLoans(t *testing.T) {
	x := newBench(t) // the limit is 200 MiB
	for held, want := range map[int64]int64{100: 12, 148: 12, 153: 12, 155: 12, 160: 8, 168: 0, 175: 0} {
		x.u.live, x.alive = held*mib, held*mib
		x.u.cycles++
		if err := x.b.observe(); err != nil {
			t.Fatal(err)
		}
		_, l := x.b.Borrow(t.Context())
		got := int64(0)
		for got < 12 && l.Take(mib) == nil {
			got++
		}
		l.Return()
		if got > want || got < want {
			t.Errorf("beside flows that hold %d MiB: %d MiB, want %d", held, got, want)
		}
	}
}

// What was live at the last collection may be garbage now: that is checked before a loan
// is refused.
func TestLoanMakesACollection(t *testing.T) {
	x := newBench(t)
	x.u.live, x.alive = 145*mib, 20*mib
	x.u.cycles++
	x.look(t)
	_, l := x.b.Borrow(t.Context())
	defer l.Return()
	if err := l.Take(50 * mib); !errors.Is(err, ErrNoRoom) || x.made != 0 {
		t.Errorf("a moment after a collection: %v, %d made", err, x.made)
	}
	x.now = x.now.Add(2 * collectEvery)
	if err := l.Take(50 * mib); err != nil || x.made != 1 {
		t.Errorf("%v, %d collections", err, x.made)
	}
}

// Before a flow is ended loans are called back, and what they leave is collected. A
// borrower that does not give back within a second is not waited for.
func TestLoansGiveWayToFlows(t *testing.T) {
	for _, obeys := range []bool{true, false} {
		x := newBench(t)
		x.held = 100 * mib
		ctx, l := x.b.Borrow(t.Context())
		small, s := x.b.Borrow(t.Context())
		if err := errors.Join(l.Take(60*mib), s.Take(1)); err != nil {
			t.Fatal(err)
		}
		x.u.live, x.alive = 175*mib, 115*mib
		x.u.cycles++
		x.look(t)
		if len(x.asked) != 0 || !errors.Is(context.Cause(ctx), ErrNoRoom) || !errors.Is(context.Cause(small), ErrNoRoom) {
			t.Fatalf("flows were asked for %v, the loan's end is %v", x.asked, context.Cause(ctx))
		}
		if err := l.Take(1); !errors.Is(err, ErrNoRoom) {
			t.Errorf("a loan that was called back grows: %v", err)
		}
		if !obeys {
			x.alive = 175 * mib
			x.now = x.now.Add(recallFor)
			x.look(t)
			if len(x.asked) != 1 {
				t.Error("flows hold the ceiling no more when a loan is kept")
			}
		}
		l.Return()
		s.Return()
		if obeys {
			x.look(t)
			if len(x.asked) != 0 || x.freed != 1 || x.b.Level() >= Over {
				t.Errorf("flows were asked for %v after %d collections, %s", x.asked, x.freed, x.b.Level())
			}
			if st := x.b.Stats(); st.LoansRecalled != 2 || st.LoansRefused != 0 || x.logged.FilterMessage("memory is short: what is being loaded gives way to flows").Len() != 1 {
				t.Errorf("%+v", st)
			}
		}
	}
}

// The end of the caller's context ends the loan with its cause.
func TestLoanEndsWithItsContext(t *testing.T) {
	x := newBench(t)
	ctx, stop := context.WithCancelCause(t.Context())
	in, l := x.b.Borrow(ctx)
	defer l.Return()
	why := errors.New("why")
	stop(why)
	if err := l.Take(1); !errors.Is(err, why) || !errors.Is(context.Cause(in), why) {
		t.Errorf("%v, %v", err, context.Cause(in))
	}
	var none *Budget
	if in, l := none.Borrow(t.Context()); in != t.Context() || l.Take(1<<40) != nil {
		t.Error("without a budget there is a bound")
	} else {
		l.Give(1)
		l.Return()
	}
}

// Loans from many goroutines: nothing is lent twice or lost.
func TestLoansTogether(t *testing.T) {
	x := newBench(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				_, l := x.b.Borrow(t.Context())
				for range 10 {
					if l.Take(5*mib) != nil {
						break
					}
					if lent := x.b.Stats().Lent; lent > 100*mib {
						t.Errorf("%d MiB are lent", lent/mib)
					}
				}
				l.Give(mib)
				l.Return()
			}
		})
	}
	wg.Wait()
	if st := x.b.Stats(); st.Lent != 0 {
		t.Errorf("%+v", st)
	}
}

// What was lent counts until a collection has measured it: given back, it is garbage or
// stays, and the same room is not lent twice meanwhile.
func TestReturnedLoansCount(t *testing.T) {
	for _, c := range []struct {
		name   string
		back   func(*Loan)
		stays  int64 // MiB of what was made, alive at the next collection
		then   int64 // MiB that the next one asks for
		wanted error
	}{
		{"returned, and all of it stays", (*Loan).Return, 90, 60, ErrNoRoom},
		{"returned, and all of it is garbage", (*Loan).Return, 0, 60, nil},
		{"given back bit by bit, most of it stays", func(l *Loan) {
			for range 90 {
				l.Give(mib)
			}
		}, 60, 90, ErrNoRoom},
		{"given back bit by bit, little of it stays", func(l *Loan) {
			for range 90 {
				l.Give(mib)
			}
		}, 5, 60, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBench(t) // the limit is 200 MiB, and a collection was made a moment ago
			_, l := x.b.Borrow(t.Context())
			defer l.Return()
			if err := l.Take(90 * mib); err != nil {
				t.Fatal(err)
			}
			c.back(l)
			if st := x.b.Stats(); st.Lent != 0 || st.Unmeasured != 90*mib {
				t.Errorf("%+v", st)
			}
			x.alive += c.stays * mib
			_, next := x.b.Borrow(t.Context())
			defer next.Return()
			if err := next.Take(c.then * mib); !errors.Is(err, c.wanted) || x.made != 1 {
				t.Errorf("%v after %d collections, want %v after one", err, x.made, c.wanted)
			}
			want := int64(0)
			if c.wanted == nil {
				want = c.then * mib
			}
			if st := x.b.Stats(); st.Unmeasured != want {
				t.Errorf("after the collection: %+v", st)
			}
		})
	}
}

// In one shortage loans are waited for once: a borrower that comes again and again does
// not keep flows from being ended. The next shortage has a wait of its own, even if
// somebody keeps a small loan.
func TestRecallOncePerShortage(t *testing.T) {
	x := newBench(t)
	x.held = 200 * mib
	_, keeps := x.b.Borrow(t.Context())
	defer keeps.Return()
	over := func() {
		t.Helper()
		x.u.live, x.alive = 175*mib, 175*mib
		x.u.cycles++
		x.look(t)
	}
	borrow := func() *Loan {
		t.Helper()
		_, l := x.b.Borrow(t.Context())
		x.b.loans.mu.Lock() // as if there had been room for it
		x.b.loans.lent += 2 * mib
		l.taken = 2 * mib
		x.b.loans.mu.Unlock()
		return l
	}
	for shortage := range 2 {
		x.asked = nil
		l := borrow()
		over()
		if len(x.asked) != 0 {
			t.Fatalf("shortage %d: flows were ended before the loan could be given back", shortage)
		}
		l.Return()
		l = borrow()
		x.now = x.now.Add(recallFor)
		over()
		if len(x.asked) != 1 {
			t.Errorf("shortage %d: who borrows again keeps flows from being ended", shortage)
		}
		l.Return()
		x.u.live, x.alive = 20*mib, 20*mib
		x.u.cycles++
		if got := x.look(t); got != Calm {
			t.Fatal(got)
		}
		x.now = x.now.Add(recallFor)
	}
	if st := x.b.Stats(); st.LoansRecalled != 5 { // the small one once
		t.Errorf("%d were called back", st.LoansRecalled)
	}
}
