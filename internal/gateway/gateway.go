// Package gateway connects all other packages: a flow from the stack goes through the
// handshake and the policy to the relay. flow.go shows the walk of one flow, step by step.
package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/peerlimit"
	"github.com/sslgate/sslgate/internal/ticket"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
)

// Limits bound what clients can make the gateway hold. Zero values mean the
// defaults of internal/config.
type Limits struct {
	Hello     int           // bytes of a ClientHello
	Handshake time.Duration // the whole client handshake, hello included
	Idle      time.Duration // how long a flow may carry no data
	// Stall is how long data may wait for a peer that does not take it. HalfClosed is how
	// long a flow without data lives once one side has closed.
	Stall, HalfClosed time.Duration
	Dial              time.Duration // TCP connect to the destination; its TLS handshake gets as long again

	// Handshakes is how many client handshakes are worked on at once; at most four times as
	// many wait.
	Handshakes int
	// HandshakesPerClient is how many of them one client may have, waiting ones included.
	// HandshakesPerSecond is how many it may begin.
	HandshakesPerClient, HandshakesPerSecond int
	// DialsPerDestination is how many flows may wait for one destination.
	DialsPerDestination int
	// PerIdentity bounds what one proven identity may have; zero values are no bound.
	PerIdentity peerlimit.Limits
	// Refusals is how many refused SYNs and flows get a record of their own per second, and
	// RefusalsPerClient how many of one client. Ten times as many may come at once.
	Refusals, RefusalsPerClient int
}

// Settings are what a reload changes, all at once. A live flow keeps its old ones, but see
// inforce.go.
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
	// DialAs connects to a destination from a client's address, or fails. nil means the
	// host's own sockets, marked with SourceMark.
	DialAs     func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error)
	SourceMark dialer.Mark
	// OwnMark is the mark of all other sockets; 0: none. LocalOut says that connections of
	// programs of this host are captured: their client has an address of this host.
	OwnMark  dialer.Mark
	LocalOut bool
	// Ours says whether a connection is one of sslgate's own sockets, for LocalOut; nil
	// asks the kernel for a socket with OwnMark or SourceMark.
	Ours func(local, remote netip.AddrPort) (bool, error)
	// Here says whether an address is this host's, for LocalOut; nil asks Own.
	Here func(netip.Addr) (bool, error)
	// Refused are networks that no destination may lie in: those of the TUN device.
	Refused []netip.Prefix
	// Local says that connections to this host's own addresses are captured like all
	// others. They are dialled for clients of rules that terminate.
	Local bool
	// Own lists the gateway's own addresses; nil asks the host.
	Own func() ([]netip.Prefix, error)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Revocation is asked about every client certificate that the policy allows; nil
	// means no check.
	Revocation Revocation
	// Challenges answer the validators of a CA; nil: none.
	Challenges Challenges
	// Memory is asked for room for every flow; nil means no limit.
	Memory Memory
	// Stale says that the policy is too old to let new flows in; nil means never. It is asked for
	// each SYN.
	Stale func() bool
	// Finished is called once for every flow and refused SYN, recorded or not, after its
	// record was handed to Audit. It must neither block nor change the record. nil
	// means no call.
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
	dialFrom func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error)
	own      *ownAddrs
	local    bool
	localOut bool
	here     *hereCache
	ours     func(local, remote netip.AddrPort) (bool, error)
	refused  []netip.Prefix
	now      func() time.Time
	stale    func() bool
	registry *registry
	refusals *refusals
	buffers  *bufferPool
	turns    *fairqueue.Queue
	dials    *dialsUnderWay
	peers    *peerlimit.Table
	memory   Memory
	limitLog *limitLog
	lostSay  rate.Sometimes // limits the messages about lost records
	panicSay rate.Sometimes // limits the messages about defects
	draining atomic.Bool

	ticketKeys *ticket.Keys // the gateway's own
	revocation Revocation   // nil: no check
	challenges Challenges   // nil: none
	suspects   suspects     // while a validator is awaited
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
	if c.Stale == nil {
		c.Stale = func() bool { return false }
	}
	if c.Own == nil {
		c.Own = hostAddrs
	}
	g := &Gateway{
		engine: c.Engine, audit: c.Audit, log: c.Log, dial: c.Dial, dialAs: c.DialAs, now: c.Now, stale: c.Stale,
		refused: c.Refused, local: c.Local, localOut: c.LocalOut, revocation: c.Revocation, challenges: c.Challenges,
		own:      &ownAddrs{list: c.Own, now: c.Now},
		here:     &hereCache{ask: c.Here, now: c.Now},
		registry: newRegistry(),
		buffers:  newBufferPool(),
		finished: c.Finished,
		lostSay:  rate.Sometimes{Interval: limitEvery}, panicSay: rate.Sometimes{First: 3, Interval: limitEvery},
		dials: newDialsUnderWay(),
	}
	if g.here.ask == nil {
		g.here.ask = func(a netip.Addr) (bool, error) {
			own, err := g.own.get()
			return slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == a }), err
		}
	}
	if g.ours = c.Ours; g.ours == nil {
		g.ours = func(local, remote netip.AddrPort) (bool, error) {
			own, err := c.OwnMark.Owns(local, remote)
			if own || err != nil {
				return own, err
			}
			return c.SourceMark.Owns(local, remote)
		}
	}
	if g.dial == nil {
		g.dial = hostDial(c.OwnMark)
	}
	if g.dialAs == nil {
		g.dialAs = hostDialAs(c.SourceMark)
	}
	if g.dialFrom == nil {
		g.dialFrom = hostDialFrom(c.OwnMark)
	}
	if g.memory = c.Memory; g.memory == nil {
		g.memory = unmeasured{}
	}
	g.peers = peerlimit.NewTable(nil)
	g.limitLog = newLimitLog(c.Log, time.Now)
	g.turns = fairqueue.New(c.Limits.withDefaults().turns(), nil)
	g.ticketKeys = ticket.NewKeys(0)
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

// Put sets the settings for flows that begin from now on.
func (g *Gateway) Put(s Settings) {
	limits := s.Limits.withDefaults()
	g.turns.SetLimits(limits.turns())
	g.peers.SetLimits(limits.PerIdentity)
	g.current.Store(&settings{s.Policy, limits, s.Shadow, g.ticketRule(s.Tickets, limits.Hello)})
}

// Shadow is the second policy with its counts; nil if there is none.
func (g *Gateway) Shadow() *policy.Shadow { return g.current.Load().shadow }

// withDefaults fills in the defaults of internal/config.
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

// Relayed is the number of bytes that all flows have relayed since the start, live flows
// included.
func (g *Gateway) Relayed() (up, down int64) { return g.registry.relayed() }

// Each calls f for every live flow, in no particular order. f may End it. The flow may
// have ended by itself meanwhile.
func (g *Gateway) Each(f func(*Live)) {
	for _, l := range g.registry.all() {
		f(l)
	}
}

// Lookup returns the live flow of that id, nil if there is none.
func (g *Gateway) Lookup(id string) *Live { return g.registry.lookup(id) }

// Refuse refuses new flows from now on; live ones go on.
func (g *Gateway) Refuse() { g.draining.Store(true) }

// Drain refuses new flows from now on and waits until the live ones have ended or ctx is
// done.
func (g *Gateway) Drain(ctx context.Context) error {
	g.Refuse()
	return g.registry.waitEmpty(ctx)
}

// write appends a record and passes it to the observers (tell).
func (g *Gateway) write(r *audit.Record) {
	g.append(r)
	g.tell(r)
}

// append appends a record. A lost record is logged as an error: somebody must act on it.
func (g *Gateway) append(r *audit.Record) {
	err := g.audit.Write(r)
	if err != nil && !errors.Is(err, audit.ErrLost) { // the log has counted and logged ErrLost itself
		g.lostSay.Do(func() { g.log.Error("audit record lost", zap.String("id", r.ID), zap.Error(err)) })
	}
}

// tell passes a record to those that observe every flow, recorded or not.
func (g *Gateway) tell(r *audit.Record) {
	g.limitLog.note(r)
	if g.finished != nil {
		g.finished(r)
	}
}

// Queued is the number of refused SYNs that wait to be recorded, at most QueueSize. A SYN
// that finds the queue full is counted in the field suppressed of a later record.
func (g *Gateway) Queued() int { return len(g.refusals.queue) }

// QueueSize bounds Queued.
const QueueSize = refusalQueue

var _ stack.Handler = (*Gateway)(nil)
