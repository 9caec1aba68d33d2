package sender

import (
	"container/heap"
	"sync"
	"time"
)

// timers is a heap with one deadline for each flow. Deadlines are only ever made earlier:
// a flow whose deadline has become later finds that out when the old one comes. So a flow
// that runs well touches the heap a few times a second.
type timers struct {
	mu     sync.Mutex
	heap   deadlines
	wake   chan struct{}
	over   chan struct{}
	closed bool
	asleep time.Duration // until when run sleeps; 0: it is awake
}

// deadlines implements heap.Interface.
type deadlines []*flow

func (d deadlines) Len() int           { return len(d) }
func (d deadlines) Less(i, j int) bool { return d[i].deadline < d[j].deadline }
func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i, j
}

// Push is called by heap.
func (d *deadlines) Push(x any) {
	f, _ := x.(*flow)
	f.place = len(*d)
	*d = append(*d, f)
}

// Pop is called by heap.
func (d *deadlines) Pop() any {
	last := len(*d) - 1
	f := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	f.place = -1
	return f
}

const never = time.Duration(1<<63 - 1)

func (t *timers) init() { t.wake, t.over = make(chan struct{}, 1), make(chan struct{}) }

// set makes the deadline of a flow at the latest at.
func (t *timers) set(f *flow, at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return
	case f.place < 0:
		f.deadline = at
		heap.Push(&t.heap, f)
	case at < f.deadline:
		f.deadline = at
		heap.Fix(&t.heap, f.place)
	default:
		return
	}
	if at < t.asleep {
		t.asleep = 0
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
}

// drop removes the deadline of a flow.
func (t *timers) drop(f *flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.place >= 0 && !t.closed {
		heap.Remove(&t.heap, f.place)
	}
}

// next takes out the first flow whose deadline has come; otherwise it returns the time
// until the next.
func (t *timers) next(now time.Duration) (f *flow, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asleep = 0
	if len(t.heap) > 0 && t.heap[0].deadline <= now {
		f, _ = heap.Pop(&t.heap).(*flow)
		return f, 0
	}
	t.asleep, wait = never, time.Hour
	if len(t.heap) > 0 {
		t.asleep = t.heap[0].deadline
		wait = t.asleep - now
	}
	return nil, wait
}

func (t *timers) run(now func() time.Duration, fire func(*flow)) {
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for {
		f, wait := t.next(now())
		if f != nil {
			f.unset()
			fire(f)
			continue
		}
		alarm.Reset(wait)
		select {
		case <-alarm.C:
		case <-t.wake:
		case <-t.over:
			return
		}
	}
}

func (t *timers) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.closed, t.heap = true, nil
		close(t.over)
	}
}
