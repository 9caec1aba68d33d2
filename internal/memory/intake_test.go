package memory

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"go.uber.org/zap"
)

// taking asks for n bytes and says when it got them.
func (x *bench) taking(n int, done <-chan struct{}) <-chan struct{} {
	got := make(chan struct{})
	go func() {
		defer close(got)
		x.b.Take(n, done)
	}()
	return got
}

// queued waits until n are waiting.
func (x *bench) queued(t *testing.T, n int) {
	t.Helper()
	testenv.Eventually(t, fmt.Sprintf("%d wait", n), func() bool {
		x.b.mu.Lock()
		defer x.b.mu.Unlock()
		return x.b.intake.waiting.Len() == n
	})
}

func still(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
		t.Fatal(what)
	default:
	}
}

// No more is let in than there was room for at the last measurement, less what was let in
// a moment before it, in the order of asking.
func TestIntake(t *testing.T) {
	x := newBench(t) // resident 30 of 224 MiB up to the line
	for range 194 {
		x.b.Take(mib, nil)
	}
	first := x.taking(mib, nil)
	x.queued(t, 1)
	second := x.taking(mib, nil)
	x.queued(t, 2)

	// At the same moment none of it shows in memory yet, but it counts.
	x.look(t)
	still(t, "let in twice", first)
	// It is now, and one place is free.
	x.u.resident, x.now = 224*mib-10<<10, x.now.Add(time.Hour)
	x.look(t)
	testenv.Receive(t, "one place is free", first)
	still(t, "there was one place", second)
	x.now = x.now.Add(time.Hour)
	x.u.resident = 230 * mib
	x.look(t)
	still(t, "over the line", second)
	x.u.resident, x.now = 100*mib, x.now.Add(time.Hour)
	x.look(t)
	testenv.Receive(t, "there is room again", second)
	x.queued(t, 0)

	// A taker that gives up leaves no place behind.
	x.u.resident, x.now = 230*mib, x.now.Add(time.Hour)
	x.look(t)
	done := make(chan struct{})
	gone := x.taking(mib, done)
	x.queued(t, 1)
	close(done)
	testenv.Receive(t, "gave up", gone)
	x.queued(t, 0)
}

// A Take that finds nothing left measures by itself, without waiting for the next
// measurement.
func TestTakeLooks(t *testing.T) {
	x := newBench(t)
	x.b.Take(194*mib, nil)
	x.now = x.now.Add(time.Second) // long ago, and nothing of it was kept
	testenv.Receive(t, "it did not look", x.taking(mib, nil))
	// So do segments of clients.
	x.now, x.u.resident = x.now.Add(time.Second), 250*mib
	flooded := false
	for range 224 * mib / segmentMost {
		flooded = flooded || x.b.Flooded()
	}
	if !flooded {
		t.Error("not flooded after as many segments as there was room for")
	}
}

// While memory is over the line it is given back to the system, but not all of the time.
func TestFree(t *testing.T) {
	x := newBench(t)
	x.now, x.u.resident = x.now.Add(time.Hour), 224*mib
	for range 10 {
		x.look(t)
	}
	if x.freed != 1 || x.made != 0 {
		t.Errorf("given back %d times at once, %d collections", x.freed, x.made)
	}
	x.now = x.now.Add(freeEvery)
	if x.look(t); x.freed != 2 {
		t.Errorf("given back %d times", x.freed)
	}
	x.now, x.u.resident = x.now.Add(time.Hour), 223*mib
	if x.look(t); x.freed != 2 {
		t.Errorf("given back %d times, below the line", x.freed)
	}
}

// running runs a budget of 256 MiB until end.
func running(t *testing.T, cfg Config) (x *bench, end func()) {
	t.Helper()
	cfg.Ceiling, cfg.Log = 256*mib, zap.NewNop()
	cfg.collect, cfg.free = func() {}, func() {}
	b, undo, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(undo)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	return &bench{b: b}, func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}
}

// However long an action takes, the intake follows the measurements.
func TestLooksWhileItActs(t *testing.T) {
	var resident atomic.Int64
	resident.Store(100 * mib)
	stuck, leave := make(chan struct{}), make(chan struct{})
	var once sync.Once
	x, end := running(t, Config{
		Actions: Actions{Tighten: func(int64) { once.Do(func() { close(stuck) }); <-leave }},
		measure: func() (usage, error) {
			return usage{live: 190 * mib, total: 190 * mib, resident: resident.Load(), file: 16 * mib, cycles: 1}, nil
		},
	})
	testenv.Receive(t, "nothing is tightened", stuck)
	resident.Store(240 * mib)
	x.reaches(t, Flood)
	waits := x.taking(mib, nil)
	x.queued(t, 1)
	resident.Store(100 * mib)
	testenv.Receive(t, "there is room", waits)
	x.reaches(t, Over) // it lets in before it says so
	// After the end of Run nobody waits.
	resident.Store(240 * mib)
	x.reaches(t, Flood)
	waits = x.taking(mib, nil)
	x.queued(t, 1)
	close(leave)
	end()
	testenv.Receive(t, "kept after the end", waits)
	testenv.Receive(t, "kept after the end", x.taking(1<<40, nil))
}

// onlyLook measures and does not act.
func (x *bench) onlyLook(t *testing.T) {
	t.Helper()
	if _, err := x.b.look(); err != nil {
		t.Fatal(err)
	}
}

func (x *bench) reaches(t *testing.T, l Level) {
	t.Helper()
	testenv.Eventually(t, "level "+l.String(), func() bool { return x.b.Level() == l }, func() any { return x.b.Level() })
}

// While flows are being ended nothing is let in, whatever room there is.
func TestClosedWhileItEnds(t *testing.T) {
	x := newBench(t)
	var during <-chan struct{}
	shed := x.b.cfg.Actions.Shed
	x.b.cfg.Actions.Shed = func(need int64) (int64, int) {
		x.onlyLook(t)
		during = x.taking(1, nil)
		x.queued(t, 1)
		return shed(need)
	}
	x.held = 150 * mib
	x.u.live, x.alive = 180*mib, 180*mib
	x.u.cycles++
	x.look(t)
	if during == nil {
		t.Fatal("nothing was ended")
	}
	testenv.Receive(t, "it stays closed", during)
}

// A measurement that fails ends Run, the actor's too.
func TestRunFails(t *testing.T) {
	broken := errors.New("broken")
	for _, after := range []int32{2, 3, 4} { // the first is Start's
		var n atomic.Int32
		b, undo, err := Start(Config{
			Ceiling: 256 * mib, Log: zap.NewNop(),
			measure: func() (usage, error) {
				if n.Add(1) >= after {
					return usage{}, broken
				}
				// Over the line: the actor measures too.
				return usage{live: 10 * mib, total: 20 * mib, resident: 240 * mib, file: 16 * mib, cycles: 1}, nil
			},
			collect: func() {}, free: func() {},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Run(t.Context()); !errors.Is(err, broken) {
			t.Errorf("%v", err)
		}
		undo()
	}
}

// Many takers at once are let in no faster than measurements find room.
func TestIntakeHolds(t *testing.T) {
	const line = 256*mib - 256*mib/8
	var held, most atomic.Int64 // resident
	held.Store(100 * mib)
	x, end := running(t, Config{
		measure: func() (usage, error) { return usage{live: mib, total: mib, resident: held.Load(), cycles: 1}, nil },
	})
	const takers, size = 200, 256 << 10
	var in sync.WaitGroup
	over := make(chan struct{})
	for range takers {
		in.Go(func() {
			for {
				x.b.Take(size, over)
				select {
				case <-over:
					return
				default:
				}
				now := held.Add(size)
				for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
				}
			}
		})
	}
	// Until nobody gets in any more.
	x.queued(t, takers)
	if n := most.Load(); n > line+size || n < line-size {
		t.Errorf("%d bytes were let in, want %d", n, int64(line))
	}
	close(over)
	in.Wait()
	end()
}

func BenchmarkTake(b *testing.B) {
	m, undo, err := Start(Config{Ceiling: 1 << 60, Log: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	defer undo()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			m.Take(256<<10, nil)
		}
	})
}
