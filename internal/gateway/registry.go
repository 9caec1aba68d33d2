package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
)

// registry knows the live flows. It holds as many as the stack takes
// (limits.flows): nothing enters it that the stack has not counted.
type registry struct {
	boot uint32 // random, so that ids of two runs differ

	mu    sync.Mutex
	seq   uint64
	live  map[string]*Live
	empty chan struct{} // closed while there is no live flow
}

func newRegistry() *registry {
	empty := make(chan struct{})
	close(empty)
	return &registry{boot: rand.Uint32(), live: map[string]*Live{}, empty: empty}
}

// nextID names a flow: unique within a run, and very likely between runs.
func (r *registry) nextID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	return fmt.Sprintf("%08x-%x", r.boot, r.seq)
}

func (r *registry) enter(l *Live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.live) == 0 {
		r.empty = make(chan struct{})
	}
	r.live[l.ID] = l
}

func (r *registry) leave(l *Live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, l.ID)
	if len(r.live) == 0 {
		close(r.empty)
	}
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.live)
}

func (r *registry) lookup(id string) *Live {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live[id]
}

func (r *registry) all() []*Live {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*Live, 0, len(r.live))
	for _, l := range r.live {
		all = append(all, l)
	}
	return all
}

// waitEmpty returns nil once no flow is live, or ctx's error.
func (r *registry) waitEmpty(ctx context.Context) error {
	r.mu.Lock()
	empty := r.empty
	r.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
