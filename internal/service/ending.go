package service

import (
	"context"
	"errors"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
)

// serve returns when the gateway has no more flows to wait for, or one of its parts has failed
// (parts). It returns whether this process was told to stop, and the error of Run.
func (s *Service) serve(ctx, parts context.Context) (told bool, why error) {
	for {
		select {
		case <-ctx.Done():
			s.shutDown(parts, false)
			return true, nil
		case why = <-s.over.untaken:
			s.endBack()
			s.drain()
			return false, why
		case <-s.asked:
			s.shutDown(parts, true)
			return true, ErrDrained
		case <-s.over.handed:
			var back bool
			if back, told = s.drainHanded(ctx, s.runtime().Config.Upgrade.Drain.Std()); !back {
				return told, s.whyHanded()
			}
			s.goOn()
		case <-parts.Done():
			return false, nil
		}
	}
}

// closeSteering ends the steering once all parts have ended. `fail: open` opens the host only
// where this process was the last one, and has ended in order: as the one that had the steering,
// or because it was told to stop.
func (s *Service) closeSteering(orderly, told bool) error {
	owned := s.steering.Owns()
	open := s.runtime().Config.Fail == "open" && orderly && (owned || told)
	other, err := s.steering.TwinThere()
	if err != nil {
		return err
	}
	if err := s.steering.Close(open); err != nil {
		return err
	}
	switch {
	case other && !owned:
		s.log.Info("another process goes on")
	case other && open:
		s.log.Info("fail is open: captured traffic is routed on uninspected once the older process has ended too")
	case open:
		s.log.Warn("fail is open: captured traffic is now routed on uninspected")
	default:
		s.log.Info("captured traffic goes nowhere until the next start or `sslgate release`")
	}
	return nil
}

// endBack waits for the flows of a process that has given back the steering.
func (s *Service) endBack() {
	s.notify.stopping(s.runtime().Config.Limits.Drain.Std())
	s.drainHanded(context.Background(), s.runtime().Config.Limits.Drain.Std())
}

// drainHanded waits until the last flow has ended, or the deadline is over. A flow whose SYN
// was pinned to this process before another one had the steering may still come, so nothing is
// refused meanwhile. back says that this process has everything back, and does not end; told
// says that it was told to stop.
func (s *Service) drainHanded(ctx context.Context, deadline time.Duration) (back, told bool) {
	stays := s.over.stays.Load()
	s.mu.Lock()
	s.draining = true
	s.deadline = time.Now().Add(deadline)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s.log.Info("another process takes the new flows; this one ends with its last flow", zap.Int("flows", s.gateway.Flows()), zap.Duration("deadline", deadline))
	tick := time.NewTicker(handedEvery)
	defer tick.Stop()
	passed := s.stack.Stats().SYNPassed
	for quiet := 0; quiet < handedQuiet; quiet++ {
		select {
		case <-s.over.resumed:
			return true, false
		case <-ctx.Done():
			if stays && !s.endsHanded() {
				return true, false
			}
			s.drain()
			return false, errors.Is(ctx.Err(), context.Canceled)
		case <-s.asked:
			if stays && !s.endsHanded() {
				return true, false
			}
			s.drain()
			return false, true
		case <-tick.C:
		}
		if now := s.stack.Stats().SYNPassed; now != passed || s.gateway.Flows() > 0 {
			passed, quiet = now, -1
		}
	}
	if stays && !s.endsHanded() {
		return true, false
	}
	s.gateway.Refuse()
	s.stack.StopAccepting()
	return false, false
}

// lastReport lets the process that has taken over read the counters once no more is counted.
func (s *Service) lastReport() {
	end := time.After(reportMost)
	for s.records.Stats().Queued > 0 {
		select {
		case <-end:
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
	s.over.mu.Lock()
	left := s.over.left
	s.over.mu.Unlock()
	s.over.last.Store(true)
	select {
	case <-left:
	case <-end:
	}
}

// drainOld lets the older process end too, in its limits.drain: the one that has handed over to
// this one, or has just taken everything back. Who stops the gateway means both.
func (s *Service) drainOld() {
	if s.older == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), olderTime)
	defer cancel()
	socket := s.runtime().Config.Admin.Socket
	client := processOn(ctx, s.older, admin.OldSocket(socket), socket)
	if client == nil {
		if there, err := s.steering.TwinThere(); there || err != nil {
			s.log.Error("the older process does not answer, and is not told to end", zap.Int("process", s.older))
		}
		return // else it has ended
	}
	st, err := client.Status(ctx)
	if err == nil && !st.HandedOver && !s.over.back.Load() {
		return // it has taken the steering by itself, and goes on
	}
	if err == nil {
		_, err = client.Drain(ctx)
	}
	if err != nil {
		s.log.Warn("the older process is not told to end", zap.Error(err))
	}
}
