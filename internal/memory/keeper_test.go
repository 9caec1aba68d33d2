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
