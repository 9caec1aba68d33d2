package gateway

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/clientkey"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack"
)

// Memory is asked for room; *memory.Budget is one.
type Memory interface {
	// Admit asks for room for a new flow; leave is called at its end. small says that
	// the client holds few flows compared with the others.
	Admit(small bool) (leave func(), ok bool)
	// Refusing says whether Admit would refuse now, without admitting a flow.
	Refusing(small bool) bool
	// Take asks for room to read n bytes for a client. It waits while there is no room, at
	// most until done is closed, and says whether it waited.
	Take(n int, done <-chan struct{}) (waited bool)
}

// unmeasured is a Memory without bounds.
type unmeasured struct{}

func (unmeasured) Admit(bool) (func(), bool)      { return func() {}, true }
func (unmeasured) Refusing(bool) bool             { return false }
func (unmeasured) Take(int, <-chan struct{}) bool { return false }

// noMemoryFor says whether there is no memory for another flow of a.
func (g *Gateway) noMemoryFor(a netip.Addr) bool {
	return g.memory.Refusing(false) && (g.memory.Refusing(true) || !g.registry.small(a, 0))
}

// admit asks for memory for the flow, and ends the flow if there is none.
func (fl *flow) admit() bool {
	leave, ok := fl.g.memory.Admit(fl.g.registry.small(fl.facts.Src.Addr(), 1))
	if !ok {
		fl.out.policy = fl.set.ID()
		fl.refuse(&handshake.Error{Reason: reason.MemoryLimit, Wanted: handshake.AlertNone, Received: handshake.AlertNone})
		fl.client.Reset()
		return false
	}
	fl.leave = leave
	return true
}

// RelayBuffers is the size of all relay buffers that are lent now, in bytes.
func (g *Gateway) RelayBuffers() int64 { return g.buffers.lent.Load() }

// SetBufferRoom bounds the bytes of all middle and large relay buffers together, from the
// next loan on; at most lentMax.
func (g *Gateway) SetBufferRoom(room int64) { g.buffers.most.Store(min(room, lentMax)) }

// What the end of a flow frees besides the data that it holds, in bytes.
const (
	// flowCost is freed by every flow: its goroutines, TLS state and small buffers.
	flowCost = 64 << 10
	// takenTimes is how many copies are held of what a client has sent until it is let
	// through: as received, as a message, parsed, and once more in crypto/tls.
	// Certificates with thousands of names are the worst case.
	takenTimes = 4
	// strangeCost is what a flow that is not let through yet may hold without being
	// ended before all others. The handshakes of usual clients hold less.
	strangeCost = 2 * flowCost
)

// held is what one flow holds.
type held struct {
	live  *Live
	bytes int64
	// strange: the flow is not let through yet and holds more than strangeCost.
	strange bool
}

// holdings says what each of the flows holds.
func holdings(all []*Live) []held {
	out := make([]held, len(all))
	stack.Ask(len(all), func(i int) {
		own, granted := all[i].held()
		out[i] = held{all[i], own, !granted && own > strangeCost}
		if c, ok := all[i].fl.client.(handshake.QueueDepths); ok {
			received, sent := c.Held()
			out[i].bytes += int64(received + sent)
		}
	})
	return out
}

// held estimates the bytes that the flow holds in the heap, without the data that waits in
// the stack, and says whether the flow was let through.
func (l *Live) held() (bytes int64, isGranted bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := flowCost + l.fl.ledger.Held() + handshake.EntriesHeld(l.reached.entries)
	if l.dest != nil {
		n += l.dest.Held()
	}
	if l.relay != nil {
		n += int(l.relay.lent.Load()) + l.relay.destHeld
		if p := l.relay.passing; p != nil {
			n += p.Held()
		}
	}
	if l.granted != nil {
		n += l.tlsRead * tlsReadTimes
		return int64(n + l.granted.facts.Hello.Held() + l.granted.facts.Peer.Held()), true
	}
	if c, ok := l.fl.client.(interface{ Taken() uint64 }); ok {
		n += takenTimes * int(min(c.Taken(), takenMost))
	}
	return int64(n), false
}

// tlsReadTimes: a tls.Conn keeps this many times its longest handshake message for as long
// as it lives, in two buffers (messages and records) that both grow by doubling.
const tlsReadTimes = 2

// takenMost is the most that a client can have sent before it is let through: its
// hello and its certificates.
const takenMost = 1 << 20

// Shed ends flows until they have held need bytes: first flows of strangers that hold more
// than a handshake needs, then all others. It takes the largest flow of the client that
// holds the most, again and again. So a client with little loses nothing while others have
// more, and many hellos of a stranger go before the download of a client that was let
// through.
func (g *Gateway) Shed(need int64) (freed int64, flows int) {
	var strangers, others []held
	for _, h := range holdings(g.registry.all()) {
		if h.live.ending() {
			continue // its memory is being freed already
		}
		if h.strange {
			strangers = append(strangers, h)
		} else {
			others = append(others, h)
		}
	}
	freed, flows = shed(strangers, need)
	if freed < need {
		more, n := shed(others, need-freed)
		freed, flows = freed+more, flows+n
	}
	return freed, flows
}

// shed ends the largest flow of the largest client, repeatedly, until need bytes were held.
func shed(all []held, need int64) (freed int64, flows int) {
	clients := map[netip.Prefix][]held{}
	total := map[netip.Prefix]int64{}
	for _, h := range all {
		key := clientkey.Of(h.live.Client.Addr())
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
