package service

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/policy"
)

const (
	// primeFor is how long a start waits for revocation lists that were never
	// fetched: under hard the first clients would be refused without them.
	primeFor = 10 * time.Second
	// sweepEvery is how often live flows are looked at for a certificate that
	// has expired. A revocation that comes to be known ends them at once. With
	// a microsecond a flow, 20000 flows cost 20 ms.
	sweepEvery = 2 * time.Second
)

// openRevocation makes the Checker from what the configuration has read, and
// fetches what is missing.
func openRevocation(ctx context.Context, rt *config.Runtime, room *memory.Budget, log *zap.Logger) (*revocation.Checker, error) {
	c, err := revocation.New(rt.Revocation, revocation.Options{
		State: rt.Config.State, Log: log, Memory: room, MaxBytes: revocation.ListBytes(rt.Config.Ceiling()),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, primeFor)
	defer cancel()
	c.Prime(ctx)
	return c, nil
}

// sweep ends live flows whose certificate was revoked or has expired, unless
// their rule keeps them (on_revoked): within sweepEvery of its being known.
func (s *Service) sweep(ctx context.Context) error {
	changed := make(chan struct{}, 1) // one is enough: the sweep after it sees everything
	cancel := s.revocation.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})
	defer cancel()
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-tick.C:
		}
		s.gateway.Each(s.endIfRevoked)
	}
}

// revocable returns those peers of a flow whose revocation ends it: not the
// client of a rule that keeps it, not a destination that nobody verifies, and
// none where the rule only observes.
func revocable(plan *policy.Plan, client, destination *handshake.Peer) (_, _ *handshake.Peer) {
	if plan != nil && plan.Observed {
		return nil, nil
	}
	if !plan.EndsWhenRevoked() {
		client = nil
	}
	if plan == nil || plan.Mode != policy.TLSVerify {
		destination = nil
	}
	return client, destination
}

func (s *Service) endIfRevoked(l *gateway.Live) {
	facts, v, ok := l.Granted()
	if !ok {
		return
	}
	client, destination := revocable(v.Plan, facts.Peer, l.DestinationPeer())
	code, detail := s.revocation.Ended(client, time.Now())
	if code == "" {
		var revoked bool
		if detail, revoked = s.revocation.KnownRevoked(destination, time.Now()); revoked {
			code = reason.EndDestinationRevoked
		}
	}
	if code != "" {
		s.log.Info("live flow ended", zap.String("id", l.ID), zap.String("reason", string(code)), zap.String("detail", detail))
		l.End(code)
	}
}
