package stack

import (
	"container/heap"
	"container/list"
	"iter"
	"net/netip"
	"time"

	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/sslgate/sslgate/internal/clientkey"
)

// pending holds the handshakes of a forwarder that have a place, by client (an IPv4
// address, an IPv6 /64). When a SYN finds no room, pending says which handshake must make
// room: the oldest one of the client that has the most. If several clients have the most,
// it is the client whose oldest handshake is the oldest. Each step costs the logarithm of
// the number of clients.
type pending struct {
	max     int
	byID    map[gstack.TransportEndpointID]*pendingSYNACK
	clients map[netip.Prefix]*pendingClient // never holds an empty one
	most    pendingHeap
}

// pendingSYNACK is one handshake. The forwarder's lock guards it.
type pendingSYNACK struct {
	id     gstack.TransportEndpointID
	client *pendingClient
	place  *list.Element // in client.queue; nil once removed
	at     time.Time

	wq    waiter.Queue
	timer *time.Timer // nil until the handshake's goroutine has begun
	late  bool        // the timer has run out
	over  bool
}

type pendingClient struct {
	key   netip.Prefix
	queue list.List // of *pendingSYNACK, the oldest first
	at    int       // index in the heap
}

func (c *pendingClient) oldest() *pendingSYNACK { return c.queue.Front().Value.(*pendingSYNACK) }

func newPending(most int) *pending {
	return &pending{
		max: most, byID: map[gstack.TransportEndpointID]*pendingSYNACK{}, clients: map[netip.Prefix]*pendingClient{},
	}
}

func (p *pending) full() bool { return len(p.byID) >= p.max }

// over says whether there is a handshake more than max.
func (p *pending) over() bool { return len(p.byID) > p.max }

func (p *pending) has(id gstack.TransportEndpointID) bool { return p.byID[id] != nil }

func (p *pending) find(id gstack.TransportEndpointID) *pendingSYNACK { return p.byID[id] }

func (p *pending) add(id gstack.TransportEndpointID, client netip.Addr, at time.Time) *pendingSYNACK {
	key := clientkey.Of(client)
	c := p.clients[key]
	if c == nil {
		c = &pendingClient{key: key, at: -1}
		p.clients[key] = c
	}
	n := &pendingSYNACK{id: id, client: c, at: at}
	n.place = c.queue.PushBack(n)
	p.byID[id] = n
	if c.at < 0 {
		heap.Push(&p.most, c)
	} else {
		heap.Fix(&p.most, c.at)
	}
	return n
}

// remove takes a handshake out; it returns false if it was out already.
func (p *pending) remove(n *pendingSYNACK) bool {
	if n.place == nil {
		return false
	}
	c := n.client
	c.queue.Remove(n.place)
	n.place = nil
	delete(p.byID, n.id)
	if c.queue.Len() == 0 {
		heap.Remove(&p.most, c.at)
		delete(p.clients, c.key)
	} else {
		heap.Fix(&p.most, c.at)
	}
	return true
}

// victim is the handshake whose place the next SYN takes. There must be at least one
// handshake.
func (p *pending) victim() *pendingSYNACK { return p.most[0].oldest() }

// all are the handshakes that have a place.
func (p *pending) all() iter.Seq[*pendingSYNACK] {
	return func(yield func(*pendingSYNACK) bool) {
		for _, n := range p.byID {
			if !yield(n) {
				return
			}
		}
	}
}

// pendingHeap has at its top the client that has to give up a handshake.
type pendingHeap []*pendingClient

func (h pendingHeap) Len() int { return len(h) }

func (h pendingHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.queue.Len() != b.queue.Len() {
		return a.queue.Len() > b.queue.Len()
	}
	return a.queue.Len() > 0 && a.oldest().at.Before(b.oldest().at)
}

func (h pendingHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].at, h[j].at = i, j
}

func (h *pendingHeap) Push(x any) {
	c := x.(*pendingClient)
	c.at = len(*h)
	*h = append(*h, c)
}

func (h *pendingHeap) Pop() any {
	old := *h
	c := old[len(old)-1]
	*h = old[:len(old)-1]
	c.at = -1
	return c
}
