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

// watchOwn reads what we show and trust again when its files have changed: certificates with their
// keys, CAs, then OCSP responses, which belong to the certificates. It needs no reload. See
// renewalWatch and stapleWatch.
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
		case <-s.agents.Changed():
		}
	}
}

// renew is a look at the files of identities and authorities.
func (s *Service) renew(ctx context.Context, now time.Time) {
	if rt := s.runtime(); s.renewals.look(ctx, rt, s.log, now) {
		s.lookForChanges() // which says what has changed, and judges live flows anew
	}
}

// renewing is a source of certificates that renews itself: a *config.Own or a *config.Trusted.
type renewing interface {
	// Stamp changes when what it is read from does.
	Stamp() string
	// Renew reads it again. With an error what was there before stays in use.
	Renew(now time.Time) (changed bool, err error)
	// Failed is why it fails now; nil: all is well.
	Failed() error
	// Ends is when the first of its certificates ends.
	Ends() time.Time
}

// ofKind is a source with its kind, of kindIdentity and kindAuthority, and its name. ordered says
// that this process writes its files itself, agent that there are none: an agent brings it.
type ofKind struct {
	renewing
	kind, name     string
	ordered, agent bool
}

// sources are those of a configuration.
func sources(rt *config.Runtime) []ofKind {
	var all []ofKind
	for _, o := range rt.Own {
		all = append(all, ofKind{o, kindIdentity, o.Name, o.Order() != nil, o.FromAgent()})
	}
	for _, t := range rt.Trusted {
		name := t.Name
		if t.Shadow {
			name += " of the shadow"
		}
		all = append(all, ofKind{t, kindAuthority, name, false, t.FromAgent()})
	}
	return all
}

// renewalWatch is what renew remembers about the sources of the last look.
type renewalWatch struct {
	mu   sync.Mutex
	seen map[renewing]*renewalSeen
}

type renewalSeen struct {
	last string // the stamp of the last look
	read string // the stamp of what was read
	said string // the last warning
}

// look reads the sources whose files have changed, and those that could not be taken: a file
// may be half written. It says whether any was renewed. It logs why one is not, again each day,
// and each hour of the last two days of its certificate.
//
// Half of a bundle of CAs may look like a whole one, so that of an authority is read once its
// files have been the same at two looks. Of an identity certificate and key must fit.
func (w *renewalWatch) look(ctx context.Context, rt *config.Runtime, log *zap.Logger, now time.Time) (renewed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	all := sources(rt)
	seen := make(map[renewing]*renewalSeen, len(all))
	for _, o := range all {
		v, ok := w.seen[o.renewing]
		if !ok {
			v = &renewalSeen{} // a new configuration: one more read costs little
		}
		seen[o.renewing] = v
		stamp := o.Stamp()
		settled := o.kind == kindIdentity || o.agent || stamp == v.last
		changed := false
		if v.last = stamp; (rt.Config.Reload.Renew || o.ordered || o.agent) && settled && (stamp != v.read || o.Failed() != nil) {
			v.read = stamp
			if changed, _ = o.Renew(now); changed { // Failed has the error
				log.Info(o.kind+" renewed", zap.String(o.kind, o.name), zap.Time("not_after", o.Ends()))
			}
			renewed = renewed || changed
		}
		if asks, ok := o.renewing.(interface{ Ask(context.Context) }); ok {
			asks.Ask(ctx)
		}
		said := ""
		if err := o.Failed(); err != nil {
			said = fmt.Sprintf("%v (%s)", err, leftInSteps(now, o.Ends()))
			if said != v.said {
				log.Warn("the source of an "+o.kind+" fails", zap.String(o.kind, o.name),
					zap.Time("not_after", o.Ends()), zap.Float64("hours_left", hoursLeft(now, o.Ends())), zap.Error(err))
			}
		} else if v.said != "" && !changed {
			log.Info("the source of the "+o.kind+" is in order again", zap.String(o.kind, o.name))
		}
		v.said = said
	}
	w.seen = seen
	return renewed
}

// hoursLeft is rounded to a tenth, and negative for what has ended; 0 for what is not there yet.
func hoursLeft(now, ends time.Time) float64 {
	if ends.IsZero() {
		return 0
	}
	return float64(times.Seconds(now, ends)/360) / 10
}

// leftInSteps changes once a day, and once an hour of the last two days.
func leftInSteps(now, ends time.Time) string {
	if ends.IsZero() {
		return "none is in use"
	}
	if days := times.WholeDays(now, ends); days >= 2 {
		return fmt.Sprint(days, " days")
	}
	return fmt.Sprint(times.Seconds(now, ends)/3600, " hours")
}

// sourceReadiness reports each source that fails: handshakes fail where a signer is silent. What
// stands in the files and is not used leaves what was there before. An identity without a
// certificate is a warning alone: a gateway that is not ready gets no traffic, and so no CA's
// validator either.
func (s *Service) sourceReadiness(now time.Time, no func(kind admin.ReadyKind, format string, args ...any), warn func(format string, args ...any)) {
	for _, o := range sources(s.runtime()) {
		var silent error
		if own, ok := o.renewing.(*config.Own); ok {
			silent = own.Silent()
		}
		if silent != nil {
			no(admin.ReadyIdentity, "the signer of identity %s does not sign: %v", o.name, silent)
		}
		failed := o.Failed()
		if failed == nil || errors.Is(failed, silent) {
			continue
		}
		if a, ok := o.renewing.(interface{ Unanswered() bool }); ok && a.Unanswered() {
			no(admin.ReadyIdentity, "%s %s has no certificate yet: %v", o.kind, o.name, failed)
			continue
		}
		left := "no certificate is in use"
		if ends := o.Ends(); !ends.IsZero() {
			left = fmt.Sprintf("the certificate in use has %.1f hours left", hoursLeft(now, ends))
		}
		warn("the source of %s %s fails: %v; %s", o.kind, o.name, failed, left)
	}
}

func (s *Service) renewalMetrics() []metrics.Renewal {
	var all []metrics.Renewal
	for _, o := range sources(s.runtime()) {
		all = append(all, metrics.Renewal{Authority: o.kind == kindAuthority, Name: o.name, Failed: o.Failed() != nil})
	}
	return all
}
