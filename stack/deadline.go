package stack

import (
	"sync"
	"time"
)

// deadline is a point in time that can be moved. The zero value never comes. Most
// deadlines are set and removed without any call waiting for them, so the timer is made
// only when one waits.
type deadline struct {
	mu    sync.Mutex
	at    time.Time // zero: never
	timer *time.Timer
	over  chan struct{} // closed when the time has come; made on first use
	gen   uint64        // counts calls of set: a stopped timer may still fire, and then sees another gen
}

// wait returns a channel that is closed when the time has come. Moving a
// deadline that has not come yet keeps the channel.
func (d *deadline) wait() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.over == nil {
		d.over = make(chan struct{})
	}
	if d.timer == nil {
		d.arm()
	}
	return d.over
}

// passed says whether the time has come.
func (d *deadline) passed() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.at.IsZero() && time.Until(d.at) <= 0
}

// set moves the deadline; the zero time means never.
func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gen++
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	d.at = t
	if d.over == nil {
		return // nobody has waited yet
	}
	select {
	case <-d.over:
		d.over = make(chan struct{})
	default:
	}
	d.arm()
}

// arm starts the timer that closes over, or closes it at once if the time has come.
func (d *deadline) arm() {
	if d.at.IsZero() {
		return
	}
	left := time.Until(d.at)
	if left <= 0 {
		d.come()
		return
	}
	gen := d.gen
	d.timer = time.AfterFunc(left, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.gen == gen {
			d.come()
		}
	})
}

func (d *deadline) come() {
	select {
	case <-d.over:
	default:
		close(d.over)
	}
}
