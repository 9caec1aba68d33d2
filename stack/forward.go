package stack

import (
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// forwarder takes the connections to every port: netstack has no listener for
// all of them. Each handshake has a goroutine, so they are few and short:
// netstack alone would let 1024 spoofed SYNs shut everybody out for 127 s.
type forwarder struct {
	tcp     *tcp.Forwarder
	max     int
	timeout time.Duration
	accept  func(tcpip.Endpoint, *waiter.Queue)
	stats   *counters

	wg sync.WaitGroup // handshakes under way

	mu       sync.Mutex
	stopping bool // no handshake is started any more
	inFlight map[gstack.TransportEndpointID]*waiter.Queue
}

func newForwarder(ns *gstack.Stack, cfg Config, stats *counters, accept func(tcpip.Endpoint, *waiter.Queue)) *forwarder {
	f := &forwarder{
		max:      cfg.MaxHalfOpen,
		timeout:  cfg.HandshakeTimeout,
		accept:   accept,
		stats:    stats,
		inFlight: make(map[gstack.TransportEndpointID]*waiter.Queue),
	}
	// Its own bound is one higher than ours, and it forgets a request before
	// we do: when we start one, it does too.
	f.tcp = tcp.NewForwarder(ns, cfg.BufferSize, cfg.MaxHalfOpen+1, f.handshake)
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
	if _, again := f.inFlight[id]; again {
		return true
	}
	if len(f.inFlight) >= f.max {
		f.stats.synOverflow.Add(1)
		return true
	}
	f.inFlight[id] = new(waiter.Queue)
	f.wg.Add(1)
	if !f.tcp.HandlePacket(id, pkt) { // not a SYN: no handshake was started
		delete(f.inFlight, id)
		f.wg.Done()
		return false
	}
	return true
}

// handshake is run by netstack in a goroutine of its own for each SYN it took.
func (f *forwarder) handshake(r *tcp.ForwarderRequest) {
	defer f.wg.Done()
	id := r.ID()
	f.mu.Lock()
	wq := f.inFlight[id]
	f.mu.Unlock()

	// CreateEndpoint waits for an event of the queue and then looks whether
	// the connection is there: an event of ours ends the wait.
	var late atomic.Bool
	timer := time.AfterFunc(f.timeout, func() {
		late.Store(true)
		wq.Notify(waiter.WritableEvents)
	})
	ep, terr := r.CreateEndpoint(wq)
	timer.Stop()
	// The connection is established, or netstack has given up: in neither case
	// is a RST to be sent for the SYN.
	r.Complete(false)
	f.mu.Lock()
	delete(f.inFlight, id)
	f.mu.Unlock()

	if terr != nil {
		if late.Load() {
			f.stats.handshakesTimedOut.Add(1)
		}
		return
	}
	f.accept(ep, wq)
}

// stop ends the handshakes under way and waits for their goroutines.
func (f *forwarder) stop() {
	f.mu.Lock()
	f.stopping = true
	f.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.wg.Wait()
	}()
	// Again and again: an event before CreateEndpoint waits is lost.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
		}
		f.mu.Lock()
		queues := make([]*waiter.Queue, 0, len(f.inFlight))
		for _, q := range f.inFlight {
			queues = append(queues, q)
		}
		f.mu.Unlock()
		for _, q := range queues {
			q.Notify(waiter.WritableEvents)
		}
	}
}
