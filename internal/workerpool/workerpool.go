// Package workerpool reuses goroutines whose stacks have grown already. A goroutine that
// does a TLS handshake begins with a small stack and copies it four times on the way: 4 %
// of the CPU time of a connection.
package workerpool

import (
	"sync"
	"time"
)

const (
	// mostIdle bounds the goroutines that wait for work: 4 MiB in all, at 32 KiB of stack
	// each until the collector shrinks it.
	mostIdle = 128
	// rest is how often idle goroutines are ended that were not needed since the last
	// time.
	rest = 5 * time.Second
)

// Crew runs functions, each in a goroutine of its own, which may have run other functions
// before. The zero value is ready.
type Crew struct {
	all sync.WaitGroup

	mu     sync.Mutex
	idle   []*hand // last in, first out: the last one's stack is warm
	spare  int     // how many of idle were not needed since the last trim
	timer  *time.Timer
	closed bool
}

// hand is an idle goroutine.
type hand struct {
	work chan func() // has room for one; closed: the goroutine ends
}

// Go runs f in a goroutine.
func (c *Crew) Go(f func()) {
	c.mu.Lock()
	n := len(c.idle) - 1
	if n < 0 {
		c.all.Add(1)
		c.mu.Unlock()
		go c.serve(f)
		return
	}
	h := c.idle[n]
	c.idle[n] = nil
	c.idle = c.idle[:n]
	c.spare = min(c.spare, n)
	c.mu.Unlock()
	h.work <- f
}

func (c *Crew) serve(f func()) {
	defer c.all.Done()
	f()
	h := &hand{work: make(chan func(), 1)}
	for c.wait(h) {
		f, ok := <-h.work
		if !ok {
			return
		}
		f()
	}
}

// wait puts a hand among the idle ones; false if there is no room for it.
func (c *Crew) wait(h *hand) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= mostIdle {
		return false
	}
	c.idle = append(c.idle, h)
	if c.timer == nil {
		c.spare = 0
		c.timer = time.AfterFunc(rest, c.trim)
	}
	return true
}

// trim ends the goroutines that were not needed since its last call.
func (c *Crew) trim() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.idle[:c.spare] {
		close(h.work)
	}
	n := copy(c.idle, c.idle[c.spare:])
	clear(c.idle[n:])
	c.idle = c.idle[:n]
	c.spare = n
	if n == 0 || c.closed {
		c.timer = nil
		return
	}
	c.timer.Reset(rest)
}

// Wait ends the idle goroutines, and returns when all goroutines have ended. Functions
// given to Go after that run in goroutines that are not kept.
func (c *Crew) Wait() {
	c.mu.Lock()
	c.closed = true
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	for _, h := range c.idle {
		close(h.work)
	}
	c.idle, c.spare = nil, 0
	c.mu.Unlock()
	c.all.Wait()
}
