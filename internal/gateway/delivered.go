package gateway

import (
	"sync"
	"sync/atomic"
)

// receiver is one side's TCP, as it is written to. stack.Conn and socket are.
type receiver interface {
	// Written is how many bytes TCP has taken so far.
	Written() uint64
	// Acked is how many of them the peer's TCP has acknowledged. gone says that
	// there will be no more.
	Acked() (n uint64, gone bool)
}

// delivery counts one direction of a relay: what was handed to the receiver's TCP,
// and what of it has arrived there. Data and TCP's bytes are two measures where
// the receiver has TLS: marks lead from one to the other.
type delivery struct {
	to    receiver     // nil: nobody knows what arrives
	plain bool         // the receiver has no TLS
	moved atomic.Int64 // bytes of data; those of a write under way too

	mu     sync.Mutex
	first  mark
	marks  []mark // in order; what is between two is of one kind most often
	last   mark   // after the last write that went well
	frozen bool
	kept   int64 // what had arrived when it was frozen
}

// mark says that so many bytes of data were in so many bytes of TCP.
type mark struct {
	raw  uint64
	data int64
}

const (
	// markEvery is the distance of marks in bytes, and maxMarks their number: no
	// more than 4 MiB wait for most peers, and where more do, the oldest of them
	// are told apart less exactly.
	markEvery = 128 << 10
	maxMarks  = 32
	// fullRecord and its overhead are what a large write is cut into (RFC 8446,
	// section 5.2: type and tag, and the header).
	fullRecord     = 1 << 14
	recordOverhead = 5 + 1 + 16
)

// aim sets where the bytes go, before the first of them.
func (t *delivery) aim(to receiver, plain bool) {
	t.to, t.plain = to, plain
	if to != nil {
		t.first.raw = to.Written()
		t.last = t.first
	}
}

// wrote is told after each write that went well. One goroutine writes.
func (t *delivery) wrote() {
	if t.to == nil {
		return
	}
	m := mark{t.to.Written(), t.moved.Load()}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = m
	before := t.first
	if len(t.marks) > 0 {
		before = t.marks[len(t.marks)-1]
	}
	if m.raw-before.raw < markEvery {
		return
	}
	if len(t.marks) == maxMarks {
		t.marks = t.marks[:copy(t.marks, t.marks[1:])]
	}
	t.marks = append(t.marks, m)
}

// arrived says whether the peer's TCP has acknowledged all data, or, with all,
// whatever was written; gone that it acknowledges no more.
func (t *delivery) arrived(all bool) (yes, gone bool) {
	if t.to == nil {
		return true, false
	}
	acked, gone := t.to.Acked()
	t.mu.Lock()
	want := t.last.raw
	t.mu.Unlock()
	if all {
		want = t.to.Written()
	}
	return acked >= want, gone
}

// freeze notes what has arrived: the connection is about to be reset, and what
// waits is thrown away with it.
func (t *delivery) freeze() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.frozen {
		t.kept, t.frozen = t.deliveredLocked(), true
	}
}

// delivered is how many bytes of data the peer's TCP has acknowledged.
func (t *delivery) delivered() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.frozen {
		return t.kept
	}
	return t.deliveredLocked()
}

func (t *delivery) deliveredLocked() int64 {
	moved := t.moved.Load()
	if t.to == nil {
		return moved
	}
	acked, _ := t.to.Acked()
	if acked >= t.last.raw {
		return min(moved, t.last.data+t.partly(acked-t.last.raw))
	}
	lo, hi := t.first, t.last // the marks on both sides of acked
	for i := len(t.marks) - 1; i >= 0; i-- {
		if t.marks[i].raw <= acked {
			lo = t.marks[i]
			break
		}
		hi = t.marks[i]
	}
	if acked <= lo.raw {
		return lo.data
	}
	// Of what is between the two the same part in either measure.
	part := float64(acked-lo.raw) / float64(hi.raw-lo.raw)
	return lo.data + int64(part*float64(hi.data-lo.data))
}

// partly is how much data is in the first raw bytes of a write that failed.
// With TLS only whole records count: nobody can read part of one.
func (t *delivery) partly(raw uint64) int64 {
	if t.plain {
		return int64(raw)
	}
	return int64(raw / (fullRecord + recordOverhead) * fullRecord)
}
