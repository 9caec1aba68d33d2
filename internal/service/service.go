// Package service runs a whole gateway: start, reload, drain, stop. Package gateway handles the
// single flow.
package service

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/engines"
	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/fleet/bundle"
	"github.com/sslgate/sslgate/internal/fleet/member"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/metrics"
	"github.com/sslgate/sslgate/internal/peerlimit"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/internal/spiffe"
	"github.com/sslgate/sslgate/policy"
	"github.com/sslgate/sslgate/stack"
	"github.com/sslgate/sslgate/tun"
)

// Options of Run. Log and Stdout are required.
type Options struct {
	File   string // the configuration, read again by a reload
	Stdout io.Writer
	Log    *zap.Logger
	// Level changes the level of Log; nil means it is fixed.
	Level *zap.AtomicLevel
	// Version is shown in the status; may be empty.
	Version string
	// Sandbox restricts the whole process, for good, once everything is open.
	Sandbox bool
	// TakeOver says that a gateway runs already and this one takes over from it.
	TakeOver *TakeOver
	// Fleet is where configurations come from; nil: from File alone. Bundle is the one that the
	// gateway starts with. Run does not close Fleet.
	Fleet  *member.Member
	Bundle *bundle.Verified
	// Writable are directories that stay writable, in addition to those of the
	// configuration.
	Writable []string
}

// device is the TUN: a *tun.Device, or a substitute in tests.
type device interface {
	stack.Device
	Name() string
}

// Service is a gateway with everything that it needs.
type Service struct {
	opt      Options
	log      *zap.Logger
	engine   handshake.Engine
	gateway  *gateway.Gateway
	stack    *stack.Stack
	device   device
	steering *tun.Steering // nil: attached to a device that somebody else has set up
	records  *audit.Log
	state    io.Closer      // the lock of the state directory; nil: none
	admin    *admin.Server  // nil: none
	web      netip.AddrPort // of the web page, if there is one
	scrapes  netip.AddrPort // of admin.metrics, if there is one
	started  time.Time
	notify   *notifier

	hub      *admin.Hub       // what is remembered of finished flows
	metrics  *metrics.Metrics // of the whole gateway
	askDrain func()           // begins a drain; further calls do nothing
	asked    chan struct{}    // closed by askDrain

	slot   tun.Slot
	beside bool         // an older process has flows yet, and has handed over to one that has died
	older  int          // the process beside or before this one; 0: none
	lease  *admin.Lease // from the gateway that this one takes over from; nil: it starts by itself
	over   handOver     // to the gateway that takes over from this one

	decided decided // flows, lately

	revocation *revocation.Checker

	memory     *memory.Budget // nil: none
	undoMemory func()
	parts      partsCache
	changes    changes // of certificates
	renewals   renewalWatch
	challenges acmeclient.Challenges // of orders under way
	agents     *spiffe.Agents        // of the SPIFFE Workload API

	reloading sync.Mutex    // one reload at a time
	trust     *policy.Trust // that live flows were decided by last; reloading guards it

	mu       sync.Mutex // guards what status reports
	file     string     // the configuration: Options.File, or that of the process that has taken over
	rt       *config.Runtime
	wanted   []string // files named by a configuration that was refused; for watch
	draining bool
	refuses  time.Time // when the drain will refuse new flows; zero: it does
	deadline time.Time // of the drain
	reloads  int
	last     *admin.ReloadResult
}

// ErrDrained is returned by Run after a drain that the admin interface asked for. A supervisor
// that restarts the gateway after every other end does not restart it then.
var ErrDrained = errors.New("drained, as the admin interface was asked to")

// Run starts a gateway from rt and runs it until ctx ends (it then drains), a drain is asked
// for, or something fails. From its first change of the host on, captured traffic goes only
// through the gateway, even after Run has returned an error.
func Run(ctx context.Context, rt *config.Runtime, opt Options) (err error) {
	var lease *admin.Lease
	if opt.TakeOver == nil {
		opt.TakeOver = awaited(ctx, rt.Config, opt.Log)
	}
	if opt.TakeOver != nil {
		if lease, err = askFor(ctx, rt.Config, &opt); err != nil {
			return err
		}
		defer keepAlive(lease)()
	}
	s, err := newService(ctx, rt, opt, lease)
	if err != nil {
		return err
	}
	if lease != nil {
		s.slot, s.older = otherSlot(lease.Terms.Slot), lease.Terms.Process
	} else {
		s.besideOld(ctx)
	}
	defer s.unlockState()
	defer func() { err = errors.Join(err, s.records.Close()) }()
	defer s.notify.close()
	defer s.agents.Close()
	c := rt.Config
	if s.gateway, err = gateway.New(s.gatewayConfig()); err != nil {
		return err
	}
	if lease != nil {
		err := s.gateway.TicketKeys().Import(lease.Terms.TicketKeys)
		lease.ForgetKeys()
		if err != nil {
			return err
		}
	}
	if err := s.openDevice(); err != nil {
		return err
	}
	if err := s.openAdmin(); err != nil {
		return errors.Join(err, s.device.Close())
	}
	if !c.TUN.Attach {
		steer := tun.Steer
		if lease != nil {
			steer = tun.Join
		}
		if s.steering, err = steer(s.steerConfig(), s.log); err != nil {
			return errors.Join(fmt.Errorf("steer: %w", err), s.device.Close())
		}
		s.warnGRO()
	}
	return s.supervise(ctx)
}

// newService makes the parts that touch neither packets nor the host's network. The caller must
// close records, notify and agents, and unlock the state directory.
func newService(ctx context.Context, rt *config.Runtime, opt Options, lease *admin.Lease) (*Service, error) {
	s := &Service{opt: opt, lease: lease, log: opt.Log, engine: engines.New(), rt: rt, file: opt.File, started: time.Now()}
	s.hub, s.asked, s.agents = admin.NewHub(), make(chan struct{}), spiffe.NewAgents()
	s.over.handed, s.over.parting, s.over.resumed, s.over.untaken = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1), make(chan error, 1)
	s.askDrain = sync.OnceFunc(func() { close(s.asked) })
	err := s.lockState(rt.Config.State)
	if err != nil {
		return nil, err
	}
	if err = s.openParts(ctx); err != nil {
		s.unlockState()
		return nil, err
	}
	s.attend(ctx, rt)
	s.warnMemory()
	s.changes.look(rt, s.log)
	s.trustChanged(rt)
	s.metrics = s.newMetrics()
	s.notify = newNotifier(os.Getenv, s.log)
	if s.lease != nil && s.notify.conn != nil {
		// systemd sets it for a main process only, which this one is to become.
		s.notify.every = s.lease.Terms.Watchdog / 2
		s.notify.muted.Store(true)
	}
	return s, nil
}

// openParts opens records, memory and revocation, all or none.
func (s *Service) openParts(ctx context.Context) (err error) {
	if s.records, err = openRecords(&s.rt.Config.Audit, s.opt.Stdout, s.log); err != nil {
		return err
	}
	if err = s.openMemory(); err != nil {
		return errors.Join(err, s.records.Close())
	}
	if s.revocation, err = openRevocation(ctx, s.rt, s.memory, s.log); err != nil {
		if s.memory != nil {
			s.undoMemory()
		}
		return errors.Join(err, s.records.Close())
	}
	if s.opt.Fleet != nil {
		s.deny(s.opt.Fleet.Revoked())
	}
	return nil
}

func (s *Service) gatewayConfig() gateway.Config {
	var room gateway.Memory
	if s.memory != nil {
		room = s.memory
	}
	return gateway.Config{
		Memory:   room,
		Settings: gatewaySettings(s.rt),
		Engine:   s.engine, Audit: s.records, Log: s.log,
		Refused: s.rt.TUNAddresses, Finished: s.finished, Revocation: s.revocation, Stale: s.fleetStale(),
		Challenges: &s.challenges,
		SourceMark: socketMark(s.rt.Config), OwnMark: ownMark(s.rt.Config), LocalOut: s.rt.Config.CapturesOut(), Here: tun.HasAddress,
		Local: s.rt.Config.CapturesLocal(),
	}
}

// gatewaySettings returns the settings that a reload changes.
func gatewaySettings(rt *config.Runtime) gateway.Settings {
	return gateway.Settings{Policy: rt.Set, Shadow: shadowOf(rt), Limits: gatewayLimits(rt.Config), Tickets: gatewayTickets(rt)}
}

func gatewayLimits(c *config.Config) gateway.Limits {
	return gateway.Limits{
		Hello: int(c.Limits.Hello), Handshake: c.Limits.Handshake.Std(),
		Idle: c.Limits.Idle.Std(), Stall: c.Limits.Stall.Std(), HalfClosed: c.Limits.HalfClosed.Std(), Dial: c.Dial.Timeout.Std(),
		Handshakes: c.Limits.Handshakes, HandshakesPerClient: c.Limits.HandshakesPerClient, HandshakesPerSecond: c.Limits.HandshakesPerSecond,
		DialsPerDestination: c.Limits.DialsPerDestination,
		PerIdentity:         peerlimit.Limits{Flows: c.Limits.PerIdentity.Flows, Handshakes: c.Limits.PerIdentity.Handshakes, Bytes: int64(c.Limits.PerIdentity.BytesPerSecond)},
		Refusals:            c.Limits.RefusalRecords, RefusalsPerClient: c.Limits.RefusalRecordsPerClient,
	}
}

func gatewayTickets(rt *config.Runtime) *gateway.Tickets {
	if rt.Tickets == nil {
		return nil
	}
	return &gateway.Tickets{Lifetime: rt.Tickets.Lifetime, Keys: rt.Tickets.Keys}
}

// openDevice sets the guard, opens the TUN and builds the stack on it.
func (s *Service) openDevice() error {
	c := s.rt.Config
	// The guard first: from here on captured traffic goes nowhere, even if anything else
	// fails.
	if !c.TUN.Attach {
		if len(c.Capture.Interfaces) > 0 {
			if err := tun.CheckForwarding(c.Capture.Interfaces...); err != nil {
				return fmt.Errorf("this host does not forward packets, so nothing would be captured: %w", err)
			}
		}
		if err := ownMark(c).Check(); err != nil {
			return err
		}
		if err := s.mayDialAs(c); err != nil {
			return err
		}
		if s.lease == nil && !s.beside { // else the guard is set
			if err := tun.Guard(SteerConfig(c)); err != nil {
				return fmt.Errorf("set the guard: %w", err)
			}
		}
	}
	dc := tun.Config{Name: s.steerConfig().TUN, MTU: c.TUN.MTU, Attach: c.TUN.Attach, Addresses: s.rt.TUNAddresses, Queues: c.TUN.Queues}
	if c.TUN.Offload == "off" {
		dc.Offload = tun.OffloadOff
	}
	dev, err := tun.Open(dc)
	if err != nil {
		return err
	}
	s.device = dev
	if !dev.Offload() && c.TUN.Offload != "off" {
		s.log.Warn("TUN without offload: one packet a system call, bulk transfers run at 0.1 to 0.35 of the speed", zap.String("reason", dev.OffloadReason()))
	}
	if why := dev.QueuesReason(); why != "" {
		s.log.Warn("TUN with one queue only: one processor at a time receives from clients", zap.Int("wanted", c.TUN.Queues), zap.String("reason", why))
	}
	if s.stack, err = stack.New(s.stackConfig()); err != nil {
		return errors.Join(err, s.device.Close())
	}
	return nil
}

func (s *Service) stackConfig() stack.Config {
	c := s.rt.Config
	receive, send := bufferMax(c.Ceiling())
	return stack.Config{
		Device: s.device, Handler: s.gateway, Ports: c.Capture.Ports.List, AllPorts: c.Capture.Ports.All,
		MaxFlows: c.Limits.Flows, MaxFlowsPerClient: c.Limits.FlowsPerClient, Log: s.log, Flooded: s.flooded,
		UserTimeout: userTimeout(c.Limits.Stall.Std()), ReceiveMax: receive, SendMax: send,
		Paced: c.TUN.Sender == "paced",
	}
}

// supervise runs the parts until the first one fails, or until ctx has ended and the flows are
// drained. Then it takes everything down in order.
func (s *Service) supervise(ctx context.Context) error {
	// The parts do not end with ctx: the drain needs them.
	parts, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	rt := s.runtime() // the configuration of the start: a reload may change it once the parts run
	if s.opt.Fleet != nil {
		s.deny(s.opt.Fleet.Revoked()) // before the first flow
	}
	group, parts := errgroup.WithContext(parts)
	group.Go(func() error { return s.gateway.Run(parts) })
	group.Go(func() error { return s.stack.Run(parts) })
	group.Go(func() error { return s.revocation.Run(parts) })
	group.Go(func() error { return s.sweep(parts) })
	group.Go(func() error { return s.watch(parts) })
	group.Go(func() error { return s.watchdog(parts) })
	group.Go(func() error { return s.runMemory(parts) })
	group.Go(func() error { return s.watchOwn(parts) })
	group.Go(func() error { return s.runOrders(parts) })
	group.Go(func() error { return s.watchLimits(parts) })
	group.Go(func() error { return s.runFleet(parts) })
	if s.steering != nil {
		group.Go(func() error { return s.steering.Watch(parts) })
		s.over.took.Store(s.lease == nil)
		group.Go(func() error { return s.watchSteering(parts) })
	}
	if s.admin != nil {
		group.Go(func() error { return s.admin.Run(parts) })
	}
	if s.opt.Sandbox {
		s.sandbox()
	}
	if s.lease != nil {
		group.Go(func() error { return s.takeOver(parts) })
	}
	s.log.Info("ready", zap.String("tun", s.device.Name()), zap.Bool("offload", s.device.Offload()), zap.Int("queues", stack.Queues(s.device)),
		zap.String("policy", rt.Set.ID()), zap.String("snapshot", rt.Snapshot), zap.Int("rules", len(rt.Config.Policy.Rules)),
		zap.Duration("took", time.Since(s.started).Round(time.Millisecond)))
	if s.lease == nil { // else takeOver says it, once the older one is done with
		s.notify.ready("policy " + rt.Set.ID())
	}

	told, why := s.serve(ctx, parts)
	if s.over.stays.Load() {
		s.lastReport()
	}
	s.records.Release() // ends the wait of all that still wait for room
	stop()
	err := group.Wait()
	if s.steering != nil {
		err = errors.Join(err, s.closeSteering(err == nil, told))
	}
	s.log.Info("stopped", zap.Int("flows", s.gateway.Flows()))
	return errors.Join(why, err)
}
