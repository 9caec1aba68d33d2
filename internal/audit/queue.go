package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// The way of a record: the flow encodes it and puts it into the queue; one goroutine takes it
// out and writes it. A record that cannot be written is tried again, so the queue fills while
// the sink is broken. OnFull says what then happens to flows.

const (
	// DefaultQueue is the number of records that may wait; at some 3 KiB each,
	// 12 MiB.
	DefaultQueue = 4096
	// MaxQueue bounds Config.Queue: some 200 MiB.
	MaxQueue = 65536

	// The time between two tries of a broken sink. It is short, so that a full disk with
	// room again is noticed at once.
	retryFirst = 50 * time.Millisecond
	retryMost  = time.Second

	// complainEvery bounds the messages about a broken sink and lost records.
	complainEvery = 10 * time.Second

	// gatherFor is how long a record waits for others while many come, unless gatherBytes
	// are reached before. The records that wait are lost if the process is killed.
	gatherFor = 5 * time.Millisecond
	// gatherBytes bounds one write: some twenty records.
	gatherBytes = 64 << 10

	// closeWait is how long Close waits for a sink that neither writes nor fails (a pipe
	// without a reader).
	closeWait = 3 * time.Second
)

// Config of Start.
type Config struct {
	// Sink takes the lines; Close closes it. Required.
	Sink Sink
	// Name of the sink in messages, "file /var/log/audit.jsonl". Required.
	Name string
	// Queue is the number of records that may wait; 0 means DefaultQueue.
	Queue int
	// OnFull is what happens while records cannot be written.
	OnFull OnFull
	// Log gets messages, at a bounded rate, when the sink breaks and recovers. Required.
	Log *zap.Logger
}

// Stats is how a log stands.
type Stats struct {
	Written  uint64 // records
	Lost     uint64 // records
	Queued   int    // records that wait
	Capacity int    // records that may wait
	// Suppressed is how many refusals got no record because there were too many;
	// the gateway counts them.
	Suppressed uint64
	Err        error // why the last record could not be written; nil if it was
	// Trouble is what is wrong with the sink although records are written: the file cannot
	// be rotated and grows. nil: nothing.
	Trouble error
}

type queue struct {
	c        Config
	ch       chan []byte
	released chan struct{} // closed by release
	closing  chan struct{} // closed by close: drain and end
	done     chan struct{} // closed by the writer
	reopen   chan struct{} // one place
	once     struct{ release, close sync.Once }

	written, lost atomic.Uint64
	failing       atomic.Pointer[error]
	trouble       atomic.Pointer[error]
	told          atomic.Bool  // the log has said that the sink is broken
	complained    atomic.Int64 // nanoseconds since 1970
	pending       atomic.Int32 // records that the writer holds
	last          time.Time    // when the writer last finished; only the writer uses it
}

// Start begins to write to c.Sink. Close must be called.
func Start(c Config) *Log {
	if c.Queue <= 0 {
		c.Queue = DefaultQueue
	}
	q := &queue{
		c: c, ch: make(chan []byte, min(c.Queue, MaxQueue)),
		released: make(chan struct{}), closing: make(chan struct{}), done: make(chan struct{}),
		reopen: make(chan struct{}, 1),
	}
	go q.run()
	return &Log{enc: newEncoder(), queue: q, sink: c.Sink}
}

// waiting is how many records are not written yet.
func (q *queue) waiting() int { return len(q.ch) + int(q.pending.Load()) }

func (q *queue) full() bool { return len(q.ch) == cap(q.ch) }

func (q *queue) refusing() bool {
	return q.c.OnFull == Refuse && (q.failing.Load() != nil || q.full())
}

func (q *queue) admit(ctx context.Context, deadline time.Time) error {
	switch q.c.OnFull {
	case Drop:
		return nil
	case Block:
		// Polling is enough: this happens only while the sink is broken, and a flow may wait
		// a few milliseconds too long.
		if !q.full() {
			return nil
		}
		ctx, cancel := context.WithDeadline(ctx, deadline)
		defer cancel()
		for q.full() {
			select {
			case <-ctx.Done():
				return fmt.Errorf("%w to %s, and the queue is full", ErrUnavailable, q.c.Name)
			case <-q.released:
				return ErrUnavailable
			case <-time.After(5 * time.Millisecond):
			}
		}
		return nil
	default:
		if q.refusing() {
			return fmt.Errorf("%w to %s", ErrUnavailable, q.c.Name)
		}
		return nil
	}
}

// put queues a line. A line that matters waits for room unless OnFull is Drop. With Refuse,
// the line of a refused flow does not wait.
func (q *queue) put(line []byte, matters bool) error {
	select {
	case <-q.done:
		return q.lose()
	default:
	}
	select {
	case q.ch <- line:
		return nil
	default:
	}
	if q.c.OnFull == Drop || q.c.OnFull == Refuse && !matters {
		return q.lose()
	}
	select {
	case q.ch <- line:
		return nil
	case <-q.released:
	case <-q.done:
	}
	return q.lose()
}

func (q *queue) lose() error {
	n := q.lost.Add(1)
	q.complain(func() {
		q.c.Log.Error("audit records lost", zap.String("sink", q.c.Name), zap.Uint64("lost", n), zap.Stringer("on_full", q.c.OnFull))
	})
	return ErrLost
}

// complain calls f unless there was a complaint within complainEvery.
func (q *queue) complain(f func()) {
	now, last := time.Now().UnixNano(), q.complained.Load()
	if now-last >= int64(complainEvery) && q.complained.CompareAndSwap(last, now) {
		f()
	}
}

func (q *queue) stats() Stats {
	s := Stats{Written: q.written.Load(), Lost: q.lost.Load(), Queued: q.waiting(), Capacity: cap(q.ch)}
	if e := q.failing.Load(); e != nil {
		s.Err = *e
	}
	if e := q.trouble.Load(); e != nil {
		s.Trouble = *e
	}
	return s
}

func (q *queue) askReopen() {
	select {
	case q.reopen <- struct{}{}:
	default:
	}
}

func (q *queue) release() { q.once.release.Do(func() { close(q.released) }) }

func (q *queue) close() error {
	q.release()
	before := q.lost.Load()
	q.once.close.Do(func() { close(q.closing) })
	select {
	case <-q.done:
	case <-time.After(closeWait):
		// The goroutine hangs in a write that nothing ends. It ends with the process.
		return fmt.Errorf("%s does not take the last %d audit records", q.c.Name, q.waiting())
	}
	err := q.c.Sink.Close()
	if n := q.lost.Load() - before; n > 0 {
		err = errors.Join(fmt.Errorf("%d audit records could not be written to %s and are lost", n, q.c.Name), err)
	}
	return err
}

// run writes until close, and then what is still queued.
func (q *queue) run() {
	defer close(q.done)
	for {
		select {
		case line := <-q.ch:
			q.gather(line)
		case <-q.reopen:
			q.doReopen()
		case <-q.closing:
			for {
				select {
				case line := <-q.ch:
					q.pending.Store(1)
					q.write(line)
				default:
					return
				}
			}
		}
	}
}

// gather writes a line. After a quiet time it writes at once; otherwise it writes the line
// together with those that come within gatherFor, in one system call.
func (q *queue) gather(line []byte) {
	defer func() { q.last = time.Now() }()
	q.pending.Store(1)
	sink, ok := q.c.Sink.(linesSink)
	if !ok || time.Since(q.last) >= gatherFor {
		q.write(line)
		return
	}
	lines := [][]byte{line}
	enough := time.NewTimer(gatherFor)
	defer enough.Stop()
	for size, more := len(line), true; more && size < gatherBytes; {
		select {
		case line := <-q.ch:
			lines = append(lines, line)
			size += len(line)
			q.pending.Store(int32(len(lines)))
		case <-enough.C:
			more = false
		case <-q.closing:
			more = false
		}
	}
	n, err := sink.WriteLines(lines)
	q.written.Add(uint64(n))
	q.pending.Add(int32(-n))
	if err == nil {
		q.mended()
	}
	for _, line := range lines[n:] {
		q.write(line)
	}
}

func (q *queue) doReopen() {
	if err := q.c.Sink.Reopen(); err != nil {
		q.c.Log.Error("audit file not reopened", zap.String("sink", q.c.Name), zap.Error(err))
	}
}

// write writes one line. It retries until it succeeds or the log closes; then it tries once
// more.
func (q *queue) write(line []byte) {
	defer q.pending.Add(-1)
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		err := q.c.Sink.Write(line)
		if err == nil {
			q.written.Add(1)
			q.mended()
			return
		}
		if errors.Is(err, unix.EMSGSIZE) {
			// No retry makes the line shorter, and it must not block the others.
			_ = q.lose()
			return
		}
		q.broke(err)
		select {
		case <-q.closing:
			if q.c.Sink.Write(line) == nil {
				q.written.Add(1)
				return
			}
			q.lost.Add(1)
			return
		case <-q.reopen:
			q.doReopen()
		case <-time.After(wait):
		}
	}
}

func (q *queue) broke(err error) {
	q.failing.Store(&err)
	q.complain(func() {
		q.told.Store(true)
		q.c.Log.Error("audit records cannot be written", zap.String("sink", q.c.Name), zap.Error(err),
			zap.Stringer("on_full", q.c.OnFull), zap.Int("queued", q.waiting()), zap.Int("queue", cap(q.ch)), zap.Uint64("lost", q.lost.Load()))
	})
}

// mended is called after every successful write.
func (q *queue) mended() {
	q.look()
	if q.failing.Swap(nil) == nil {
		return
	}
	if !q.told.Swap(false) {
		return
	}
	q.c.Log.Info("audit records are written again", zap.String("sink", q.c.Name), zap.Uint64("lost", q.lost.Load()))
}

// look checks what is wrong with a sink that takes records all the same.
func (q *queue) look() {
	sink, ok := q.c.Sink.(troubledSink)
	if !ok {
		return
	}
	err := sink.Trouble()
	if err == nil {
		if q.trouble.Swap(nil) != nil {
			q.c.Log.Info("audit file is rotated again", zap.String("sink", q.c.Name))
		}
		return
	}
	q.trouble.Store(&err)
	q.complain(func() {
		q.c.Log.Error("audit file not rotated: it grows", zap.String("sink", q.c.Name), zap.Error(err))
	})
}
