package stack

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/sslgate/sslgate/internal/clientkey"
	"github.com/sslgate/sslgate/internal/workerpool"
)

// Flow is one accepted connection.
type Flow struct {
	// Src is the client, Dst the destination that the client meant.
	Src, Dst netip.AddrPort
	// At is when the three-way handshake was complete.
	At time.Time
	// Conn is the connection to the client. Its first Close or Reset ends it;
	// HandleFlow's return does at the latest.
	Conn *Conn

	helpers *workerpool.Crew // nil: Go starts a new goroutine every time
}

// Go runs fn in a goroutine, if possible one that an earlier Go has left idle.
// HandleFlow must not return before fn has returned.
func (f *Flow) Go(fn func()) {
	if f.helpers == nil {
		go fn()
		return
	}
	f.helpers.Go(fn)
}

// flows are the connections we hold: live ones, and closed ones whose last bytes
// netstack still sends. The same number, max, bounds each of the two.
type flows struct {
	max, maxPerClient int
	lingerTimeout     time.Duration

	mu        sync.Mutex
	live      map[*Conn]struct{}
	perClient map[netip.Prefix]int // live ones, by clientkey.Of; never holds a zero
	// Live ones of the process that this one has taken over from, in all and by client: the
	// limits are for both together.
	beside       int
	besideClient map[netip.Prefix]int
	lingering    []lingerer // oldest first
	accepted     uint64
	rejected     uint64
	gaveUp       uint64 // lingering connections that were reset
}

type lingerer struct {
	conn  *Conn
	until time.Time
}

func newFlows(cfg Config) *flows {
	return &flows{
		max:           cfg.MaxFlows,
		maxPerClient:  cfg.MaxFlowsPerClient,
		lingerTimeout: cfg.LingerTimeout,
		live:          make(map[*Conn]struct{}),
		perClient:     make(map[netip.Prefix]int),
	}
}

// full says which limit one more flow of src would exceed.
func (f *flows) full(src netip.Addr) Full {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fullLocked(src)
}

func (f *flows) fullLocked(src netip.Addr) Full {
	key := clientkey.Of(src)
	switch {
	case len(f.live)+f.beside >= f.max:
		return FullTotal
	case f.perClient[key]+f.besideClient[key] >= f.maxPerClient:
		return FullClient
	}
	return FullNot
}

// clients are the live flows by client, of at most n clients: those that have the most.
func (f *flows) clients(n int) map[netip.Prefix]int {
	f.mu.Lock()
	all := maps.Clone(f.perClient)
	f.mu.Unlock()
	delete(all, netip.Prefix{})
	if len(all) <= n {
		return all
	}
	most := slices.SortedFunc(maps.Keys(all), func(a, b netip.Prefix) int { return cmp.Compare(all[b], all[a]) })
	for _, client := range most[n:] {
		delete(all, client)
	}
	return all
}

// add takes a connection in; false if there is no room for it.
func (f *flows) add(c *Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fullLocked(c.src.Addr()) != FullNot {
		f.rejected++
		return false
	}
	f.live[c] = struct{}{}
	f.perClient[clientkey.Of(c.src.Addr())]++
	f.accepted++
	return true
}

// ClientFlows are the live flows by client (an IPv4 address, an IPv6 /64), of at most n clients:
// those that have the most.
func (s *Stack) ClientFlows(n int) map[netip.Prefix]int { return s.flows.clients(n) }

// CountBeside has MaxFlows and MaxFlowsPerClient count flows of another process too, as that
// one's ClientFlows are: all in sum. The map must not change after that.
func (s *Stack) CountBeside(all int, clients map[netip.Prefix]int) {
	s.flows.mu.Lock()
	defer s.flows.mu.Unlock()
	s.flows.beside, s.flows.besideClient = max(all, 0), clients
}

// Beside is how many flows of another process count.
func (s *Stack) Beside() int {
	s.flows.mu.Lock()
	defer s.flows.mu.Unlock()
	return s.flows.beside
}

// ended is called by a connection when it was closed or reset.
func (f *flows) ended(c *Conn, reset bool) {
	if oldest := f.remove(c, reset); oldest != nil {
		abort(oldest) // without the lock, because abort writes to the device
	}
}

// remove takes a connection out. If the connection has to linger and too many linger
// already, remove forgets the oldest of them and returns it.
func (f *flows) remove(c *Conn, reset bool) (oldest *Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, ok := f.live[c]; !ok {
		return nil // was rejected by add
	}
	delete(f.live, c)
	key := clientkey.Of(c.src.Addr())
	if f.perClient[key]--; f.perClient[key] <= 0 {
		delete(f.perClient, key)
	}
	if reset || delivered(c) {
		return nil
	}
	if len(f.lingering) >= f.max {
		oldest = f.lingering[0].conn
		f.lingering[0] = lingerer{}
		f.lingering = f.lingering[1:]
		f.gaveUp++
	}
	f.lingering = append(f.lingering, lingerer{c, time.Now().Add(f.lingerTimeout)})
	return oldest
}

// sweep forgets the closed connections that have delivered everything and
// resets those whose time is up.
func (f *flows) sweep(now time.Time) {
	for _, c := range f.late(now) {
		abort(c)
	}
}

// late forgets the closed connections that have delivered everything. It also forgets
// those whose time is up, and returns these.
func (f *flows) late(now time.Time) (late []*Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	kept := f.lingering[:0]
	for _, l := range f.lingering {
		switch {
		case delivered(l.conn):
		case now.After(l.until):
			late = append(late, l.conn)
			f.gaveUp++
		default:
			kept = append(kept, l)
		}
	}
	clear(f.lingering[len(kept):])
	f.lingering = kept
	if len(kept) == 0 {
		f.lingering = nil
	}
	return late
}

// delivered says whether all that netstack still does for a closed connection is to
// wait for the end of TIME-WAIT.
func delivered(c *Conn) bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateTimeWait, tcp.StateClose, tcp.StateError:
		return true
	}
	return false
}

// abort resets a closed connection that has not delivered everything.
func abort(c *Conn) {
	if !delivered(c) {
		c.ep.Abort()
	}
}

// all returns the live connections.
func (f *flows) all() []*Conn {
	f.mu.Lock()
	defer f.mu.Unlock()
	cs := make([]*Conn, 0, len(f.live))
	for c := range f.live {
		cs = append(cs, c)
	}
	return cs
}

func (f *flows) stats(s *Stats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s.FlowsLive = len(f.live)
	s.FlowsLingering = len(f.lingering)
	s.FlowsAccepted = f.accepted
	s.FlowsRejected = f.rejected
	s.LingeringReset = f.gaveUp
}
