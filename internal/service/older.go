package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
)

// olderTime is how long a process that does not answer has to show what has become of it.
const olderTime = 5 * time.Second

// without decides what to do when the older process does not answer any more: nil means that
// this one goes on without it. It is dead when its device is gone. If it lives, it has either
// been told to drain, or takes everything back. If it hangs, this one stays.
func (s *Service) without(ctx context.Context, err error) error {
	if errors.Is(err, admin.ErrRefused) {
		return err
	}
	socket := s.runtime().Config.Admin.Socket
	end := time.Now().Add(olderTime)
	for {
		if there, err := s.steering.TwinThere(); err == nil && !there {
			s.log.Warn("the older process has died: this one goes on without it", zap.Int("process", s.lease.Terms.Process))
			break
		}
		if st, ok := s.statusOf(ctx, s.lease.Terms.Process, socket, admin.OldSocket(socket)); ok {
			if !st.HandedOver {
				return fmt.Errorf("the older process takes everything back: %w", err)
			}
			break
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(end) {
			s.log.Error("the older process neither answers nor ends: this one goes on without it", zap.Int("process", s.lease.Terms.Process), zap.Error(err))
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	s.over.alone = true
	return nil
}

// statusOf asks the process on whichever of the sockets it is.
func (s *Service) statusOf(ctx context.Context, process int, sockets ...string) (admin.Status, bool) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if client := processOn(ctx, process, sockets...); client != nil {
		st, err := client.Status(ctx)
		return st, err == nil
	}
	return admin.Status{}, false
}

// processOn returns a client of the process on whichever of the sockets it is, nil if it is on
// none. One whose process ID cannot be known, as it is in another PID namespace, is taken for it.
func processOn(ctx context.Context, process int, sockets ...string) *admin.Client {
	for _, socket := range sockets {
		client := admin.NewClient(socket)
		if p, err := client.Process(ctx); err == nil && (p == process || p == 0) {
			return client
		}
	}
	return nil
}

// reportOlder takes over the counters of the older process, and the memory that it gives up.
func (s *Service) reportOlder() error {
	r, err := s.lease.Report()
	if err != nil {
		return err
	}
	if r.Stopping {
		return errStops
	}
	s.tookReport(&r)
	return nil
}

func (s *Service) tookReport(r *admin.Report) {
	if err := s.metrics.Inherit(r.Metrics); err != nil {
		s.log.Warn("counters begin anew", zap.Error(err))
	}
	total := s.runtime().Config.Ceiling()
	if r.Last {
		s.setCeiling(total)
		s.stack.CountBeside(0, nil)
	} else {
		s.setCeiling(total - r.Ceiling)
		s.stack.CountBeside(r.Flows, r.Clients)
	}
}

// followOlder takes over what the older process counts and gives up, until it has ended.
func (s *Service) followOlder(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for !s.over.alone {
		r, err := s.lease.Report()
		if err != nil {
			s.log.Warn("the older process has ended without its last report", zap.Error(err))
			break
		}
		if s.tookReport(&r); r.Last {
			s.log.Info("the older process has ended", zap.Int("process", s.lease.Terms.Process))
			break
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
	_ = s.lease.Close() // the older one waits for it
	s.stack.CountBeside(0, nil)
	s.setCeiling(s.runtime().Config.Ceiling())
}

// keepAlive keeps the lease until it is told to end.
func keepAlive(lease *admin.Lease) (end func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var keeper sync.WaitGroup
	keeper.Go(func() { lease.KeepAlive(ctx) })
	return func() {
		cancel()
		_ = lease.Close()
		keeper.Wait()
	}
}
