package sender

import (
	"slices"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
)

// packet is a packet of netstack that is not acknowledged, or not even sent. Its bytes
// are counted from the first of its data; a FIN is one more behind the data.
type packet struct {
	pkt   *gstack.PacketBuffer // a reference of our own
	seq   uint32               // of the first byte
	size  int                  // bytes, with the FIN
	data  int                  // bytes of data
	mss   int                  // into which it is cut on the wire
	asIs  bool                 // it is to be cut as netstack made it
	stamp uint32               // the timestamp that netstack gave it
	acked int                  // bytes at its beginning that are acknowledged
	sent  int                  // bytes at its beginning that were sent
	open  int                  // bytes that were sent and not received so far, as far as is known
	runs  []run                // what was sent and is not acknowledged, in order, without holes
	first [1]run               // room for runs: most packets have one
	tx    transmission         // room for the first transmission
}

// run is a part of a packet whose bytes have the same fate.
type run struct {
	from, to int
	state    state
	tx       *transmission // the last one
}

type state uint8

const (
	underWay state = iota
	lost
	received // by a SACK block
)

// transmission is one time that a part of a packet was sent, and what the flow knew then
// (draft-cheng-iccrg-delivery-rate-estimation-02, section 3.1.2).
type transmission struct {
	p           *packet
	at          time.Duration
	from, to    int
	stamp       uint32
	again       bool // not the first time
	delivered   uint64
	deliveredAt time.Duration
	firstAt     time.Duration
	limited     bool
}

func (r run) size() int { return r.to - r.from }

func (p *packet) end() uint32 { return p.seq + uint32(p.size) }

// fin is the number of bytes before at that are a FIN.
func (p *packet) fin(at int) int { return max(at-p.data, 0) }

// index is that of the run in which the byte at is, or len(p.runs).
func (p *packet) index(at int) int {
	for i, r := range p.runs {
		if at < r.to {
			return i
		}
	}
	return len(p.runs)
}

// split makes a run begin at a byte, and returns its index.
func (p *packet) split(at int) int {
	i := p.index(at)
	if i == len(p.runs) || p.runs[i].from >= at {
		return i
	}
	left, right := p.runs[i], p.runs[i]
	left.to, right.from = at, at
	p.runs[i] = left
	p.runs = slices.Insert(p.runs, i+1, right)
	return i + 1
}

// whole rounds a range inwards to whole segments, so that no peer can make more runs than
// there are segments.
func (p *packet) whole(from, to int) (int, int) {
	from = (max(from, 0) + p.mss - 1) / p.mss * p.mss
	if to >= p.size {
		return from, p.size
	}
	return from, to / p.mss * p.mss
}

// queue is a list of packets in the order of their sequence numbers.
type queue struct {
	all  []*packet
	head int
}

func (q *queue) len() int         { return len(q.all) - q.head }
func (q *queue) at(i int) *packet { return q.all[q.head+i] }
func (q *queue) push(p *packet)   { q.all = append(q.all, p) }
func (q *queue) live() []*packet  { return q.all[q.head:] }

// pop takes the first packet out.
func (q *queue) pop() {
	q.all[q.head] = nil
	q.head++
	q.all, q.head = compact(q.all, q.head)
}

// find is the index of the first packet that ends behind seq.
func (q *queue) find(seq uint32) int {
	i, _ := slices.BinarySearchFunc(q.live(), seq, func(p *packet, seq uint32) int {
		if before(seq, p.end()) {
			return 1
		}
		return -1
	})
	return i
}

// compact moves a queue to the front of its array when half of the array is used up.
func compact[T any](all []T, head int) ([]T, int) {
	if head == len(all) {
		if cap(all) > 64 {
			return nil, 0
		}
		return all[:0], 0
	}
	if head >= 64 && head*2 >= len(all) {
		n := copy(all, all[head:])
		clear(all[n:])
		return all[:n], 0
	}
	return all, head
}

// log is a queue of transmissions.
type log struct {
	all  []*transmission
	head int
}

func (l *log) empty() bool          { return l.head == len(l.all) }
func (l *log) first() *transmission { return l.all[l.head] }
func (l *log) push(t *transmission) { l.all = append(l.all, t) }
func (l *log) pop() {
	l.all[l.head] = nil
	l.head++
	l.all, l.head = compact(l.all, l.head)
}
