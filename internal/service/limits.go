package service

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/peerlimit"
	"github.com/sslgate/sslgate/stack"
)

// limitEvery is how often the counters of limits are checked, so the log names each limit at
// most that often: an attacker must not be able to fill the log.
const limitEvery = 10 * time.Second

// limitCounts are the counters of limits that end no flow, so that no record shows them. The
// packet path only counts; the log follows the counters.
type limitCounts struct {
	stack stack.Stats
	turns fairqueue.Stats
	peers peerlimit.Stats
}

// counted is one such counter.
type counted struct {
	limit, what string // what happened to those counted
	level       zapcore.Level
	count       func(*limitCounts) uint64
}

func countedLimits() []counted {
	warn, info := zapcore.WarnLevel, zapcore.InfoLevel
	return []counted{
		{"half-open handshakes", "answered_with_syn_cookie", warn, func(c *limitCounts) uint64 { return c.stack.SYNCookiesSent }},
		{"half-open handshakes", "gave_way_to_newer_ones", warn, func(c *limitCounts) uint64 { return c.stack.HandshakesEvicted }},
		{"half-open handshakes", "dropped", warn, func(c *limitCounts) uint64 { return c.stack.SYNOverflow }},
		{"segments behind a SYN cookie", "dropped", warn, func(c *limitCounts) uint64 { return c.stack.EarlyDropped }},
		{"fragments", "evicted", warn, func(c *limitCounts) uint64 { return c.stack.FragmentsEvicted }},
		{"fragments", "timed_out", warn, func(c *limitCounts) uint64 { return c.stack.FragmentsTimedOut }},
		{"lingering flows", "reset", warn, func(c *limitCounts) uint64 { return c.stack.LingeringReset }},
		// A wait harms nobody yet, and it may happen every day.
		{"limits.handshakes", "waited", info, func(c *limitCounts) uint64 { return c.turns.Waited }},
		{"limits.handshakes_per_second", "pauses_in_flows_of_small_records", warn, func(c *limitCounts) uint64 { return c.turns.Paced }},
		{"limits.per_identity.bytes_per_second", "pauses", info, func(c *limitCounts) uint64 { return c.peers.Paced }},
	}
}

// limitWatch logs which limits were met since its last look.
type limitWatch struct {
	log  *zap.Logger
	last limitCounts
}

func (w *limitWatch) look(now limitCounts) {
	for _, c := range countedLimits() {
		if n := c.count(&now) - c.count(&w.last); n > 0 {
			w.log.Log(c.level, "limit met", zap.String("limit", c.limit), zap.Uint64(c.what, n))
		}
	}
	w.last = now
}

// watchLimits looks every limitEvery until ctx ends, and then once more.
func (s *Service) watchLimits(ctx context.Context) error {
	w := limitWatch{log: s.log}
	tick := time.NewTicker(limitEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(s.limitCounts())
		case <-ctx.Done():
			w.look(s.limitCounts())
			return nil
		}
	}
}

func (s *Service) limitCounts() limitCounts {
	return limitCounts{stack: s.stack.Stats(), turns: s.gateway.Handshakes(), peers: s.gateway.Identities()}
}
