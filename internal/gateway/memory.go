package gateway

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/clientnet"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack"
)

// Memory is asked for room; *memory.Budget is one.
type Memory interface {
	// Admit asks for a flow that is there; leave is called at its end.
	// small is a client that holds few flows beside the others.
	Admit(small bool) (leave func(), ok bool)
	// Refusing says that Admit would say no, without a flow.
	Refusing(small bool) bool
	// Take asks to read n bytes for a client. It waits while there is no room
	// for them, at most until done is closed.
	Take(n int, done <-chan struct{})
}

// unmeasured is a Memory without bounds.
type unmeasured struct{}

func (unmeasured) Admit(bool) (func(), bool) { return func() {}, true }
func (unmeasured) Refusing(bool) bool        { return false }
func (unmeasured) Take(int, <-chan struct{}) {}

// noMemoryFor says whether there is none for another flow of a.
func (g *Gateway) noMemoryFor(a netip.Addr) bool {
	return g.memory.Refusing(false) && (g.memory.Refusing(true) || !g.registry.small(a, 0))
}

// admit asks for memory; the flow is over where there is none.
func (fl *flow) admit() bool {
	leave, ok := fl.g.memory.Admit(fl.g.registry.small(fl.rec.Client.Addr(), 1))
	if !ok {
		fl.rec.Policy = fl.set.ID()
		fl.refuse(&handshake.Error{Reason: reason.MemoryLimit, Wanted: handshake.AlertNone, Received: handshake.AlertNone})
		fl.client.Reset()
		return false
	}
	fl.leave = leave
	return true
}

// RelayBuffers is what the relay's buffers take now, in bytes.
func (g *Gateway) RelayBuffers() int64 { return g.buffers.lent.Load() }

// SetBufferRoom bounds what all middle and large relay buffers together take,
// in bytes, from the next loan on; lentMax is the most.
func (g *Gateway) SetBufferRoom(room int64) { g.buffers.most.Store(min(room, lentMax)) }

// flowCost is what ending a flow gives back beside the data it holds, in
// bytes: its goroutines, TLS state and relay buffers.
const flowCost = 64 << 10

// held is what one flow holds.
type held struct {
	live  *Live
	bytes int64
}

// holdings says what each of the flows holds.
func holdings(all []*Live) []held {
	out := make([]held, len(all))
	stack.Ask(len(all), func(i int) {
		out[i] = held{all[i], flowCost}
		if c, ok := all[i].fl.client.(interface{ Held() (int, int) }); ok {
			received, sent := c.Held()
			out[i].bytes += int64(received + sent)
		}
	})
	return out
}

// Shed ends flows until they have held need bytes: of the client that holds
// the most the largest, again and again. So who has little loses nothing while
// others have more.
func (g *Gateway) Shed(need int64) (freed int64, flows int) {
	clients := map[netip.Prefix][]held{}
	total := map[netip.Prefix]int64{}
	for _, h := range holdings(g.registry.all()) {
		key := clientnet.Of(h.live.Client.Addr())
		clients[key] = append(clients[key], h)
		total[key] += h.bytes
	}
	for _, all := range clients {
		slices.SortFunc(all, func(a, b held) int { return cmp.Compare(a.bytes, b.bytes) })
	}
	for freed < need && len(clients) > 0 {
		var most netip.Prefix
		for key, n := range total {
			if most == (netip.Prefix{}) || n > total[most] {
				most = key
			}
		}
		all := clients[most]
		last := all[len(all)-1]
		last.live.End(reason.EndMemory)
		freed += last.bytes
		flows++
		total[most] -= last.bytes
		if clients[most] = all[:len(all)-1]; len(clients[most]) == 0 {
			delete(clients, most)
			delete(total, most)
		}
	}
	return freed, flows
}

var _ Memory = (*memory.Budget)(nil)
