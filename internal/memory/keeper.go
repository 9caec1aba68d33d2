package memory

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// keepInterval is how often a keeper looks: what it sees costs microseconds.
	keepInterval = 500 * time.Millisecond
	// smallHeap is the heap below which garbage is not collected, in bytes.
	// Go's default collects at twice what lives: at a few MiB, as a gateway of
	// short flows has them, that is twenty times a second.
	smallHeap = 64 << 20
	// maxPercent bounds the garbage for each byte that lives.
	maxPercent = 400
	// quietBytes of allocations in that time are little enough to collect meanwhile,
	// and worthBytes of allocations since the last time are enough to be worth it.
	quietBytes, worthBytes = 4 << 20, 16 << 20
	// stillBytes of allocations in that time are no work worth waiting for.
	stillBytes = 256 << 10
	// collections of what a burst has left: each halves the stacks that have
	// grown, and what lies in a sync.Pool goes with the second.
	collections = 3
)

// percentFor is the garbage that may come up for each byte of live heap, in
// percent (GOGC).
func percentFor(live uint64) int {
	if live == 0 {
		return maxPercent
	}
	return int(min(maxPercent, max(100, smallHeap*100/live)))
}

// Keep fits the garbage collector to a gateway until ctx ends: fewer
// collections while the heap is small, and one when it is quiet after much was
// allocated, so that memory goes back to the system. GOGC, if it is set, wins.
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
	more := 0                       // collections to come
	burst := false                  // it was not quiet since the last of them
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
		// Not by how much garbage there is beside what lives: what lived at the
		// last collection in a burst is garbage too when the burst is over. A
		// trickle is for Go's own collector.
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
