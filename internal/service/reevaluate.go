package service

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// reevaluateFor bounds how long OCSP responders may be asked about all live flows together.
// After that only known answers count.
const reevaluateFor = 5 * time.Second

// reevaluate decides every live flow by the new set, which is in force already, ends those that
// are no longer allowed, and returns their number. A flow that is not granted yet asks the new
// set itself.
func (s *Service) reevaluate(set *policy.Set) int {
	ctx, cancel := context.WithTimeout(context.Background(), reevaluateFor)
	defer cancel()
	ended := 0
	s.gateway.Each(func(l *gateway.Live) {
		facts, ok := l.Found()
		if !ok {
			return
		}
		_, was, _ := l.Granted()
		facts.Now = time.Now()
		d := set.Redecide(facts)
		code, detail := d.Verdict.Reason, d.Verdict.Detail
		if !d.Decided {
			code, detail = reason.PolicyChanged, "the new policy waits for a client hello"
		}
		keeps := d.Keeps(was.Action)
		if keeps {
			code, detail = s.revokedNow(ctx, &d)
			keeps = code == ""
		}
		if keeps {
			l.Regrant(d.Verdict, d.Facts)
			return
		}
		s.log.Info("live flow ended by a reload", zap.String("id", l.ID), zap.String("policy", set.ID()),
			zap.String("rule", d.Verdict.Rule), zap.String("reason", string(code)), zap.String("detail", detail))
		l.End(reason.EndPolicy)
		ended++
	})
	return ended
}

// revokedNow returns the reason to end a flow that the policy would keep: one of its certificates
// is revoked, or nothing fresh is known about it under hard.
func (s *Service) revokedNow(ctx context.Context, d *policy.Decision) (reason.Code, string) {
	var destination *handshake.Peer
	if up := d.Facts.Upstream; up != nil {
		destination = up.Peer
	}
	client, destination := revocable(d.Verdict.Plan, d.Facts.Peer, destination)
	if r := s.revocation.Check(ctx, client, d.Facts.Now); r.Code != "" {
		return r.Code, r.Detail
	}
	r := s.revocation.Check(ctx, destination, d.Facts.Now)
	return r.Code, r.Detail
}
