package gateway

import (
	"sync"
	"sync/atomic"
)

// receiver is the TCP of the side that is written to: stack.Conn or socket.
type receiver interface {
	// Written is how many bytes TCP has taken so far.
	Written() uint64
	// Acked is how many of them the peer's TCP has acknowledged. gone says that it
	// will acknowledge no more.
	Acked() (n uint64, gone bool)
}

// delivery counts one direction of a relay: the data handed to the receiver's TCP, and
// how much of it the peer has acknowledged. With TLS, bytes of data and bytes of TCP
// differ; marks translate between them.
type delivery struct {
	to    receiver     // nil: it is unknown what arrives
	plain bool         // the receiver has no TLS
	moved atomic.Int64 // bytes of data, those of a write in progress included

	mu     sync.Mutex
	first  mark
	marks  []mark // in order; between two marks the records are mostly of one kind
	last   mark   // after the last write that went well
	frozen bool
	kept   int64 // what had arrived when it was frozen
}

// mark says that the first raw bytes of TCP carried the first data bytes of data.
type mark struct {
	raw  uint64
	data int64
}

const (
	// markEvery is the distance of marks in bytes, and maxMarks their number. Most peers
	// have at most 4 MiB outstanding. Where more is outstanding, the oldest part is
	// translated less exactly.
	markEvery = 128 << 10
	maxMarks  = 32
	// fullRecord and recordOverhead: a large write is cut into records of that size (RFC
	// 8446, section 5.2: the header, the type and the tag).
	fullRecord     = 1 << 14
	recordOverhead = 5 + 1 + 16
)

// aim sets the receiver, before the first byte is written.
func (t *delivery) aim(to receiver, plain bool) {
	t.to, t.plain = to, plain
	if to != nil {
		t.first.raw = to.Written()
		t.last = t.first
	}
}

// wrote is called after each successful write, by one goroutine only.
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

// arrived says whether the peer's TCP has acknowledged all data (with all: everything
// that was written). gone says that it will acknowledge no more.
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

// freeze keeps the count of what has arrived. It is called before a reset, which throws
// away what still waits.
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
	// Between two marks, assume the same proportion of data and of raw bytes.
	part := float64(acked-lo.raw) / float64(hi.raw-lo.raw)
	return lo.data + int64(part*float64(hi.data-lo.data))
}

// partly is how much data is in the first raw bytes of a write that failed. With TLS
// only whole records count: a peer cannot decrypt part of a record.
func (t *delivery) partly(raw uint64) int64 {
	if t.plain {
		return int64(raw)
	}
	return int64(raw / (fullRecord + recordOverhead) * fullRecord)
}
