package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// ErrNoRoom is the error of a loan that is refused or called back.
var ErrNoRoom = errors.New("limits.memory has no room for it now")

const (
	// loanAt is how much of the limit may be in use with a loan, in percent: no flow is
	// refused because of a loan.
	loanAt = fullAt
	// loanFloor is the part of the limit, one sixteenth, that loans get in any case, up
	// to the level at which flows are ended. Otherwise flows that hold more than loanAt
	// would keep every list out.
	loanFloor = 16
	// loanShare is the part of the limit, one half, that all loans together may have.
	loanShare = 2
	// recallFor is how long borrowers may take to give back; after it flows are ended all
	// the same.
	recallFor = time.Second
	// worthMeasuring is the size in bytes from which a loan is worth calling back, and
	// from which its return is followed by a collection before decisions rest on the
	// memory in use.
	worthMeasuring = 1 << 20
	// worthFreeing is the size in bytes of a loan after which memory is given back to the
	// system.
	worthFreeing = 16 << 20
)

// Loan is memory for something that is read and converted: a revocation list, a
// configuration. It is requested before it is used, and called back before a live flow is
// ended for lack of memory. Its methods may be called by any goroutine at any time; those
// of a nil Loan grant everything.
type Loan struct {
	b      *Budget
	ctx    context.Context // ends with the loan, for Take to see
	cancel context.CancelCauseFunc

	taken int64 // guarded by b.loans.mu, like the next field
	most  int64 // the largest that taken has been
}

// loans are the loans of a Budget that were not returned.
type loans struct {
	mu   sync.Mutex
	live map[*Loan]struct{}
	lent int64 // bytes of all loans
	// unmeasured are the bytes lent since the last collection, given back or not. That
	// collection's figures lack what was made with them, whether it is garbage now or
	// stays.
	unmeasured int64
	shortSince time.Time // when loans were first called back in this shortage; zero: they were not
	refused    uint64    // requests
	recalled   uint64    // loans
}

// Borrow begins a loan of 0 bytes. The returned context ends when the loan is called
// back, and context.Cause of it is then ErrNoRoom. The caller must return the loan. A nil
// Budget lends without a bound.
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

// Take asks for n bytes more. It never waits. The error wraps ErrNoRoom, or is the cause
// with which the loan's context has ended.
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

// lend adds n bytes to the loan if as many are free. It returns how many were free, and
// how many of the bytes that were given back only a collection can tell from garbage.
func (b *Budget) lend(l *Loan, n int64) (free, back int64) {
	b.mu.Lock()
	b.lookAgain()
	b.mu.Unlock()
	b.loans.mu.Lock()
	defer b.loans.mu.Unlock()
	o := &b.loans
	used := b.inUse.Load() + b.admitted.Load()*FlowReserve + o.unmeasured
	free = min(b.limit.Load()/100*loanAt-used, b.limit.Load()/loanShare-o.lent)
	free = max(free, min(b.limit.Load()/100*(overAt-1)-used, b.limit.Load()/loanFloor-o.lent))
	if free >= n {
		o.lent += n
		o.unmeasured += n
		l.taken += n
		l.most = max(l.most, l.taken)
	}
	return free, o.unmeasured - o.lent
}

// collectForLoan makes a collection if much was given back since the last one, or the
// last one is old: what was live then may be garbage now.
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

// Taken is how many bytes are taken and not given back.
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

// left records that lent memory is garbage now. After a large loan a collection comes
// before any flow is ended; after a huge one the collection gives memory back to the
// system.
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

// Return ends the loan. What was made with it and stays is measured like everything else
// from now on.
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

// noShortage records that the shortage is over, so that loans get a new recallFor in the
// next one.
func (b *Budget) noShortage() {
	b.loans.mu.Lock()
	b.loans.shortSince = time.Time{}
	b.loans.mu.Unlock()
}

// recall calls all loans back. It says whether to wait for them before flows are ended.
// Each shortage has one such wait, even if new loans begin meanwhile.
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
