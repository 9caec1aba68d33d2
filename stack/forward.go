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

// forwarder takes the connections to every port: netstack has no listener for
// all of them, and so no SYN cookies. Each handshake has a goroutine, so they are
// few and short. Where there are as many as may be, the next SYN takes the place
// of the oldest handshake of the client that has the most (pending.go): an address
// that never answers pushes out its own, and who answers keeps his place for the
// one round trip that he needs it.
type forwarder struct {
	tcp     *tcp.Forwarder
	timeout time.Duration
	accept  func(tcpip.Endpoint, *waiter.Queue)
	stats   *counters
	now     func() time.Time

	wg sync.WaitGroup // handshakes under way

	mu       sync.Mutex
	stopping bool // no handshake is started any more
	pending  *pending
	// given are those that have lost their place and whose goroutine has not
	// ended yet. As many as may be pending, then SYNs are dropped.
	given map[gstack.TransportEndpointID]*pendingSYNACK
}

// again is how often a handshake that is to end is told so: an event that comes
// before CreateEndpoint waits for it is lost.
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
	// Its own bound is one higher than ours, and it forgets a request before
	// we do: when we start one, it does too.
	f.tcp = tcp.NewForwarder(ns, cfg.BufferSize, 2*cfg.MaxHalfOpen+1, f.handshake)
	ns.SetTransportProtocolHandler(tcp.ProtocolNumber, f.segment)
	return f
}

// segment is asked by netstack about a segment that belongs to no connection;
// false leaves it to netstack, which answers RST.
func (f *forwarder) segment(id gstack.TransportEndpointID, pkt *gstack.PacketBuffer) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stopping {
		return false
	}
	// Netstack sees it once the connection is registered; until then the
	// client has to send it again.
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

// giveUp ends a handshake that has lost its place. The lock is held.
func (f *forwarder) giveUp(p *pendingSYNACK) {
	f.pending.remove(p)
	f.given[p.id] = p
	if p.timer != nil {
		p.timer.Reset(0)
	}
}

// begin finds the handshake of a request and gives it its time; nil if it has
// lost its place already.
func (f *forwarder) begin(id gstack.TransportEndpointID) *pendingSYNACK {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.pending.find(id)
	if p == nil {
		return nil
	}
	// CreateEndpoint waits for an event of the queue and then looks whether
	// the connection is there: an event of ours ends the wait.
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

// end forgets a handshake that is over, and says whether it had time enough.
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

// handshake is run by netstack in a goroutine of its own for each SYN it took.
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
	// The connection is established, or netstack has given up: in neither case
	// is a RST to be sent for the SYN.
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
