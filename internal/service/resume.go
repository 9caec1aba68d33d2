package service

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
)

// A process that has handed over and still has flows is the only one left if the newer one
// dies. It notices that (the connection has ended, the device of the other slot is gone), takes
// everything back and serves, until the next process comes: that takes over from it, with the
// command `run` too, as systemd starts it again.

const (
	// resumeEvery is how often it is looked for the device of the other slot.
	resumeEvery = time.Second
	// partedEvery and partedFor are the same just after the connection has ended: the kernel
	// removes the device of a dead process at about that time.
	partedEvery = 20 * time.Millisecond
	partedFor   = 2 * time.Second
	// resumeAgain is how long after a configuration that this process cannot take the next
	// one is looked at.
	resumeAgain = 5 * time.Second
)

// watchSteering notices when the state directory can be locked again, when the other process has
// died, and when another one has taken the steering though this one did not give it.
func (s *Service) watchSteering(ctx context.Context) error {
	tick := time.NewTicker(resumeEvery)
	defer tick.Stop()
	var fast time.Time // until when it is looked every partedEvery
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.over.parting:
			fast = time.Now().Add(partedFor)
			tick.Reset(partedEvery)
		case now := <-tick.C:
			if !fast.IsZero() && now.After(fast) {
				fast = time.Time{}
				tick.Reset(resumeEvery)
			}
		}
		s.lockAgain()
		s.resume(ctx)
		s.repeatMain(time.Now())
		if s.lostSteering() {
			s.yield()
		}
	}
}

// repeatMain tells systemd again, each second, that this process is the main one, while it waits
// for the next one. systemd hears that only in some states of the unit: not while it waits to
// start the next process (RestartSec). What it has heard before changes nothing.
func (s *Service) repeatMain(now time.Time) {
	o := &s.over
	o.mu.Lock()
	waits := o.awaits.Load() && o.to == nil && !o.ending
	o.mu.Unlock()
	if !waits || now.Sub(s.notify.said) < resumeEvery {
		return
	}
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	if draining || !s.reloading.TryLock() {
		return // systemd has heard of that, and "ready" would end it too early
	}
	defer s.reloading.Unlock()
	s.notify.said = now
	s.notify.main()
	s.notify.ready("policy " + s.policyID())
}

// lostSteering says whether another process has the steering that this one neither gave nor
// gave back.
func (s *Service) lostSteering() bool {
	return s.steering != nil && s.over.took.Load() && !s.over.gave.Load() && !s.over.back.Load() && !s.steering.Owns()
}

// errLost is why a process ends that has lost the steering.
var errLost = errors.New("another process has taken the steering")

// yield leaves the new flows to a process that has taken the steering though this one did not
// give it: one of the two was thought dead. This one ends with its last flow; if the other one
// ends before that, it takes everything back (resume).
func (s *Service) yield() {
	o := &s.over
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.to != nil || o.stays.Load() || !s.lostSteering() {
		return
	}
	o.left = make(chan struct{})
	close(o.left)
	o.lost = true
	s.notify.muted.Store(true) // the other one is the main process
	if s.admin != nil {
		s.admin.LeaveNetwork()
	}
	o.parted.Store(true)
	o.gave.Store(true)
	o.stays.Store(true)
	signalOne(o.handed)
}

// whyHanded is the error with which a process ends that has handed over.
func (s *Service) whyHanded() error {
	s.over.mu.Lock()
	defer s.over.mu.Unlock()
	if s.over.lost {
		return errLost
	}
	return nil
}

// endsHanded says whether a process that has handed over ends. False: it has taken everything
// back just now. Once it ends it does not any more.
func (s *Service) endsHanded() bool {
	s.over.mu.Lock()
	defer s.over.mu.Unlock()
	if s.over.stays.Load() {
		s.over.ending = true
	}
	return s.over.ending
}

// resume takes everything back if the process that has taken over is gone, and none has come in
// its place. It does so only by the configuration of now: the rules that this process began with
// may be hours old, and the guard that stands may drop on more ports and interfaces than it
// knows of. If it cannot take that configuration, what was captured is dropped until the next
// process starts.
func (s *Service) resume(ctx context.Context) {
	o := &s.over
	gone := func() bool {
		if !o.stays.Load() || !o.parted.Load() {
			return false
		}
		there, err := s.steering.TwinThere()
		return err == nil && !there
	}
	if !gone() || time.Since(o.refused) < resumeAgain {
		return
	}
	src, err := s.fleetGood()
	if err == nil {
		_, err = s.reloadFrom(ctx, src)
	}
	if err != nil {
		if o.refused.IsZero() {
			s.log.Error("the process that has taken over has died, and this one cannot take the configuration of now: new flows are dropped until a process starts that can", zap.Error(err))
		}
		o.refused = time.Now()
		return
	}
	o.refused = time.Time{}
	if !gone() { // the next process has started meanwhile
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ending || !o.stays.Load() {
		return
	}
	s.log.Warn("the process that has taken over has died: this one takes new flows again, until the next one starts")
	o.to, o.lost, o.settled = nil, false, true
	o.back.Store(false)
	o.awaits.Store(true)
	o.stays.Store(false)
	s.notify.muted.Store(false) // systemd may not have heard of the other one
	if err := (*handingOver)(s).back(); err != nil {
		s.log.Error("not all is taken back", zap.Error(err))
	}
	s.keepAll()
	if s.opt.Fleet != nil {
		s.opt.Fleet.Return(false)
	}
	s.stack.CountBeside(0, nil)
	if s.admin != nil {
		if err := s.admin.EnterNetwork(); err != nil {
			s.log.Error("the admin interface is on its socket alone", zap.Error(err))
		}
	}
	s.notify.ready("policy " + s.policyID())
	signalOne(o.resumed)
}

// goOn ends the drain of a process that has taken everything back.
func (s *Service) goOn() {
	s.mu.Lock()
	s.draining, s.refuses, s.deadline = false, time.Time{}, time.Time{}
	s.mu.Unlock()
	select {
	case <-s.over.resumed: // where drainHanded has noticed otherwise
	default:
	}
	select {
	case <-s.over.untaken: //nolint:errcheck // of a process that had lost the steering while it was watched
	default:
	}
}

// awaited says how a process takes over that was not told to: where the running gateway waits
// for the next one.
func awaited(ctx context.Context, c *config.Config, log *zap.Logger) *TakeOver {
	if c.Admin.Socket == config.AdminOff || c.TUN.Attach {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, olderTime)
	defer cancel()
	st, err := admin.NewClient(c.Admin.Socket).Status(ctx)
	if err != nil || !st.Awaits {
		return nil
	}
	log.Info("the running gateway waits for the next process since one has died: this one takes over from it", zap.Int("flows", st.Flows))
	return &TakeOver{Tell: func(Step) {}, Unasked: true}
}

// signalOne sends to a channel that has room for one, if nothing waits there.
func signalOne(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
