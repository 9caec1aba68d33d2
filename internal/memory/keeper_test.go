package memory

import (
	"context"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestPercentFor(t *testing.T) {
	for live, want := range map[uint64]int{0: 400, 1 << 20: 400, 16 << 20: 400, 32 << 20: 200, 64 << 20: 100, 1 << 30: 100} {
		if got := percentFor(live); got != want {
			t.Errorf("%d MiB: %d %%, want %d", live>>20, got, want)
		}
	}
}

// Garbage is collected when it is quiet, and the former setting is restored at the end.
func TestKeep(t *testing.T) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { Keep(ctx) })
	var kept [][]byte
	for range 100 {
		kept = append(kept, make([]byte, 1<<20))
	}
	runtime.GC()
	runtime.KeepAlive(kept) // lived at the last collection, and goes without another
	var m runtime.MemStats
	for deadline := testenv.Deadline(); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if runtime.ReadMemStats(&m); m.HeapAlloc < 50<<20 && m.HeapIdle-m.HeapReleased < 32<<20 {
			break
		}
	}
	if m.HeapAlloc >= 50<<20 {
		t.Errorf("%d MiB of heap are kept", m.HeapAlloc>>20)
	}
	cancel()
	wg.Wait()
	if now := debug.SetGCPercent(100); now != 100 {
		t.Errorf("GOGC is %d afterwards", now)
	}
}

// Who works all the time, in pieces, is not collected all the time; when the work is over,
// collections follow within seconds, and end.
func TestPace(t *testing.T) {
	const mib = 1 << 20
	for name, work := range map[string]func(tick int) uint64{
		"pieces":                func(i int) uint64 { return []uint64{6 * mib, 3 * mib, 3 * mib, 2 * mib}[i%4] },
		"a burst every second":  func(i int) uint64 { return []uint64{20 * mib, 1 * mib}[i%2] },
		"a trickle":             func(int) uint64 { return 1 * mib },
		"a flood":               func(int) uint64 { return 200 * mib },
		"bursts, then a second": func(i int) uint64 { return []uint64{9 * mib, 9 * mib, 1 * mib, 1 * mib, 1 * mib}[i%5] },
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			var allocs uint64
			const busy = 1200 // ten minutes
			made := 0
			for i := range busy {
				allocs += work(i)
				if p.tick(20*mib, allocs, false) {
					made++
				}
			}
			if most := collections * (busy/restTicks + 1); made > most {
				t.Errorf("%d collections in ten minutes of work, more than %d", made, most)
			}
			after, last := 0, 0
			for i := range 100 {
				allocs += 10 << 10
				if p.tick(20*mib, allocs, false) {
					after++
					last = i
				}
			}
			// What a series of the busy time has begun may end now.
			if after < 1 || after > 2*collections || last > settled+2*collections {
				t.Errorf("%d collections when the work is over, the last after %d ticks", after, last)
			}
		})
	}
}

// While bulk data moves through memory that is used again, nothing is collected, however
// little is allocated; afterwards what the beginning has left is.
func TestPaceOfBulk(t *testing.T) {
	const mib = 1 << 20
	var p pace
	allocs := uint64(100 * mib)
	p.tick(20*mib, allocs, true)
	for i := range 1200 {
		allocs += 100 << 10
		if p.tick(20*mib, allocs, true) {
			t.Fatalf("a collection at tick %d of a busy time", i)
		}
	}
	for i := range 100 { // a series does not go on in the gaps of work
		if p.tick(20*mib, allocs, i%2 == 0) {
			t.Fatalf("a collection at tick %d of work in pieces", i)
		}
	}
	made := 0
	for range 100 {
		if p.tick(20*mib, allocs, false) {
			made++
		}
	}
	if made != collections {
		t.Errorf("%d collections when the work is over, want %d", made, collections)
	}
}

// Work of this process counts.
func TestProcessorTime(t *testing.T) {
	before := processorTime()
	if before == 0 {
		t.Fatal("the system does not say")
	}
	for deadline := testenv.Deadline(); processorTime() < before+20*time.Millisecond; {
		if time.Now().After(deadline) {
			t.Fatal("a loop uses no time")
		}
	}
}
