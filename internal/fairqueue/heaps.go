package fairqueue

import (
	"cmp"
	"container/heap"
)

// clients is a heap of clients (container/heap); each client stores its position in it.
type clients struct {
	list   []*client
	before func(a, b *client) bool
	place  func(*client) *int // the client's field for its position, -1 for none
}

// byTime makes a heap with the client on top that gets its token first.
func byTime() clients {
	return clients{
		before: func(a, b *client) bool { return a.tokenAt.Before(b.tokenAt) },
		place:  func(c *client) *int { return &c.starvedAt },
	}
}

// byWaiting makes a heap with the client on top that has the most waiting.
func byWaiting() clients {
	return clients{
		before: func(a, b *client) bool { return cmp.Less(b.waiting.Len(), a.waiting.Len()) },
		place:  func(c *client) *int { return &c.mostAt },
	}
}

// first is the client on top; there must be one.
func (h *clients) first() *client { return h.list[0] }

func (h *clients) Len() int           { return len(h.list) }
func (h *clients) Less(i, j int) bool { return h.before(h.list[i], h.list[j]) }
func (h *clients) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	*h.place(h.list[i]), *h.place(h.list[j]) = i, j
}

// Push implements heap.Interface.
func (h *clients) Push(x any) {
	c := x.(*client)
	*h.place(c) = len(h.list)
	h.list = append(h.list, c)
}

// Pop implements heap.Interface.
func (h *clients) Pop() any {
	last := len(h.list) - 1
	c := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	*h.place(c) = -1
	return c
}

var _ heap.Interface = (*clients)(nil)
