package service

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/tun"
)

// TakeOver says how a process takes over from the one that runs.
type TakeOver struct {
	// Watch is how long this process must do well before the other one drains.
	Watch time.Duration
	// Tell is told of each step. Required.
	Tell func(Step)
	// Unasked: nobody has asked for it; the running gateway waits for the next process.
	Unasked bool
}

// Step is how far a process is that takes over.
type Step struct {
	Text  string // a sentence
	Stays bool   // the last one
	// Of the first one: the process that it takes over from, and its admin socket.
	Older  int
	Socket string
}

// askFor asks the running gateway to hand over, and refuses terms under which flows of the
// older process would be lost.
func askFor(ctx context.Context, c *config.Config, opt *Options) (*admin.Lease, error) {
	if c.Admin.Socket == config.AdminOff {
		return nil, errors.New("without admin.socket nothing can be taken over")
	}
	file, err := filepath.Abs(opt.File)
	if err != nil {
		return nil, err
	}
	offer := admin.Offer{Protocol: admin.HandOverProtocol, Version: opt.Version, Process: os.Getpid(), Config: file, Unasked: opt.TakeOver.Unasked}
	if ceiling := c.Ceiling(); ceiling >= memory.MinCeiling {
		offer.Memory = ceiling
	}
	lease, err := admin.NewClient(c.Admin.Socket).HandOver(ctx, offer, func(t *admin.Terms) error { return agree(c, t) })
	if err != nil {
		return nil, err
	}
	t := &lease.Terms
	opt.TakeOver.Tell(Step{
		Text:  fmt.Sprintf("process %d (%s) runs in slot %s with %s", t.Process, escape.String(t.Version, 100), escape.String(t.Slot, 10), flowsOf(t.Flows)),
		Older: t.Process, Socket: c.Admin.Socket,
	})
	return lease, nil
}

func flowsOf(n int) string {
	if n == 1 {
		return "1 flow"
	}
	return fmt.Sprintf("%d flows", n)
}

// besideOld finds the slot for a process that starts by itself. If an older process has handed
// over to one that has died, and has flows yet, this one starts beside it.
func (s *Service) besideOld(ctx context.Context) {
	c := s.rt.Config
	if c.Admin.Socket == config.AdminOff || c.TUN.Attach {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, olderTime)
	defer cancel()
	client := admin.NewClient(admin.OldSocket(c.Admin.Socket))
	process, err := client.Process(ctx)
	if err != nil {
		return
	}
	if process == 0 {
		process = -1 // it is in another PID namespace
	}
	old, err := client.Status(ctx)
	if err != nil || !old.HandedOver {
		return
	}
	s.slot, s.beside, s.older = otherSlot(old.Slot), true, process
	s.log.Info("an older process ends with its last flow; this one starts beside it", zap.String("slot", s.slot.String()), zap.Int("flows", old.Flows))
}

func otherSlot(of string) tun.Slot {
	if of == tun.SlotB.String() {
		return tun.SlotA
	}
	return tun.SlotB
}

// agree says what of the configuration keeps this process from steering for both.
func agree(c *config.Config, t *admin.Terms) error {
	sc := SteerConfig(c)
	own := tun.Twin{TUN: sc.TUN, Mark: sc.Mark, Table: sc.Table}
	if t.Slot == "b" {
		own = sc.Twin
	}
	missing := func(what string) error {
		return fmt.Errorf("flows of the running gateway would be lost, for %s: only a restart can change that", what)
	}
	switch {
	case c.TUN.Attach:
		return errors.New("with tun.attach somebody else does the steering: there is nothing to take over")
	case sc.Twin.TUN == "":
		return errors.New("there is no mark left for a second gateway: see upgrade.mark and capture.mask")
	case own.TUN != t.TUN:
		return fmt.Errorf("the running gateway has device %s, which is neither tun.name nor upgrade.tun in its slot: only a restart can change that", escape.String(t.TUN, 20))
	case own.Mark != t.Mark || own.Table != t.Table:
		return fmt.Errorf("the running gateway has mark %#x and table %d, which in its slot are %#x and %d by this configuration: only a restart can change capture.mark, capture.table, upgrade.mark and upgrade.table", t.Mark, t.Table, own.Mark, own.Table)
	case t.ClientSource && (sc.ReturnMark != t.ReturnMark || sc.ReturnTable != t.ReturnTable):
		return errors.New("connections under clients' addresses of the running gateway need its dial.mark and dial.table: only a restart can change them")
	case sc.Mask != t.Mask || sc.CTMask != t.CTMask || sc.Preference != t.Preference:
		return errors.New("capture.mask, capture.preference and upgrade.ct_mask are shared with the running gateway: only a restart can change them")
	case t.AllPorts && !sc.AllPorts:
		return missing("capture.ports is no longer \"all\"")
	case t.Local && !sc.Local:
		return missing("capture.local.in is no longer true")
	case t.LocalOut && sc.Out == nil:
		return missing("capture.local.out is gone")
	case t.LocalOut && t.Programs != programs(sc.Out):
		return errors.New("capture.local.out chooses other connections than in the running gateway: only a restart can change that")
	case sc.Out != nil && (!t.LocalOut || t.OwnMark != sc.Out.OwnMark):
		return errors.New("the running gateway's own connections have no mark, or another than capture.local.out.mark, and would be captured: only a restart can change that")
	}
	for _, name := range t.Interfaces {
		if !slices.Contains(sc.Interfaces, name) {
			return missing(name + " is not in capture.interfaces")
		}
	}
	for _, port := range t.Ports {
		if !sc.AllPorts && !slices.Contains(sc.Ports, port) {
			return missing(fmt.Sprintf("%d is not in capture.ports", port))
		}
	}
	return nil
}

// errNotTaken is returned by a process that did not do well: the older one goes on.
var errNotTaken = errors.New("the running gateway goes on")

// errNotGiven is returned where the older one does not say that it does.
var errNotGiven = errors.New("everything is given back, but the older process does not answer")

// takeOver takes the steering once a probe has come through, watches, and then lets the older
// process drain. Before that every error ends this process, and the older one goes on.
func (s *Service) takeOver(ctx context.Context) error {
	if err := s.tryTakeOver(ctx); err != nil {
		gave, lost := s.giveBack()
		switch {
		case !gave || ctx.Err() != nil:
			return nil //nolint:nilerr // this process goes on, or was told to end
		case lost != nil:
			err = fmt.Errorf("%w (%w): %w", errNotGiven, lost, err)
		case !errors.Is(err, errStops):
			err = fmt.Errorf("%w: %w", errNotTaken, err)
		}
		s.fail(err)
		return nil
	}
	s.followOlder(ctx)
	return nil
}

// fail ends this process, with its flows.
func (s *Service) fail(err error) {
	select {
	case s.over.untaken <- err:
	default: // it ends already
	}
}

func (s *Service) tryTakeOver(ctx context.Context) error {
	tell := func(text string, stays bool) { s.opt.TakeOver.Tell(Step{Text: text, Stays: stays}) }
	if err := s.probeFlow(ctx); err != nil {
		return fmt.Errorf("the new one has not carried its probe: %w", err)
	}
	tell(fmt.Sprintf("process %d is ready in slot %s and has carried a probe", os.Getpid(), s.slot), false)
	if r := s.Readiness(); !r.Ready {
		return fmt.Errorf("the new one is not ready: %q", r.Reasons)
	}
	if err := s.order(ctx, admin.OrderGive); err != nil {
		return err
	}
	if err := s.steering.Take(); err != nil {
		return err
	}
	s.over.took.Store(true)
	if err := s.admin.TakePlace(); err != nil {
		return err
	}
	s.log.Info("new flows begin here", zap.String("slot", s.slot.String()), zap.Int("from", s.lease.Terms.Process))
	tell("new flows begin in the new process; it is watched for "+s.opt.TakeOver.Watch.String(), false)
	if err := s.watchItself(ctx); err != nil {
		return err
	}
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.notify.muted.Store(false)
	said := "it stays; the older process ends with its last flow"
	if s.over.alone {
		said = "it stays; the older process has ended"
		s.notify.main() // before the command ends: systemd would find no main process then
	}
	tell(said, true)
	s.orphan(ctx)
	s.notify.main()
	s.notify.ready("policy " + s.policyID())
	return nil
}

// order gives an order to the older process. If that is dead, nobody is there to obey, and this
// process goes on without it.
func (s *Service) order(ctx context.Context, do string) error {
	if s.over.alone {
		return nil
	}
	err := s.lease.Order(do)
	if err != nil {
		err = s.without(ctx, err)
	}
	return err
}

// orphan waits, a second at most, until the command that has started this process has ended.
// systemd sees the end of its own children only.
func (s *Service) orphan(ctx context.Context) {
	parent := os.Getppid()
	end := time.After(time.Second)
	for s.notify.conn != nil && parent != 1 && os.Getppid() == parent {
		select {
		case <-ctx.Done():
			return
		case <-end:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// settle lets the older process drain: from then on there is no way back.
func (s *Service) settle(ctx context.Context) error {
	s.over.mu.Lock()
	defer s.over.mu.Unlock()
	if s.over.back.Load() {
		return errors.New("the steering was given back")
	}
	if err := s.order(ctx, admin.OrderDrain); err != nil {
		return err
	}
	s.over.settled = true
	return nil
}

// giveBack gives back what this process has taken from the older one, unless it has settled.
// gave says whether there was something to give back, for the first time; lost is why the older
// one has not said that it has it.
func (s *Service) giveBack() (gave bool, lost error) {
	s.over.mu.Lock()
	defer s.over.mu.Unlock()
	if s.lease == nil || s.over.settled || s.over.back.Load() {
		return false, nil
	}
	s.over.back.Store(true) // first: who has given up the steering has not lost it
	s.steering.Give()
	if lost = s.lease.Order(admin.OrderBack); lost != nil {
		s.log.Warn("the older process did not answer; it takes back what it can", zap.Error(lost))
	}
	return true, lost
}

// watchItself waits for the time of the watch. It returns early with the reason why this
// process should not stay, or when the older one has died.
func (s *Service) watchItself(ctx context.Context) error {
	end := time.NewTimer(s.opt.TakeOver.Watch)
	defer end.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		if n%10 == 0 && !s.over.alone {
			if err := s.reportOlder(); errors.Is(err, errStops) {
				return err
			} else if err != nil {
				if err = s.without(ctx, err); err != nil {
					return err
				}
			}
		}
		if s.over.alone {
			return nil // there is no way back
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-tick.C:
		}
		if r := s.Readiness(); !r.Ready {
			return fmt.Errorf("the new one is not ready any more: %q", r.Reasons)
		}
		all, refused := s.decided.last(time.Now())
		if live := s.gateway.Flows(); refusesMore(all+uint64(live), refused, s.lease.Terms.Decided, s.lease.Terms.Refused) {
			return fmt.Errorf("the new one refuses more: %d of its %d flows, the older one %d of %d", refused, all+uint64(live), s.lease.Terms.Refused, s.lease.Terms.Decided)
		}
	}
}

// probeTime bounds the probe.
const probeTime = 5 * time.Second

// probeFlow makes a connection out of the TUN, as a client would, and sends what is not TLS.
// Whatever the gateway answers has gone the whole way: kernel, device, stack, gateway and
// back. The flow has its record, like any other.
func (s *Service) probeFlow(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	port := uint16(443)
	if c := s.runtime().Config.Capture.Ports; !c.All {
		port = c.List[0]
	}
	device := s.device.Name()
	d := ownMark(s.runtime().Config).Dialer(func(_ string, fd int) error { return unix.BindToDevice(fd, device) })
	conn, err := d.DialContext(ctx, "tcp4", netip.AddrPortFrom(s.probeTarget(), port).String())
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) {
		return nil // a rule denies it by its address alone, or nobody listens where it leads
	}
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte("probe\r\n")); err != nil && ctx.Err() != nil {
		return err
	} // a RST is an answer too, and may come before this is written
	if _, err := conn.Read(make([]byte, 1)); err != nil && ctx.Err() != nil {
		return err
	}
	return nil // an alert, or the end of the connection
}

// probeTarget is an address that the kernel takes for the sender of what comes from the TUN:
// one that it has a route to. An address of this host is such a one.
func (s *Service) probeTarget() netip.Addr {
	if a, ok := tun.OwnAddress(s.runtime().Config.Capture.Interfaces...); ok {
		return a
	}
	return netip.AddrFrom4([4]byte{192, 0, 2, 1}) // for documentation (RFC 5737)
}
