package memory

import (
	"container/list"
	"sync/atomic"
	"time"
)

const (
	// settle is how long bytes that were let in are counted beside the measured memory,
	// because they are read and copied only a moment later.
	settle = 10 * time.Millisecond
	// lookGap is the least time between two measurements not made by Run: together they
	// take at most 1 % of a processor.
	lookGap = time.Millisecond
	// segmentMost is the most memory that one segment takes, in bytes: netstack's largest
	// buffer.
	segmentMost = 64 << 10
)

// intake bounds the bytes that may still be taken in until the next measurement. The
// Budget's mutex guards it.
type intake struct {
	credit   atomic.Int64 // bytes; a Take that finds any takes all it needs, so it may go below 0
	room     atomic.Int64 // bytes below the line at the last measurement
	segments atomic.Int64 // segments from clients since then

	given     int64 // what credit was set to
	now, then int64 // bytes let in since turned, and in the settle before it
	turned    time.Time
	waiting   list.List // of *taker, in their order
	closed    bool      // nobody is let in, whatever room there is
	open      bool      // nobody measures any more: everybody is let in
}

// taker waits for its turn to read.
type taker struct {
	bytes int64
	ready chan struct{} // closed when the taker may read
}

// refill lets in takers for whom room has space, less what was let in a moment ago.
func (in *intake) refill(room int64, at time.Time) {
	left := in.credit.Load()
	in.now += in.given - left
	if age := at.Sub(in.turned); age >= settle {
		// If more time than settle has passed, the average share of its last part.
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
	in.credit.Add(credit - left) // Add, because others take meanwhile
	in.room.Store(room)
	in.segments.Store(0)
}

// Take asks to read n bytes that will be held. While there is no room for them it waits,
// in the order of the calls, at most until done is closed. Far from the ceiling it costs
// one atomic addition. It says whether it has waited.
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
		in.waiting.Remove(place) // does nothing if it was let in meanwhile
		b.mu.Unlock()
	}
	return true
}

// lookAgain measures unless somebody did within lookGap. The caller holds b.mu.
func (b *Budget) lookAgain() {
	if b.cfg.now().Sub(b.looked) >= lookGap {
		_ = b.observe() // Run meets the same error and returns it
	}
}

// close stops the intake if yes, and otherwise opens it again for as much as there is
// room for.
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

// Flooded says that no data of clients may be taken. It is called for each segment, and
// measures once the segments since the last measurement could have filled half the room.
// Where that does not come about, because who measures waits for a processor, segments that
// could reach the line of Flood are not taken either.
func (b *Budget) Flooded() bool {
	in := &b.intake
	if in.segments.Add(1)*segmentMost*2 > in.room.Load() && b.mu.TryLock() {
		b.lookAgain()
		b.mu.Unlock()
	}
	ceiling := b.ceiling.Load()
	return b.Level() >= Flood || in.segments.Load()*segmentMost > max(in.room.Load(), 0)+floodLine(ceiling)-stopLine(ceiling)
}
