package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// registry knows the live flows. limits.flows bounds it: every flow in it was counted by
// the stack before.
type registry struct {
	boot uint32 // random, so that ids of two runs differ

	mu    sync.Mutex
	seq   uint64
	live  map[string]*Live
	flows map[netip.Prefix]int // live ones, by client; never holds a zero
	empty chan struct{}        // closed while there is no live flow

	up, down int64 // bytes relayed by flows that have left
}

func newRegistry() *registry {
	empty := make(chan struct{})
	close(empty)
	return &registry{boot: rand.Uint32(), live: map[string]*Live{}, flows: map[netip.Prefix]int{}, empty: empty}
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
	r.flows[clientkey.Of(l.Client.Addr())]++
}

func (r *registry) leave(l *Live) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, l.ID)
	up, down := l.moved()
	r.up, r.down = r.up+up, r.down+down
	key := clientkey.Of(l.Client.Addr())
	if r.flows[key]--; r.flows[key] <= 0 {
		delete(r.flows, key)
	}
	if len(r.live) == 0 {
		close(r.empty)
	}
}

// relayed sums the bytes of all flows, live ones included. Each byte counts once, even if
// its flow leaves at this moment.
func (r *registry) relayed() (up, down int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	up, down = r.up, r.down
	for _, l := range r.live {
		u, d := l.moved()
		up, down = up+u, down+d
	}
	return up, down
}

// moved is what the flow has relayed so far. The caller may hold the registry's lock.
func (l *Live) moved() (up, down int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.relay == nil {
		return 0, 0
	}
	return l.relay.up.moved.Load(), l.relay.down.moved.Load()
}

// small says whether a client holds at most half as many flows as the clients hold on
// average. less is how many of its own flows do not count.
func (r *registry) small(a netip.Addr, less int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.flows[clientkey.Of(a)] - less
	return n <= 0 || 2*n*len(r.flows) <= len(r.live)
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
