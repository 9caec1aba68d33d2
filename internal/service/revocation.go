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
	// primeFor is how long a start waits for revocation lists that were never fetched:
	// without them, hard would refuse the first clients.
	primeFor = 10 * time.Second
	// sweepEvery is how often live flows are checked for expired certificates. New
	// revocations end flows at once. A flow takes a microsecond, so 20000 flows cost 20 ms.
	sweepEvery = 2 * time.Second
)

// openRevocation makes the Checker from what the configuration has read, and fetches missing
// lists.
func openRevocation(ctx context.Context, rt *config.Runtime, room *memory.Budget, log *zap.Logger) (*revocation.Checker, error) {
	c, err := revocation.New(rt.Revocation, revocation.Options{
		State: rt.Config.State, Log: log, Memory: room, MaxBytes: revocation.ListBytes(rt.Config.Ceiling()),
		Mark: ownMark(rt.Config),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, primeFor)
	defer cancel()
	c.Prime(ctx)
	return c, nil
}

// sweep ends live flows whose certificate was revoked or has expired, unless their rule keeps
// them (on_revoked). It takes at most sweepEvery.
func (s *Service) sweep(ctx context.Context) error {
	changed := make(chan struct{}, 1) // one is enough: the next sweep sees all changes
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

// revocable returns the peers of a flow whose revocation ends it: not the client if the rule
// keeps it, not a destination that is not verified, and neither if the rule only observes.
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
