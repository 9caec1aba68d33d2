package stack

import (
	"context"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/sslgate/sslgate/internal/workerpool"
	"github.com/sslgate/sslgate/stack/sender"
)

// Stack turns the packets of a Device into flows for a Handler.
//
// Packets from the device go this way:
//
//  1. Device.ReadBatch, of each queue (rx.go, queues.go)
//  2. the gate (gate.go, packet.go); a fragment waits in reassemble.go, a segment that
//     comes before its connection is made in early.go
//  3. netstack (netstack.go)
//  4. listener or forwarder (listen.go, forward.go)
//  5. Flow (flows.go) and Conn (conn.go)
//
// Packets to the device go from Conn to netstack, link.WritePackets (link.go) and
// Device.WriteBatch.
type Stack struct {
	cfg       Config
	counters  counters
	flows     *flows
	halfOpen  *halfOpen
	fragments *reassembler
	early     *early
	recovery  *recovery
	tooBig    *tooBigLimit
	sender    senderFields
	paced     atomic.Pointer[sender.Sender] // set by Run with Config.Paced
	read      []atomic.Uint64               // packets, by queue of the device

	started  atomic.Bool
	draining atomic.Bool
	stopOnce sync.Once
	noAccept chan struct{} // closed by StopAccepting

	netstack atomic.Pointer[gstack.Stack] // set by Run
	flowCtx  context.Context              // set by Run before the first flow
	handlers workerpool.Crew              // for HandleFlow; reused, because a handshake has grown their stacks
	helpers  workerpool.Crew              // of Flow.Go
}

// sweepInterval is the time between two looks for what has run out of time.
const sweepInterval = time.Second

// New checks the configuration. It opens nothing and starts nothing; Run does.
func New(cfg Config) (*Stack, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkSendQueue(); err != nil {
		return nil, err
	}
	under, err := findSender()
	if err != nil {
		return nil, err
	}
	if cfg.Paced {
		if err := checkReceiver(); err != nil {
			return nil, err
		}
	}
	s := &Stack{
		sender:   under,
		cfg:      cfg,
		flows:    newFlows(cfg),
		halfOpen: newHalfOpen(cfg.HandshakeTimeout),
		early:    newEarly(),
		recovery: newRecovery(),
		tooBig:   newTooBigLimit(),
		read:     make([]atomic.Uint64, Queues(cfg.Device)),
		noAccept: make(chan struct{}),
	}
	s.fragments = newReassembler(&s.counters)
	return s, nil
}

// Run takes flows until ctx ends or the device fails. Then it aborts the live flows with
// RST, closes the device, and returns when all its goroutines have ended, those of
// HandleFlow too. The error is nil if ctx ended it, otherwise the device's error. A
// second call returns ErrRunTwice.
func (s *Stack) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return ErrRunTwice
	}
	defer func() { _ = s.cfg.Device.Close() }()

	l := newLink(s.cfg.Device, &s.counters)
	endPaced := s.startPaced(l)
	defer endPaced()
	var delayed sync.WaitGroup
	delayed.Go(l.acks.Run)
	defer delayed.Wait()
	defer l.acks.Close()
	ns, err := newNetstack(s.cfg, l)
	if err != nil {
		return err
	}
	s.netstack.Store(ns)
	flowCtx, cancelFlows := context.WithCancel(ctx)
	defer cancelFlows()
	s.flowCtx = flowCtx

	s.early.attach(ns, l)
	s.recovery.attach(ns, l)
	s.halfOpen.attach(ns)
	stopAccept, err := s.startAccepting(ns)
	if err != nil {
		ns.Destroy()
		return err
	}
	g := s.newGate(l)
	received := make(chan error, len(l.queues))
	for i, q := range l.queues {
		go func() { received <- l.receive(g, q, &s.read[i]) }()
	}
	receiving := len(l.queues)
	stopSweep := make(chan struct{})
	var sweeper sync.WaitGroup
	sweeper.Go(func() { s.sweep(stopSweep) })

	var failed error
	select {
	case <-ctx.Done():
	case failed = <-received: // the first queue that fails; the others end when the device is closed
		receiving--
		if !errors.Is(failed, os.ErrClosed) {
			s.cfg.Log.Error("device failed, flows are aborted", zap.Error(failed))
		}
	}

	// The order matters from here on. First refuse new flows, then tell and abort the
	// live ones, wait for their handlers, and let netstack reset what still lingers. Only
	// then close the device, because the RSTs need it.
	s.StopAccepting()
	stopAccept()
	cancelFlows()
	for _, c := range s.flows.all() {
		c.Reset()
	}
	s.handlers.Wait()
	s.helpers.Wait()
	close(stopSweep)
	sweeper.Wait()
	ns.Close()
	_ = s.cfg.Device.Close()
	for range receiving {
		<-received //nolint:errcheck // os.ErrClosed: we have just closed the device
	}
	s.early.close()
	s.recovery.close()
	ns.Wait()
	return failed
}

// StopAccepting refuses new flows from now on: SYNs are answered RST, and handshakes
// under way are reset. Live flows continue. It can be called at any time and any number
// of times.
func (s *Stack) StopAccepting() {
	s.draining.Store(true)
	s.stopOnce.Do(func() { close(s.noAccept) })
}

// Stats returns the counters as they are now. It can be called at any time.
func (s *Stack) Stats() Stats {
	st := s.counters.snapshot()
	s.flows.stats(&st)
	s.fragments.snapshot(&st)
	s.early.snapshot(&st)
	s.recovery.snapshot(&st)
	for i := range s.read {
		st.QueuePackets = append(st.QueuePackets, s.read[i].Load())
	}
	if ns := s.netstack.Load(); ns != nil {
		st.addNetstack(ns)
	}
	if p := s.paced.Load(); p != nil {
		st.addPaced(p.Stats())
	}
	return st
}

// startAccepting opens the listeners, or the forwarder. The function it returns waits
// until no connection is accepted any more; StopAccepting must have been called before
// it.
func (s *Stack) startAccepting(ns *gstack.Stack) (wait func(), err error) {
	if s.cfg.AllPorts {
		return newForwarder(ns, s.cfg, &s.counters, s.accept).stop, nil
	}
	listeners := make([]*listener, 0, len(s.cfg.Ports))
	for _, port := range s.cfg.Ports {
		l, err := listen(ns, port, s.cfg.MaxHalfOpen)
		if err != nil {
			for _, l := range listeners {
				l.ep.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	var wg sync.WaitGroup
	for _, l := range listeners {
		wg.Go(func() { l.serve(s.noAccept, s.accept) })
	}
	return wg.Wait, nil
}

func (s *Stack) newGate(l *link) *gate {
	g := &gate{
		handler:   s.cfg.Handler,
		allPorts:  s.cfg.AllPorts,
		draining:  &s.draining,
		flows:     s.flows,
		halfOpen:  s.halfOpen,
		early:     s.early,
		recovery:  s.recovery,
		fragments: s.fragments,
		stats:     &s.counters,
		flooded:   s.cfg.Flooded,
		now:       time.Now,
		underWay:  func(q quote) (yes, asked bool) { return s.sender.underWay(s.netstack.Load(), q, s.tooBig.allow) },
		stamped:   newStampedSYNs(s.cfg.HandshakeTimeout),
		agreed:    func(t synTuple) (uint32, bool) { return agreedTimestamps(s.netstack.Load(), t) },
		reply: func(pkt []byte) {
			l.write([][][]byte{{make([]byte, VirtioHeaderLen), pkt}}, len(pkt))
		},
	}
	for _, p := range s.cfg.Ports {
		g.take(p)
	}
	return g
}

// sweep ends what has run out of time: handshakes, closed connections that cannot deliver
// their last bytes, incomplete packets, and the waiting segments and records of early.go,
// recovery.go and toobiglimit.go.
func (s *Stack) sweep(stop <-chan struct{}) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case now := <-tick.C:
			s.flows.sweep(now)
			s.fragments.sweep(now)
			s.early.sweep(now)
			s.recovery.sweep(now)
			s.tooBig.sweep(now)
			s.counters.handshakesTimedOut.Add(uint64(s.halfOpen.sweep(now)))
		}
	}
}
