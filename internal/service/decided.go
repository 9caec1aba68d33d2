package service

import (
	"sync"
	"time"
)

// decided counts the flows of the last ten minutes: those whose record is written, and those of
// them that were not let through.
type decided struct {
	mu      sync.Mutex
	minutes [decidedMinutes]struct {
		minute       int64 // since 1970
		all, refused uint64
	}
}

const decidedMinutes = 10

func (d *decided) add(now time.Time, n uint64, refused bool) {
	minute := now.Unix() / 60
	d.mu.Lock()
	defer d.mu.Unlock()
	m := &d.minutes[minute%decidedMinutes]
	if m.minute != minute {
		m.minute, m.all, m.refused = minute, 0, 0
	}
	m.all += n
	if refused {
		m.refused += n
	}
}

// last sums up the last ten minutes.
func (d *decided) last(now time.Time) (all, refused uint64) {
	minute := now.Unix() / 60
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range d.minutes {
		if m := &d.minutes[i]; m.minute > minute-decidedMinutes && m.minute <= minute {
			all += m.all
			refused += m.refused
		}
	}
	return all, refused
}

// judgeFrom is the least number of flows of a new process of which it can be said that it
// refuses more.
const judgeFrom = 20

// refusesMore compares a new process with the older one: it refuses more if its share of
// refused flows is over twice that of the older one and ten points. The older one's share is
// taken as (refused+1)/(all+2), so that one that has had no flow proves nothing.
func refusesMore(all, refused, olderAll, olderRefused uint64) bool {
	if all < judgeFrom {
		return false
	}
	older := float64(olderRefused+1) / float64(olderAll+2)
	return float64(refused)/float64(all) > 2*older+0.1
}
