package gateway

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"

	"github.com/sslgate/sslgate/internal/reason"
)

// registry counts the live flows, in total and by client. It holds at most
// limits.flows entries.
type registry struct {
	max, maxClient int
	boot           uint32 // random, so that ids of two runs differ

	mu     sync.Mutex
	seq    uint64
	live   int
	client map[netip.Addr]int
	empty  chan struct{} // closed while live == 0
}

func newRegistry(max, maxClient int) *registry {
	empty := make(chan struct{})
	close(empty)
	return &registry{max: max, maxClient: maxClient, boot: rand.Uint32(), client: map[netip.Addr]int{}, empty: empty}
}

// clientKey is what limits.flows_per_client counts by: the IPv4 address, or
// the IPv6 /64, as one host can take any address of it.
func clientKey(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

// full says whether one more flow of the client would be over a limit, and
// which; "" means there is room.
func (r *registry) full(client netip.Addr) reason.Code {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.fullLocked(clientKey(client))
}

func (r *registry) fullLocked(key netip.Addr) reason.Code {
	switch {
	case r.live >= r.max:
		return reason.FlowLimit
	case r.client[key] >= r.maxClient:
		return reason.ClientLimit
	}
	return ""
}

// nextID names a flow: unique within a run, and very likely between runs.
func (r *registry) nextID() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seq++
	return fmt.Sprintf("%08x-%x", r.boot, r.seq)
}

// enter takes a place; "" means it was given and leave must be called.
func (r *registry) enter(client netip.Addr) reason.Code {
	key := clientKey(client)
	r.mu.Lock()
	defer r.mu.Unlock()
	if code := r.fullLocked(key); code != "" {
		return code
	}
	if r.live == 0 {
		r.empty = make(chan struct{})
	}
	r.live++
	r.client[key]++
	return ""
}

func (r *registry) leave(client netip.Addr) {
	key := clientKey(client)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.live--
	if r.client[key]--; r.client[key] <= 0 {
		delete(r.client, key)
	}
	if r.live == 0 {
		close(r.empty)
	}
}

func (r *registry) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.live
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
