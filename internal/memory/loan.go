package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// ErrNoRoom is why a loan is refused or recalled.
var ErrNoRoom = errors.New("limits.memory has no room for it now")

const (
	// loanAt is how much of the limit may be in use with a loan, in percent:
	// flows are not refused for it.
	loanAt = fullAt
	// loanFloor is the part of the limit that loans get in any case, up to the level
	// at which flows are ended: flows that hold more than loanAt must not keep every
	// list out.
	loanFloor = 16
	// loanShare is the part of the limit that all loans together may have.
	loanShare = 2
	// recallFor is how long who has borrowed may take to give back. Flows end
	// after it all the same.
	recallFor = time.Second
	// worthMeasuring is the loan that is worth calling back, and after whose
	// return a collection is made before anything rests on what is in use, in bytes.
	worthMeasuring = 1 << 20
	// worthFreeing is the loan whose memory is given back to the system after it.
	worthFreeing = 16 << 20
)

// Loan is memory for something that is read and made into something else: a
// revocation list, a configuration. It is asked for before it is used, and it
// is called back before a live flow is ended for want of memory. Its methods
// may be called by anyone at any time; those of a nil Loan grant everything.
type Loan struct {
	b      *Budget
	ctx    context.Context // ends with the loan, for Take to see
	cancel context.CancelCauseFunc

	taken int64 // guarded by b.loans.mu, as the next
	most  int64 // that taken was
}

// loans are those of a Budget that were not returned.
type loans struct {
	mu   sync.Mutex
	live map[*Loan]struct{}
	lent int64 // bytes of all
	// unmeasured are the bytes lent since the last collection, given back or not: what
	// was made with them is not in its figures, whether it is garbage now or stays.
	unmeasured int64
	shortSince time.Time // when loans were called back first in this shortage; zero: they were not
	refused    uint64    // requests
	recalled   uint64    // loans
}

// Borrow begins a loan, of nothing yet. The returned context ends when the loan
// is called back, and then context.Cause of it is ErrNoRoom. The caller returns the
// loan. A nil Budget lends without a bound.
func (b *Budget) Borrow(ctx context.Context) (context.Context, *Loan) {
	if b == nil {
		return ctx, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	l := &Loan{b: b, ctx: ctx, cancel: cancel}
	b.loans.mu.Lock()
	defer b.loans.mu.Unlock()
	if b.loans.live == nil {
		b.loans.live = map[*Loan]struct{}{}
	}
	b.loans.live[l] = struct{}{}
	return ctx, l
}

// Take asks for n bytes more. It never waits for room; the error is ErrNoRoom,
// wrapped, or why the loan's context has ended.
func (l *Loan) Take(n int64) error {
	if l == nil || n <= 0 {
		return nil
	}
	if l.ctx.Err() != nil {
		return context.Cause(l.ctx)
	}
	b := l.b
	free, back := b.lend(l, n)
	if free < n && b.collectForLoan(back) {
		free, _ = b.lend(l, n)
	}
	if free < n {
		b.loans.mu.Lock()
		b.loans.refused++
		b.loans.mu.Unlock()
		return fmt.Errorf("%w: %d KiB more are wanted, %d KiB are free for what is loaded", ErrNoRoom, (n+1023)>>10, max(free, 0)>>10)
	}
	return nil
}

// lend adds n bytes to the loan if as many are free, and says how many were, and
// of how many that were given back only a collection can tell whether they are
// garbage.
func (b *Budget) lend(l *Loan, n int64) (free, back int64) {
	b.mu.Lock()
	b.lookAgain()
	b.mu.Unlock()
	b.loans.mu.Lock()
	defer b.loans.mu.Unlock()
	o := &b.loans
	used := b.inUse.Load() + b.admitted.Load()*FlowReserve + o.unmeasured
	free = min(b.limit/100*loanAt-used, b.limit/loanShare-o.lent)
	free = max(free, min(b.limit/100*(overAt-1)-used, b.limit/loanFloor-o.lent))
	if free >= n {
		o.lent += n
		o.unmeasured += n
		l.taken += n
		l.most = max(l.most, l.taken)
	}
	return free, o.unmeasured - o.lent
}

// collectForLoan makes a collection if the last one is old enough, for what was
// alive then may be garbage now, or if much was given back since.
func (b *Budget) collectForLoan(back int64) bool {
	b.mu.Lock()
	due := back >= worthMeasuring || b.cfg.now().Sub(b.cycleAt) >= collectEvery
	b.mu.Unlock()
	if !due {
		return false
	}
	b.cfg.collect()
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.observe() == nil
}

// Taken is how many bytes were taken and not given back.
func (l *Loan) Taken() int64 {
	if l == nil {
		return 0
	}
	l.b.loans.mu.Lock()
	defer l.b.loans.mu.Unlock()
	return l.taken
}

// Give returns n bytes of the loan.
func (l *Loan) Give(n int64) {
	if l == nil || n <= 0 {
		return
	}
	l.b.loans.mu.Lock()
	l.give(n)
	l.b.loans.mu.Unlock()
	l.b.left(n >= worthMeasuring, false)
}

// left says that what was lent is garbage now: if it was large, a collection
// comes before any flow ends, and if it was huge, that gives it back to the system.
func (b *Budget) left(large, huge bool) {
	if !large {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.measured = false
	b.giveBack = b.giveBack || huge
}

func (l *Loan) give(n int64) {
	n = min(n, l.taken)
	l.taken -= n
	l.b.loans.lent -= n
}

// Return ends the loan. What was made with it and stays is measured like all
// else from now on.
func (l *Loan) Return() {
	if l == nil {
		return
	}
	l.cancel(context.Canceled)
	o := &l.b.loans
	o.mu.Lock()
	large, huge := l.most >= worthMeasuring, l.most >= worthFreeing
	l.give(l.taken)
	delete(o.live, l)
	o.mu.Unlock()
	l.b.left(large, huge)
}

// noShortage says that loans are not called back any more: the next shortage has
// a time of its own.
func (b *Budget) noShortage() {
	b.loans.mu.Lock()
	b.loans.shortSince = time.Time{}
	b.loans.mu.Unlock()
}

// recall calls all loans back; it says whether there is something to be waited
// for before flows are ended. In one shortage they are waited for once, whoever
// borrows meanwhile.
func (b *Budget) recall() bool {
	o := &b.loans
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lent < worthMeasuring {
		return false
	}
	now := b.cfg.now()
	if o.shortSince.IsZero() {
		o.shortSince = now
		b.cfg.Log.Warn("memory is short: what is being loaded gives way to flows", zap.Int64("bytes", o.lent))
	}
	for l := range o.live {
		if l.ctx.Err() == nil {
			o.recalled++
			l.cancel(ErrNoRoom)
		}
	}
	return now.Sub(o.shortSince) < recallFor
}
