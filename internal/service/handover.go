package service

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/tun"
)

// handOver is how far this process has handed over to another one. The zero value: not at
// all. All of it but handed is guarded by mu.
type handOver struct {
	mu    sync.Mutex   // never taken while Service.mu is held
	to    *admin.Offer // nil: nobody has asked
	gave  atomic.Bool  // the steering is the other's
	stays atomic.Bool  // so it stays: this process ends with its last flow
	last  atomic.Bool  // it has no flow and gets no more
	// stopping: this process was told to stop while the other one was watched.
	stopping atomic.Bool
	unasked  time.Time     // when a process asked last that nobody had asked for
	unlocked bool          // the state directory is to be taken back, and could not
	gaveBack bool          // the other one has given back, and ends
	handed   chan struct{} // has room for one: the other one stays
	left     chan struct{} // closed when the other one needs no more reports; made by HandOver

	// Of a process that stays behind (resume.go):
	parted  atomic.Bool   // the connection to the other one has ended though it stays
	parting chan struct{} // has room for one: so it did just now
	ending  bool          // this process ends, and takes nothing back any more
	refused time.Time     // when this process could not take the configuration of now; for watchSteering alone
	resumed chan struct{} // has room for one: it has taken everything back
	awaits  atomic.Bool   // since then: the next process may take over without being told to
	lost    bool          // another process has taken the steering that this one did not give

	took    atomic.Bool // this process has had the steering
	back    atomic.Bool // this process has given back what it had taken over
	settled bool        // this process has taken over from another one itself, and stays
	alone   bool        // the process that it takes over from is dead; belongs to takeOver
	untaken chan error  // why it does not stay
}

// HandOver agrees to hand over, to one process at a time. From then on the state directory is
// the other's.
func (s *Service) HandOver(offer admin.Offer) (admin.Terms, admin.HandOver, error) {
	o := &s.over
	o.mu.Lock()
	defer o.mu.Unlock()
	s.mu.Lock()
	draining := s.draining
	s.mu.Unlock()
	switch {
	case s.steering == nil:
		return admin.Terms{}, nil, errors.New("with tun.attach somebody else does the steering, and sslgate cannot hand it over")
	case draining, o.stopping.Load():
		return admin.Terms{}, nil, errors.New("it drains")
	case o.to != nil:
		return admin.Terms{}, nil, fmt.Errorf("it hands over to process %d already", o.to.Process)
	case s.lease != nil && !o.settled:
		return admin.Terms{}, nil, errors.New("it takes over from another process itself")
	case s.steering.Beside():
		return admin.Terms{}, nil, fmt.Errorf("a process from before the last upgrade has flows yet, and there are two places only: once they have ended it can be done (sslgate flows --socket %s)", admin.OldSocket(s.runtime().Config.Admin.Socket))
	}
	sc := s.steerConfig()
	if sc.Twin == (tun.Twin{}) {
		return admin.Terms{}, nil, errors.New("there is no mark left for a second gateway: see upgrade.mark and capture.mask")
	}
	terms := admin.Terms{
		Protocol: admin.HandOverProtocol, Version: s.opt.Version, Process: os.Getpid(), Slot: s.slot.String(), TUN: sc.TUN, Flows: s.gateway.Flows(),
		Interfaces: sc.Interfaces, Ports: sc.Ports, AllPorts: sc.AllPorts, Local: sc.Local, ClientSource: sc.ClientSource || s.steering.ClientSource(),
		Mask: sc.Mask, CTMask: sc.CTMask, Preference: sc.Preference, Mark: sc.Mark, Table: sc.Table, ReturnMark: sc.ReturnMark, ReturnTable: sc.ReturnTable,
		Watchdog: 2 * s.notify.every,
	}
	if sc.Out != nil {
		terms.LocalOut, terms.OwnMark, terms.Programs = true, sc.Out.OwnMark, programs(sc.Out)
	}
	terms.Decided, terms.Refused = s.decided.last(time.Now())
	if offer.Look {
		return terms, nil, nil
	}
	if offer.Unasked {
		if wait := unaskedAgain - time.Since(o.unasked); wait > 0 {
			return admin.Terms{}, nil, fmt.Errorf("a process that nobody has asked for has taken over, or tried to, just now: the next one may ask in %s", wait.Round(100*time.Millisecond))
		}
		o.unasked = time.Now()
	}
	var err error
	if terms.Ceiling, err = s.shareMemory(offer.Memory); err != nil {
		return admin.Terms{}, nil, err
	}
	terms.TicketKeys = s.gateway.TicketKeys().Export() // last: an error would leave copies that nobody clears
	o.to, o.gaveBack, o.left = &offer, false, make(chan struct{})
	s.revocation.LeaveCopies(true)
	s.unlockState()
	if s.opt.Fleet != nil {
		s.opt.Fleet.Yield()
	}
	s.log.Info("another process takes over", zap.Int("process", offer.Process), zap.String("version", offer.Version))
	return terms, (*handingOver)(s), nil
}

// handingOver is a Service that another process talks to.
type handingOver Service

// Give stops the repairs of the steering.
func (h *handingOver) Give() error {
	h.over.mu.Lock()
	defer h.over.mu.Unlock()
	if h.over.stopping.Load() {
		return errStops
	}
	h.over.gave.Store(true) // first: who has given up the steering has not lost it
	h.steering.Give()
	return nil
}

// Back takes the steering back.
func (h *handingOver) Back() error {
	h.over.mu.Lock()
	defer h.over.mu.Unlock()
	if h.over.stays.Load() {
		return errors.New("it is too late: this process drains")
	}
	h.over.gaveBack = true
	return h.back()
}

func (h *handingOver) back() error {
	if !h.over.gave.Load() {
		return nil
	}
	if err := h.steering.Take(); err != nil {
		h.log.Error("the steering cannot be taken back at once; it is tried again", zap.Error(err))
		h.steering.Keep()
	}
	h.over.gave.Store(false)
	h.notify.main() // if the other one has said that it is
	if h.admin != nil {
		return h.admin.TakePlace()
	}
	return nil
}

// Drain lets this process end with its last flow.
func (h *handingOver) Drain() error {
	h.over.mu.Lock()
	defer h.over.mu.Unlock()
	switch {
	case !h.over.gave.Load():
		return errors.New("the steering was not taken")
	case h.over.stopping.Load():
		return errStops
	case h.over.stays.Load():
		return nil
	}
	h.over.stays.Store(true)
	if file := h.over.to.Config; filepath.IsAbs(file) { // what is in force from now on
		h.mu.Lock()
		h.file = file
		h.mu.Unlock()
	}
	h.notify.muted.Store(true) // what systemd hears is of the other process from now on
	if h.admin != nil {
		h.admin.LeaveNetwork()
	}
	h.over.parted.Store(false)
	h.over.awaits.Store(false)
	signalOne(h.over.handed)
	return nil
}

// Report says how far this process is. While it drains, it keeps to less and less memory.
func (h *handingOver) Report() admin.Report {
	s := (*Service)(h)
	r := admin.Report{Stopping: h.over.stopping.Load(), Last: h.over.last.Load(), Flows: s.gateway.Flows()} // last is read before the counters
	r.Clients = s.stack.ClientFlows(admin.MaxClients)
	if s.memory != nil {
		if h.over.stays.Load() {
			s.shrinkMemory(h.over.to.Memory) // to stays as it is once the other one stays
		}
		r.Ceiling = s.memory.Stats().Ceiling
	}
	var err error
	if r.Metrics, err = s.metrics.Export(); err != nil {
		s.log.Warn("the counters cannot be handed over", zap.Error(err))
	}
	return r
}

// End takes everything back if the other process has gone before it stayed. If it goes after
// that, resume looks at what has become of it.
func (h *handingOver) End() {
	h.over.mu.Lock()
	defer h.over.mu.Unlock()
	close(h.over.left)
	if h.over.stays.Load() {
		h.over.parted.Store(true)
		signalOne(h.over.parting)
		return
	}
	took := h.over.gave.Load()
	if err := h.back(); err != nil {
		h.log.Error("not all is taken back", zap.Error(err))
	}
	if !h.over.stopping.Load() { // else this process ends, with what it has
		(*Service)(h).keepAll()
		if h.opt.Fleet != nil {
			h.opt.Fleet.Return(true)
		}
	}
	if !took {
		h.steering.Tidy()
	}
	h.log.Warn("the other process has not taken over: this one goes on", zap.Int("process", h.over.to.Process), zap.Bool("had_new_flows", took))
	h.over.to = nil
}

// keepAll takes back the state directory and the memory. over.mu is held.
func (s *Service) keepAll() {
	if err := s.lockState(s.runtime().Config.State); err != nil {
		s.log.Warn("the state directory cannot be taken back at once; it is tried again", zap.Error(err))
		s.over.unlocked = true
	} else {
		s.over.unlocked = false
		s.revocation.LeaveCopies(false)
	}
	s.setCeiling(s.runtime().Config.Ceiling())
}

// errStops is the answer of a process that was told to stop.
var errStops = errors.New("the older process was told to stop")

// stopNewer ends the process that takes over from this one and does not stay yet: who stops
// the gateway means both. It learns so with its next report, and gives back first.
func (s *Service) stopNewer() {
	s.over.stopping.Store(true)
	end := time.After(stopMost)
	for {
		s.over.mu.Lock()
		over := s.over.to == nil || s.over.stays.Load() || s.over.gaveBack
		s.over.mu.Unlock()
		if over {
			return
		}
		select {
		case <-end:
			s.log.Warn("the process that takes over has not answered: it is not waited for")
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lockAgain takes the state directory back once the process that had it is gone.
func (s *Service) lockAgain() {
	s.over.mu.Lock()
	defer s.over.mu.Unlock()
	if !s.over.unlocked {
		return
	}
	if s.over.to == nil && s.lockState(s.runtime().Config.State) != nil {
		return // not yet
	}
	if s.over.unlocked = false; s.over.to == nil {
		s.revocation.LeaveCopies(false)
		s.log.Info("the state directory is taken back")
	}
}

// A process that has handed over ends when it has had no flow and no new one for handedQuiet
// times handedEvery: a client sends its SYN again after a second (RFC 6298, section 2).
const (
	handedEvery = 100 * time.Millisecond
	handedQuiet = 30
)

// unaskedAgain is how long after a process that a supervisor has started by itself the next such
// process may ask. Each one costs both sides something, and a supervisor whose processes die may
// start ten a second. This one serves meanwhile.
const unaskedAgain = 5 * time.Second

// stopMost bounds the wait for the process that takes over, which asks for a report each
// second.
const stopMost = 5 * time.Second

// reportMost bounds the wait for the last report, which is asked for every reportEvery.
const (
	reportMost  = 5 * time.Second
	reportEvery = time.Second
)

var _ admin.HandOver = (*handingOver)(nil)
