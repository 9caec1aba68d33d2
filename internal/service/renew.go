package service

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/metrics"
	"github.com/sslgate/sslgate/internal/times"
)

// watchOwn reads what we show again when its files have changed: certificates with their keys,
// then OCSP responses, which belong to them. It needs no reload. See renewalWatch and stapleWatch.
func (s *Service) watchOwn(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	w := stapleWatch{log: s.log, seen: map[*config.Staple]*stapleSeen{}}
	for {
		now := time.Now()
		s.renew(ctx, now)
		w.look(s.runtime().Staples(), now)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// renew is a look at the files of the identities.
func (s *Service) renew(ctx context.Context, now time.Time) {
	if rt := s.runtime(); s.renewals.look(ctx, rt, s.log, now) {
		s.lookForChanges() // which says what has changed
	}
}

// renewalWatch is what renew remembers about the identities of the last look.
type renewalWatch struct {
	mu   sync.Mutex
	seen map[*config.Own]*renewalSeen
}

type renewalSeen struct {
	stamp string // of the files
	said  string // the last warning
}

// look reads the identities whose files have changed, and those that could not be taken: a file
// may be half written. It says whether any was renewed. It logs why one is not, again each day,
// and each hour of the last two days of its certificate.
func (w *renewalWatch) look(ctx context.Context, rt *config.Runtime, log *zap.Logger, now time.Time) (renewed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := make(map[*config.Own]*renewalSeen, len(rt.Own))
	for _, o := range rt.Own {
		v, ok := w.seen[o]
		if !ok {
			v = &renewalSeen{} // a new configuration: one more read costs little
		}
		seen[o] = v
		if stamp := o.Stamp(); rt.Config.Reload.Renew && (stamp != v.stamp || o.Failed() != nil) {
			v.stamp = stamp
			changed, err := o.Renew(now)
			if changed {
				log.Info("identity renewed", zap.String("identity", o.Name), zap.Time("not_after", o.Ends()))
			}
			if err == nil && v.said != "" && !changed {
				log.Info("the source of the identity is in order again", zap.String("identity", o.Name))
			}
			renewed = renewed || changed
		}
		o.Ask(ctx)
		said := ""
		if err := o.Failed(); err != nil {
			said = fmt.Sprintf("%v (%s)", err, leftInSteps(now, o.Ends()))
			if said != v.said {
				log.Warn("the source of an identity fails", zap.String("identity", o.Name),
					zap.Time("not_after", o.Ends()), zap.Float64("hours_left", hoursLeft(now, o.Ends())), zap.Error(err))
			}
		}
		v.said = said
	}
	w.seen = seen
	return renewed
}

// hoursLeft is rounded to a tenth, and negative for what has ended.
func hoursLeft(now, ends time.Time) float64 {
	return float64(times.Seconds(now, ends)/360) / 10
}

// leftInSteps changes once a day, and once an hour of the last two days.
func leftInSteps(now, ends time.Time) string {
	if days := times.WholeDays(now, ends); days >= 2 {
		return fmt.Sprint(days, " days")
	}
	return fmt.Sprint(times.Seconds(now, ends)/3600, " hours")
}

// identityReadiness reports each identity whose source fails: handshakes fail where a signer is
// silent. What stands in the files and is not used leaves the certificate before.
func (s *Service) identityReadiness(now time.Time, no func(kind admin.ReadyKind, format string, args ...any), warn func(format string, args ...any)) {
	for _, o := range s.runtime().Own {
		silent, failed := o.Silent(), o.Failed()
		if silent != nil {
			no(admin.ReadyIdentity, "the signer of identity %s does not sign: %v", o.Name, silent)
		}
		if failed != nil && !errors.Is(failed, silent) {
			warn("the source of identity %s fails: %v; the certificate in use has %.1f hours left", o.Name, failed, hoursLeft(now, o.Ends()))
		}
	}
}

func (s *Service) renewalMetrics() []metrics.Renewal {
	var all []metrics.Renewal
	for _, o := range s.runtime().Own {
		all = append(all, metrics.Renewal{Name: o.Name, Failed: o.Failed() != nil})
	}
	return all
}
