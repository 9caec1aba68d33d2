package line

import (
	"container/heap"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// packet is a packet in transit.
type packet struct {
	due   time.Time
	order uint64 // order among packets that are due at the same time
	data  []byte // with its virtio_net_hdr
}

// lane is one direction of the line.
type lane struct {
	in, out *os.File
	wake    chan struct{} // a packet that is due before all others has come
	over    chan struct{}
	large   sync.Pool // of *[maxFrame]byte: to allocate each large frame would be a line's greatest cost

	mu     sync.Mutex
	queue  packets
	held   int // bytes in queue
	order  uint64
	idleAt time.Time // when the bottleneck has sent all that waits
	path   *Path     // the path that random was started for
	random *rand.Rand
	count  Stats
}

func newLane(in, out *os.File) *lane {
	return &lane{in: in, out: out, wake: make(chan struct{}, 1), over: make(chan struct{})}
}

func (w *lane) stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count.Unread += unread(w.in)
	return w.count
}

// unread returns how many frames the kernel has dropped at a packet socket since the last call
// (PACKET_STATISTICS, packet(7)); 0 if the socket is closed.
func unread(f *os.File) (n uint64) {
	c, err := f.SyscallConn()
	if err != nil {
		return 0
	}
	_ = c.Control(func(fd uintptr) {
		if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = uint64(s.Drops)
		}
	})
	return n
}

// fate is what happens to a piece.
type fate uint8

const (
	inTime fate = iota
	late
	lost
)

// take decides the fate of a frame that came in at now. The frame is only valid until take
// returns.
func (w *lane) take(frame []byte, p *Path, now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.path != p {
		w.path, w.random = p, rand.New(rand.NewPCG(p.Seed, 0)) //nolint:gosec // a test that can be repeated
	}
	s, whole := parse(frame)
	n := 1
	if whole {
		n = s.pieces
	}
	w.count.Packets += uint64(n)
	if p.Loss == 0 && p.Late == 0 {
		w.push(w.kept(frame), n, 0, now)
		return
	}
	part := func(int, int) []byte { return w.kept(frame) }
	if whole {
		part = s.cut
	}
	i, f := 0, w.roll()
	for j := 1; j <= n; j++ {
		next := f
		if j < n {
			if next = w.roll(); next == f {
				continue
			}
		}
		w.follow(f, part, i, j, now)
		i, f = j, next
	}
}

// kept returns a copy of a frame, valid until done.
func (w *lane) kept(frame []byte) []byte {
	if len(frame) <= maxFrame/4 {
		return append([]byte(nil), frame...)
	}
	b, ok := w.large.Get().(*[maxFrame]byte)
	if !ok {
		b = new([maxFrame]byte)
	}
	return b[:copy(b[:], frame)]
}

// done frees what kept returned.
func (w *lane) done(data []byte) {
	if cap(data) == maxFrame {
		w.large.Put((*[maxFrame]byte)(data[:maxFrame]))
	}
}

// roll decides the fate of the next piece.
func (w *lane) roll() fate {
	switch x := w.random.Float64(); {
	case x < w.path.Loss:
		return lost
	case x < w.path.Loss+w.path.Late:
		return late
	}
	return inTime
}

// follow applies fate f to the pieces from i up to, but without, j.
func (w *lane) follow(f fate, part func(i, j int) []byte, i, j int, now time.Time) {
	switch f {
	case lost:
		w.count.Lost += uint64(j - i)
	case late:
		w.count.Late += uint64(j - i)
		w.push(part(i, j), j-i, w.path.LateBy, now)
	case inTime:
		w.push(part(i, j), j-i, 0, now)
	}
}

// push puts data in transit; w.mu is held.
func (w *lane) push(data []byte, n int, more time.Duration, now time.Time) {
	p := w.path
	start := now
	if p.Rate > 0 {
		if w.idleAt.Before(now) {
			w.idleAt = now
		}
		if waiting := float64(p.Rate) / 8 * w.idleAt.Sub(now).Seconds(); waiting+float64(len(data)) > float64(p.Queue) {
			w.count.Full += uint64(n)
			return
		}
		w.idleAt = w.idleAt.Add(time.Duration(float64(len(data)*8) / float64(p.Rate) * float64(time.Second)))
		start = w.idleAt
	}
	if w.held+len(data) > maxQueue {
		w.count.Failed += uint64(n)
		return
	}
	w.held += len(data)
	w.order++
	heap.Push(&w.queue, packet{due: start.Add(p.Delay + more), order: w.order, data: data})
	if w.queue[0].order == w.order {
		select {
		case w.wake <- struct{}{}:
		default: // a wake-up is pending already
		}
	}
}

// due returns the data that is due at now. If there is none, it returns how long to wait.
func (w *lane) due(now time.Time) (data []byte, wait time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		return nil, time.Hour
	}
	if wait := w.queue[0].due.Sub(now); wait > 0 {
		return nil, wait
	}
	p := heap.Pop(&w.queue).(packet)
	w.held -= len(p.data)
	return p.data, 0
}

// packets is a heap.Interface, the next one first.
type packets []packet

func (q packets) Len() int      { return len(q) }
func (q packets) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q packets) Less(i, j int) bool {
	if !q[i].due.Equal(q[j].due) {
		return q[i].due.Before(q[j].due)
	}
	return q[i].order < q[j].order
}
func (q *packets) Push(x any) { *q = append(*q, x.(packet)) }
func (q *packets) Pop() any {
	last := len(*q) - 1
	p := (*q)[last]
	(*q)[last] = packet{}
	*q = (*q)[:last]
	return p
}
