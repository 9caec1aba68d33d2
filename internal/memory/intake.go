package memory

import (
	"container/list"
	"sync/atomic"
	"time"
)

const (
	// settle is how long what was let in is counted beside what is measured: it
	// is read and copied a moment later.
	settle = 10 * time.Millisecond
	// lookGap lies at least between two looks that are not Run's: they cost 1 %
	// of a processor then.
	lookGap = time.Millisecond
	// segmentMost is the most that one segment takes, in bytes: netstack's
	// largest buffer.
	segmentMost = 64 << 10
)

// intake is what may still be taken in until somebody looks at the memory
// again. Its mutex is the Budget's.
type intake struct {
	credit   atomic.Int64 // bytes; who finds some takes all it asks for, so it may go below 0
	room     atomic.Int64 // bytes below the line, at the last look
	segments atomic.Int64 // from clients since then

	given     int64 // what credit was set to
	now, then int64 // bytes let in since turned, and in the time before
	turned    time.Time
	waiting   list.List // of *taker, in their order
	closed    bool      // whatever room there is
	open      bool      // nobody looks any more
}

// taker waits for its turn to read.
type taker struct {
	bytes int64
	ready chan struct{} // closed when it may
}

// refill lets in what room has place for, less what was let in a moment ago.
func (in *intake) refill(room int64, at time.Time) {
	left := in.credit.Load()
	in.now += in.given - left
	if age := at.Sub(in.turned); age >= settle {
		// Of a longer time, what came in its last part, on average.
		in.then = int64(float64(in.now) * float64(settle) / float64(age))
		in.now, in.turned = 0, at
	}
	credit := room - in.then - in.now
	if in.closed {
		credit = min(credit, 0)
	}
	for credit > 0 && in.waiting.Len() > 0 {
		t := in.waiting.Remove(in.waiting.Front()).(*taker)
		credit -= t.bytes
		in.now += t.bytes
		close(t.ready)
	}
	in.given = credit
	in.credit.Add(credit - left) // others take meanwhile
	in.room.Store(room)
	in.segments.Store(0)
}

// Take asks to read n bytes that will be held, and waits while there is no room
// for them, in the order of asking, at most until done is closed. Far from the
// ceiling it costs one atomic addition. It says whether it has waited.
func (b *Budget) Take(n int, done <-chan struct{}) (waited bool) {
	in, size := &b.intake, int64(n)
	if in.credit.Add(-size) > -size {
		return false
	}
	in.credit.Add(size)
	b.mu.Lock()
	b.lookAgain()
	if in.open || in.waiting.Len() == 0 && in.credit.Load() > 0 {
		in.credit.Add(-size)
		b.mu.Unlock()
		return false
	}
	t := &taker{bytes: size, ready: make(chan struct{})}
	place := in.waiting.PushBack(t)
	b.mu.Unlock()
	select {
	case <-t.ready:
	case <-done:
		b.mu.Lock()
		in.waiting.Remove(place) // nothing, if it was let in meanwhile
		b.mu.Unlock()
	}
	return true
}

// lookAgain looks unless somebody has just done so. b.mu is held.
func (b *Budget) lookAgain() {
	if b.cfg.now().Sub(b.looked) >= lookGap {
		_ = b.observe() // Run meets the same error, and says it
	}
}

// close lets nobody in for a while, or those again for whom there is room.
func (b *Budget) close(yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.intake.closed = yes
	b.note(b.last, b.cfg.now())
}

// openIntake lets everybody in from now on.
func (b *Budget) openIntake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := &b.intake
	in.open = true
	for in.waiting.Len() > 0 {
		close(in.waiting.Remove(in.waiting.Front()).(*taker).ready)
	}
}

// Flooded says that nothing may be taken of what clients send. It is asked for
// each segment, and looks by itself once those could have filled half the room.
func (b *Budget) Flooded() bool {
	in := &b.intake
	if in.segments.Add(1)*segmentMost*2 > in.room.Load() && b.mu.TryLock() {
		b.lookAgain()
		b.mu.Unlock()
	}
	return b.Level() >= Flood
}
