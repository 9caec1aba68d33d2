package gateway

import (
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/escape"
	"github.com/sslgate/sslgate/internal/reason"
)

// limitEvery is the shortest time between two log lines about one limit: an attacker must
// not be able to fill the log. This does not affect the records of flows.
const limitEvery = 10 * time.Second

// detailBytes bounds the detail in such a line.
const detailBytes = 200

// limitOf names the setting behind a reason; "" where it is not a limit.
func limitOf(c reason.Code) string {
	switch c {
	case reason.FlowLimit:
		return "limits.flows"
	case reason.ClientLimit:
		return "limits.flows_per_client"
	case reason.MemoryLimit, reason.EndMemory:
		return "limits.memory"
	case reason.HelloTooLarge:
		return "limits.hello"
	case reason.HelloTimeout, reason.HandshakeTimeout:
		return "limits.handshake"
	case reason.HandshakeLimit:
		return "limits.handshakes"
	case reason.DestinationLimit:
		return "limits.dials_per_destination"
	case reason.IdentityFlowLimit:
		return "limits.per_identity.flows"
	case reason.IdentityHandshakeLimit:
		return "limits.per_identity.handshakes"
	case reason.ChainTooLong:
		return "limits.chain, limits.chain_bytes" // the detail says which
	case reason.EndIdle:
		return "limits.idle"
	case reason.EndHalfClosed:
		return "limits.half_closed"
	case reason.EndClientStalled, reason.EndDestinationStalled:
		return "limits.stall"
	}
	return ""
}

// limitLog logs which limits are met, each at most once per limitEvery. The limits of the
// stack that end no flow are logged by package service.
type limitLog struct {
	log *zap.Logger
	now func() time.Time

	mu  sync.Mutex
	met map[reason.Code]*limitMet // at most one entry for each reason that limitOf knows
}

// limitMet counts what was not logged yet.
type limitMet struct {
	flows, unrecorded int
	next              time.Time
}

func newLimitLog(log *zap.Logger, now func() time.Time) *limitLog {
	return &limitLog{log: log, now: now, met: map[reason.Code]*limitMet{}}
}

// note looks at a finished flow or a refused SYN.
func (l *limitLog) note(r *audit.Record) {
	code := r.Reason
	if r.End != "" {
		code = r.End
	}
	limit := limitOf(code)
	if limit == "" {
		return
	}
	now := l.now()
	l.mu.Lock()
	m := l.met[code]
	if m == nil {
		m = &limitMet{}
		l.met[code] = m
	}
	m.flows++
	m.unrecorded += int(r.Suppressed)
	if now.Before(m.next) {
		l.mu.Unlock()
		return
	}
	flows, unrecorded := m.flows, m.unrecorded
	*m = limitMet{next: now.Add(limitEvery)}
	l.mu.Unlock()
	fields := []zap.Field{
		zap.String("limit", limit), zap.String("reason", string(code)),
		zap.Int("flows", flows), zap.Stringer("one_of_them", r.Client),
	}
	if r.Detail != "" {
		fields = append(fields, zap.String("detail", escape.String(r.Detail, detailBytes)))
	}
	if unrecorded > 0 {
		fields = append(fields, zap.Int("syns_without_record", unrecorded))
	}
	l.log.Warn("limit met", fields...)
}
