package service

import (
	"context"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// The order of a stop, by SIGTERM or by `sslgate drain`:
//
//  1. The gateway is not ready any more (GET /v1/ready, sslgate_ready). For
//     limits.shutdown_delay it goes on taking new flows, so that routers and load balancers
//     that look at readiness can lead clients elsewhere before anyone is refused.
//  2. New flows are refused. Live ones have limits.drain to end.
//  3. It ends.
//
// A second signal ends all flows at once, in 1 and in 2. A process that has handed over to
// another one goes another way (drainHanded): the host takes new flows all the time.

// shutDown stops this gateway, and the processes before and after it on this host. parts
// ends when a part has failed; asked says that it was asked to drain.
func (s *Service) shutDown(parts context.Context, asked bool) {
	// First: what follows waits for other processes, and a second signal must not be lost.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s.stopNewer()
	s.endsHanded()
	gaveBack, _ := s.giveBack()
	if gaveBack { // the older process has the new flows
		if asked { // who drains the gateway means both
			s.drainOld()
		}
		s.endBack()
	} else {
		s.delayDrain(ctx, parts)
	}
	s.drainUntil(ctx)
}

// delayDrain makes the gateway not ready, and waits for limits.shutdown_delay. The older
// process is told before the delay: if this one died in it, the older one would take the
// gateway for orphaned, and serve on though it was stopped.
func (s *Service) delayDrain(ctx, parts context.Context) {
	now := time.Now()
	s.mu.Lock()
	delay, drain := s.rt.Config.Limits.ShutdownDelay.Std(), s.rt.Config.Limits.Drain.Std()
	s.draining = true
	s.refuses = now.Add(delay)
	s.deadline = s.refuses.Add(drain)
	s.mu.Unlock()
	s.drainOld()
	if delay == 0 {
		return
	}
	s.notify.stopping(delay + drain)
	s.log.Info("not ready any more; new flows are taken until the delay is over", zap.Int("flows", s.gateway.Flows()), zap.Duration("shutdown_delay", delay))
	end := time.NewTimer(delay)
	defer end.Stop()
	select {
	case <-end.C:
	case <-ctx.Done():
	case <-parts.Done():
	}
}

// drain refuses new flows and waits for the live ones, at most limits.drain
// or until a signal.
func (s *Service) drain() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	s.drainUntil(ctx)
}

func (s *Service) drainUntil(ctx context.Context) {
	s.gateway.Refuse() // before anyone is told, so that whoever reads it may rely on it
	s.mu.Lock()
	deadline := s.rt.Config.Limits.Drain.Std()
	if s.draining { // since drainHanded, which may have used it up, or delayDrain
		deadline = min(deadline, max(0, time.Until(s.deadline)))
	}
	s.draining, s.refuses = true, time.Time{}
	s.deadline = time.Now().Add(deadline)
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	s.notify.stopping(deadline)
	s.log.Info("draining", zap.Int("flows", s.gateway.Flows()), zap.Duration("deadline", deadline))
	if err := s.gateway.Drain(ctx); err != nil {
		s.log.Warn("live flows are ended now", zap.Int("flows", s.gateway.Flows()))
	}
	s.stack.StopAccepting()
}
