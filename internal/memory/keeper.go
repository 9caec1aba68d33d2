package memory

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"golang.org/x/sys/unix"
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
	// busyShare is the least part of one processor's time, as its inverse, that is work
	// although little is allocated: bulk data goes through memory that is used again and
	// again. A collection stops the reader of the TUN for tens of milliseconds, and its
	// queue overflows.
	busyShare = 5
	// collections is how many follow a burst: each halves stacks that have grown, and the
	// second frees what lies in a sync.Pool.
	collections = 3
	// settled is how many quiet ticks in a row end a burst. Between two of them work comes
	// in pieces.
	settled = 2
	// restTicks is how many ticks lie between the beginnings of two series of collections,
	// unless nothing is done at all: ten seconds.
	restTicks = 20
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
	var p pace
	at, used := time.Now(), processorTime()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		live, allocs := samples[0].Value.Uint64(), samples[1].Value.Uint64()
		if want := percentFor(live); want != percent {
			percent = want
			debug.SetGCPercent(percent)
		}
		now, cpu := time.Now(), processorTime()
		busy := (cpu-used)*busyShare >= now.Sub(at)
		at, used = now, cpu
		if p.tick(live, allocs, busy) {
			debug.FreeOSMemory()
			used = processorTime() // a collection is no work
		}
	}
}

// processorTime is what this process has used of all processors; 0 if the system does not
// say.
func processorTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// pace says when a collection is worth it. A collection costs some ten milliseconds of
// every processor, and what it gives back to the system is faulted in again, so a gateway
// that always has some work must not make them all the time.
type pace struct {
	allocated, collected uint64 // by the last tick, and by the last collection
	quiet                int    // ticks in a row
	more                 int    // collections still to make
	burst                bool   // it was busy since the last of them
	rest                 int    // ticks before others may begin, unless nothing is done
}

// tick takes, every keepInterval, the live heap and all that was ever allocated, in bytes,
// and whether there was work that allocations do not show.
func (p *pace) tick(live, allocs uint64, busy bool) (collect bool) {
	grown := allocs - p.allocated
	p.allocated = allocs
	still := grown < stillBytes && !busy
	p.quiet++
	if grown >= quietBytes {
		p.quiet, p.burst = 0, true
	}
	if busy {
		p.quiet = 0
	}
	p.rest = max(0, p.rest-1)
	// The criterion is not the garbage beside the live heap: what was live at the
	// last collection of a burst is garbage too when the burst is over. A trickle of
	// allocations is left to Go's own collector.
	if (p.burst && p.rest == 0 || still) && p.quiet >= settled && allocs-p.collected > max(worthBytes, live/4) {
		p.more, p.burst, p.rest = collections, false, restTicks
	}
	if p.quiet < settled || p.more == 0 {
		return false
	}
	p.collected = allocs
	p.more--
	return true
}
