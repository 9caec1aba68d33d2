package turns

// byTime is a heap of clients that wait for a token, the first to have one on
// top (container/heap).
type byTime []*client

func (h byTime) Len() int           { return len(h) }
func (h byTime) Less(i, j int) bool { return h[i].tokenAt.Before(h[j].tokenAt) }
func (h byTime) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].starvedAt, h[j].starvedAt = i, j
}

// Push implements heap.Interface.
func (h *byTime) Push(x any) {
	c := x.(*client)
	c.starvedAt = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *byTime) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	c.starvedAt = -1
	return c
}

// byWaiting is a heap of the clients that wait, the one with the most on top.
type byWaiting []*client

func (h byWaiting) Len() int           { return len(h) }
func (h byWaiting) Less(i, j int) bool { return h[i].waiting.Len() > h[j].waiting.Len() }
func (h byWaiting) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].mostAt, h[j].mostAt = i, j
}

// Push implements heap.Interface.
func (h *byWaiting) Push(x any) {
	c := x.(*client)
	c.mostAt = len(*h)
	*h = append(*h, c)
}

// Pop implements heap.Interface.
func (h *byWaiting) Pop() any {
	old := *h
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	c.mostAt = -1
	return c
}
