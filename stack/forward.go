package stack

import (
	"net/netip"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// forwarder takes the connections to every port. Netstack has no listener for all
// ports, and so no SYN cookies for them. Each handshake has a goroutine, so handshakes
// are bounded in number and time. At the bound, the next SYN takes the place of the
// oldest handshake of the client that has the most (pending.go). So an address that
// never answers pushes out its own handshakes, and a client that answers keeps its
// place for the one round trip it needs.
type forwarder struct {
	tcp     *tcp.Forwarder
	timeout time.Duration
	accept  func(tcpip.Endpoint, *waiter.Queue)
	stats   *counters
	now     func() time.Time

	wg sync.WaitGroup // handshakes under way

	mu       sync.Mutex
	stopping bool // no new handshake is started
	pending  *pending
	// given are the handshakes that have lost their place but whose goroutine has not
	// ended yet. Once there are as many as may be pending, SYNs are dropped.
	given map[gstack.TransportEndpointID]*pendingSYNACK
}

// again is the interval at which a handshake that must end is notified. One event is
// not enough: it is lost if it comes before CreateEndpoint waits for it.
const again = 5 * time.Millisecond

func newForwarder(ns *gstack.Stack, cfg Config, stats *counters, accept func(tcpip.Endpoint, *waiter.Queue)) *forwarder {
	f := &forwarder{
		timeout: cfg.HandshakeTimeout,
		accept:  accept,
		stats:   stats,
		now:     time.Now,
		pending: newPending(cfg.MaxHalfOpen),
		given:   map[gstack.TransportEndpointID]*pendingSYNACK{},
	}
	// Netstack's bound is one higher than ours, and netstack forgets a request before
	// we do. So whenever we start a handshake, netstack does too.
	f.tcp = tcp.NewForwarder(ns, cfg.BufferSize, 2*cfg.MaxHalfOpen+1, f.handshake)
	ns.SetTransportProtocolHandler(tcp.ProtocolNumber, f.segment)
	return f
}

// segment is called by netstack with a segment that belongs to no connection. False
// leaves the segment to netstack, which answers RST.
func (f *forwarder) segment(id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return false
	}
	// The handshake is under way. Netstack handles further segments itself once the
	// connection is registered; until then the client has to send this one again.
	if f.pending.has(id) || f.given[id] != nil {
		return true
	}
	client, ok := netip.AddrFromSlice(id.RemoteAddress.AsSlice())
	if !ok {
		return false
	}
	if f.pending.full() && len(f.given) >= f.pending.max {
		f.stats.synOverflow.Add(1)
		return true
	}
	p := f.pending.add(id, client, f.now())
	f.wg.Add(1)
	if !f.tcp.HandlePacket(id, pkt) { // not a SYN: no handshake was started
		f.pending.remove(p)
		f.wg.Done()
		return false
	}
	if f.pending.over() {
		f.giveUp(f.pending.victim())
		f.stats.handshakesEvicted.Add(1)
	}
	return true
}

// giveUp ends a handshake that has lost its place. The caller holds the lock.
func (f *forwarder) giveUp(p *pendingSYNACK) {
	f.pending.remove(p)
	f.given[p.id] = p
	if p.timer != nil {
		p.timer.Reset(0)
	}
}

// begin finds the handshake of a request and starts its timer; nil if the handshake has
// lost its place already.
func (f *forwarder) begin(id gstack.TransportEndpointID) *pendingSYNACK {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pending.find(id)
	if p == nil {
		return nil
	}
	// CreateEndpoint waits for an event of the queue and then checks whether the
	// connection is established. Our own event ends that wait.
	p.timer = time.AfterFunc(f.timeout, func() {
		f.mu.Lock()
		over := p.over
		if !over {
			p.late = true
			p.timer.Reset(again)
		}
		f.mu.Unlock()
		if !over {
			p.wq.Notify(waiter.WritableEvents)
		}
	})
	if f.stopping {
		p.timer.Reset(0)
	}
	return p
}

// end forgets a handshake that is over. late is true if it ran out of time, and did not
// lose its place or end because of stop.
func (f *forwarder) end(id gstack.TransportEndpointID, p *pendingSYNACK) (late bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.given, id)
	if p == nil {
		return false
	}
	given := !f.pending.remove(p)
	p.over = true
	p.timer.Stop()
	return p.late && !given && !f.stopping
}

// handshake handles one SYN; netstack runs it in a goroutine of its own.
func (f *forwarder) handshake(r *tcp.ForwarderRequest) {
	defer f.wg.Done()
	id := r.ID()
	p := f.begin(id)
	if p == nil {
		r.Complete(false)
		f.end(id, nil)
		return
	}
	ep, terr := r.CreateEndpoint(&p.wq)
	// Either the connection is established, or netstack has given up. In both cases no
	// RST is to be sent for the SYN.
	r.Complete(false)
	late := f.end(id, p)
	if terr != nil {
		if late {
			f.stats.handshakesTimedOut.Add(1)
		}
		return
	}
	f.accept(ep, &p.wq)
}

// stop ends the handshakes under way and waits for their goroutines.
func (f *forwarder) stop() {
	f.mu.Lock()
	f.stopping = true
	for p := range f.pending.all() {
		if p.timer != nil {
			p.timer.Reset(0)
		}
	}
	f.mu.Unlock()
	f.wg.Wait()
}
