// Package gateway is the only wiring: a flow from the stack goes through the
// handshake and the policy to the relay. flow.go is the walk of one flow,
// straight down.
package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
)

// Limits bound what clients can make the gateway hold. Zero values mean the
// defaults of internal/config.
type Limits struct {
	Hello     int           // bytes of a ClientHello
	Handshake time.Duration // the whole client handshake, hello included
	Idle      time.Duration // a flow without data
	// Stall is how long data may wait for a peer that does not take it, and
	// HalfClosed how long a flow without data lives once one side has closed.
	Stall, HalfClosed time.Duration
	Dial              time.Duration // connecting to the destination; its TLS handshake gets as long again

	// Handshakes with clients that are worked at; the rest wait, at most four times as many.
	Handshakes int
	// HandshakesPerClient is how many are one client's, those that wait for it too, and
	// HandshakesPerSecond how many it may begin.
	HandshakesPerClient, HandshakesPerSecond int
	// DialsPerDestination is how many flows may wait for one destination.
	DialsPerDestination int
	// Refusals is how many refused SYNs and flows get a record of their own in a second,
	// and RefusalsPerClient how many of one client; ten times as many may come at once.
	Refusals, RefusalsPerClient int
}

// Settings are what a reload changes, all at once. A flow keeps those it began with.
type Settings struct {
	Policy *policy.Set // required
	Limits Limits
	// Shadow is a second policy that decides every flow beside the first one
	// and changes nothing; nil means none.
	Shadow *policy.Shadow
	// Tickets let clients resume their sessions; nil: none.
	Tickets *Tickets
}

// Config is what a Gateway is made of. All but Dial, DialAs, Own and Now are required.
type Config struct {
	Settings
	Engine handshake.Engine
	Audit  *audit.Log
	Log    *zap.Logger
	// Dial connects to a destination; nil means the host's own sockets.
	Dial func(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
	// DialAs connects to a destination under a client's address, or fails; nil
	// means the host's own sockets, with the mark SourceMark.
	DialAs     func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error)
	SourceMark uint32
	// Refused are networks no destination may lie in: those of the TUN.
	Refused []netip.Prefix
	// Local says that connections to this host's own addresses come here like all
	// others: they are dialled for clients of rules that terminate.
	Local bool
	// Own lists the gateway's own addresses; nil asks the host.
	Own func() ([]netip.Prefix, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Revocation is asked about every client certificate that policy allows;
	// nil asks nobody.
	Revocation Revocation
	// Memory is asked for room for every flow; nil means there always is.
	Memory Memory
	// Finished is called once for every record, after it was handed to Audit and
	// in the flow's own goroutine. It must neither block nor change the record.
	// nil means nobody asks.
	Finished func(*audit.Record)
}

// Gateway decides and relays flows. It implements stack.Handler.
type Gateway struct {
	current  atomic.Pointer[settings]
	engine   handshake.Engine
	audit    *audit.Log
	log      *zap.Logger
	dial     func(ctx context.Context, dst netip.AddrPort) (net.Conn, error)
	dialAs   func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error)
	own      *ownAddrs
	local    bool
	refused  []netip.Prefix
	now      func() time.Time
	registry *registry
	refusals *refusals
	buffers  *bufferPool
	turns    *fairqueue.Queue
	dials    *dialsUnderWay
	memory   Memory
	limitLog *limitLog
	lostSay  rate.Sometimes // of records that are lost
	panicSay rate.Sometimes // of defects
	draining atomic.Bool

	ticketKeys handshake.TicketSealer // of our own
	revocation Revocation             // nil: nobody is asked
	finished   func(*audit.Record)
}

// New builds a gateway. Run must be called for it to record refused SYNs.
func New(c Config) (*Gateway, error) {
	if c.Policy == nil || c.Engine == nil || c.Audit == nil || c.Log == nil {
		return nil, errors.New("gateway: policy, engine, audit and log are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Own == nil {
		c.Own = hostAddrs
	}
	g := &Gateway{
		engine: c.Engine, audit: c.Audit, log: c.Log, dial: c.Dial, dialAs: c.DialAs, now: c.Now,
		refused: c.Refused, local: c.Local, revocation: c.Revocation,
		own:      &ownAddrs{list: c.Own, now: c.Now},
		registry: newRegistry(),
		buffers:  newBufferPool(),
		finished: c.Finished,
		lostSay:  rate.Sometimes{Interval: limitEvery}, panicSay: rate.Sometimes{First: 3, Interval: limitEvery},
		dials: newDialsUnderWay(),
	}
	if g.dial == nil {
		g.dial = hostDial
	}
	if g.dialAs == nil {
		g.dialAs = hostDialAs(c.SourceMark)
	}
	if g.memory = c.Memory; g.memory == nil {
		g.memory = unmeasured{}
	}
	g.limitLog = newLimitLog(c.Log, time.Now)
	g.turns = fairqueue.New(c.Limits.withDefaults().turns(), nil)
	g.ticketKeys = handshake.NewTicketKeys(0)
	g.refusals = newRefusals(g.write, g.append)
	g.Put(c.Settings)
	return g, nil
}

// settings are Settings with the defaults filled in.
type settings struct {
	set     *policy.Set
	limits  Limits
	shadow  *policy.Shadow
	tickets *handshake.TicketRule // nil: none
}

// Put puts other settings in place for the flows that begin from now on.
func (g *Gateway) Put(s Settings) {
	limits := s.Limits.withDefaults()
	g.turns.SetLimits(limits.turns())
	g.current.Store(&settings{s.Policy, limits, s.Shadow, g.ticketRule(s.Tickets)})
}

// Shadow is the second policy with its counts; nil if there is none.
func (g *Gateway) Shadow() *policy.Shadow { return g.current.Load().shadow }

// withDefaults fills in those of internal/config.
func (l Limits) withDefaults() Limits {
	if l.Hello <= 0 {
		l.Hello = handshake.MaxHello
	}
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{{&l.Handshake, 10 * time.Second}, {&l.Idle, 10 * time.Minute}, {&l.Stall, time.Minute}, {&l.HalfClosed, time.Minute}, {&l.Dial, 5 * time.Second}} {
		if *d.v <= 0 {
			*d.v = d.def
		}
	}
	l.handshakeDefaults()
	if l.Refusals <= 0 {
		l.Refusals = defaultRefusals
	}
	if l.RefusalsPerClient <= 0 {
		l.RefusalsPerClient = defaultRefusalsPerClient
	}
	if l.DialsPerDestination <= 0 {
		l.DialsPerDestination = defaultDialsPerDestination
	}
	return l
}

// Run records refused SYNs until ctx ends, then writes what is still queued.
func (g *Gateway) Run(ctx context.Context) error {
	g.refusals.run(ctx)
	return nil
}

// Flows is the number of live flows.
func (g *Gateway) Flows() int { return g.registry.count() }

// Relayed is the number of bytes that all flows since the start have relayed,
// live ones so far.
func (g *Gateway) Relayed() (up, down int64) { return g.registry.relayed() }

// Each calls f for every flow that is live now, in no particular order; f may
// End it. It may have ended by itself meanwhile.
func (g *Gateway) Each(f func(*Live)) {
	for _, l := range g.registry.all() {
		f(l)
	}
}

// Lookup returns the live flow of that id, nil if there is none.
func (g *Gateway) Lookup(id string) *Live { return g.registry.lookup(id) }

// Refuse refuses new flows from now on; live ones go on.
func (g *Gateway) Refuse() { g.draining.Store(true) }

// Drain refuses new flows from now on and waits until the live ones have
// ended or ctx has.
func (g *Gateway) Drain(ctx context.Context) error {
	g.Refuse()
	return g.registry.waitEmpty(ctx)
}

// write appends a record and tells who wants to know of it.
func (g *Gateway) write(r *audit.Record) {
	g.append(r)
	g.tell(r)
}

// append appends a record; one that is lost is an error someone must act on.
func (g *Gateway) append(r *audit.Record) {
	err := g.audit.Write(r)
	if err != nil && !errors.Is(err, audit.ErrLost) { // which the log has counted and said
		g.lostSay.Do(func() { g.log.Error("audit record lost", zap.String("id", r.ID), zap.Error(err)) })
	}
}

// tell is for those who want to know of every flow, recorded or not.
func (g *Gateway) tell(r *audit.Record) {
	g.limitLog.note(r)
	if g.finished != nil {
		g.finished(r)
	}
}

// Queued is the number of refused SYNs that wait to be recorded, of
// QueueSize at most; what finds the queue full is counted in the field
// suppressed of a later record.
func (g *Gateway) Queued() int { return len(g.refusals.queue) }

// QueueSize bounds Queued.
const QueueSize = refusalQueue

var _ stack.Handler = (*Gateway)(nil)
