package memory

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// keepInterval is how often Keep checks the heap; a check takes microseconds.
	keepInterval = 500 * time.Millisecond
	// smallHeap is the heap size in bytes below which garbage is not collected. Go
	// collects by default when the heap has doubled: for the few MiB of a gateway of
	// short flows, twenty times a second.
	smallHeap = 64 << 20
	// maxPercent bounds the garbage for each byte that lives.
	maxPercent = 400
	// Allocations of less than quietBytes in a keepInterval are few enough to collect
	// meanwhile. Allocations of worthBytes since the last collection make one worth it.
	quietBytes, worthBytes = 4 << 20, 16 << 20
	// Allocations of less than stillBytes in a keepInterval are no work worth waiting
	// for.
	stillBytes = 256 << 10
	// collections is how many follow a burst: each halves stacks that have grown, and the
	// second frees what lies in a sync.Pool.
	collections = 3
)

// percentFor is the garbage allowed for each byte of live heap, in percent (GOGC).
func percentFor(live uint64) int {
	if live == 0 {
		return maxPercent
	}
	return int(min(maxPercent, max(100, smallHeap*100/live)))
}

// Keep adapts the garbage collector to a gateway until ctx ends. It makes fewer
// collections while the heap is small. When it is quiet after many allocations it makes
// some, so that memory returns to the system. If GOGC is set, Keep leaves it as it is.
func Keep(ctx context.Context) {
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	if before != 100 {
		debug.SetGCPercent(before)
		return
	}
	samples := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	percent := 100
	var allocated, collected uint64 // by the last tick, and by the last collection here
	more := 0                       // collections still to make
	burst := false                  // it was busy since the last of them
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		live, now := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		if want := percentFor(live); want != percent {
			percent = want
			debug.SetGCPercent(percent)
		}
		quiet, still := now-allocated < quietBytes, now-allocated < stillBytes
		allocated = now
		burst = burst || !quiet
		// The criterion is not the garbage beside the live heap: what was live at the
		// last collection of a burst is garbage too when the burst is over. A trickle of
		// allocations is left to Go's own collector.
		if (burst || still) && now-collected > max(worthBytes, live/4) {
			more, burst = collections, false
		}
		if quiet && more > 0 {
			debug.FreeOSMemory()
			collected = now
			more--
		}
	}
}
