package service

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/diagram"
	"github.com/sslgate/sslgate/internal/fairqueue"
	"github.com/sslgate/sslgate/internal/gateway"
	"github.com/sslgate/sslgate/internal/metrics"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/times"
	"github.com/sslgate/sslgate/internal/web"
	"github.com/sslgate/sslgate/stack"
)

// openAdmin opens the admin interface: the socket, the loopback listener with its page, and
// metrics. The default socket is optional: if it cannot be opened, the gateway runs without.
func (s *Service) openAdmin() error {
	a := s.runtime().Config.Admin
	if a.Socket == config.AdminOff && a.HTTP == "" && a.Metrics.Listen == "" {
		return nil
	}
	s.admin = admin.New(admin.Options{Backend: s, Hub: s.hub, Metrics: s.metrics.Handler(), Page: web.Handler(), Log: s.log})
	if a.Socket != config.AdminOff {
		listen := s.admin.ListenSocket
		if s.lease != nil {
			listen = s.admin.ListenAside
		}
		err := listen(a.Socket)
		if err != nil && a.Socket != config.DefaultSocket {
			s.admin.Close()
			return err
		}
		if err != nil {
			s.log.Warn("no admin socket: status and reload by command are off (SIGHUP works)", zap.Error(err))
		}
	}
	if a.Metrics.Listen != "" {
		if err := s.openScrapes(a.Metrics.Listen); err != nil {
			s.admin.Close()
			return err
		}
		s.log.Info("metrics with mutual TLS", zap.Stringer("listen", s.scrapes))
	}
	if a.HTTP == "" {
		return nil
	}
	var err error
	if s.web, err = s.admin.ListenHTTP(a.HTTP, s.runtime().Token); err != nil {
		s.admin.Close()
		return err
	}
	s.log.Info("web page", zap.String("url", "http://"+s.web.String()+"/"), zap.String("token_file", a.TokenFile))
	return nil
}

// newMetrics creates the metrics; the sources are read only by a scrape.
func (s *Service) newMetrics() *metrics.Metrics {
	return metrics.New(metrics.Info{Version: s.opt.Version, Started: s.started}, metrics.Sources{
		Stack: func() stack.Stats { return s.stack.Stats() },
		Audit: s.auditStats, Revocation: s.revocation.Stats,
		Gauges: func() metrics.Gauges {
			s.mu.Lock()
			limit, draining := s.rt.Config.Limits.Flows, s.draining
			s.mu.Unlock()
			up, down := s.gateway.Relayed()
			ready := s.Readiness()
			return metrics.Gauges{
				BytesUp: up, BytesDown: down,
				Flows: s.gateway.Flows(), FlowsMax: limit, Draining: draining, Ready: ready.Ready, Reasons: len(ready.Reasons),
				Memory: s.memoryParts(),
				Queues: map[string][2]int{"refused_syns": {s.gateway.Queued(), gateway.QueueSize}}, Repairs: s.repairs(),
				Dropped: s.droppedBy(),
			}
		},
		Memory:     s.memoryGauges,
		Handshakes: func() fairqueue.Stats { return s.gateway.Handshakes() },
		Staples:    s.stapleMetrics,
		Renewals:   s.renewalMetrics,
		Fleet:      s.fleetMetrics(),
		Certificates: func() []metrics.Certificate {
			var all []metrics.Certificate
			for _, c := range s.Certificates() {
				all = append(all, metrics.Certificate{Kind: c.Kind, Name: c.Name, NotAfter: c.NotAfter})
			}
			return all
		},
	})
}

// auditStats are the statistics of the audit log, plus the refusals without a record of their
// own.
func (s *Service) auditStats() audit.Stats {
	st := s.records.Stats()
	syns, flows := s.gateway.Unrecorded()
	st.Suppressed = syns + flows
	return st
}

// finished is called at the end of every flow.
func (s *Service) finished(r *audit.Record) {
	s.metrics.Finished(r)
	s.decided.add(time.Now(), uint64(r.Suppressed)+1, r.Verdict() != reason.Allowed.String())
	s.hub.Finished(r)
}

func (s *Service) runtime() *config.Runtime {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rt
}

// warnBefore is how long before a certificate expires the warnings begin; of one that lives for
// less than six weeks, in the last third of its life.
const warnBefore = 14 * 24 * time.Hour

// Readiness says whether flows are taken. Reasons of a ready gateway are warnings.
func (s *Service) Readiness() admin.Readiness {
	s.mu.Lock()
	draining, refuses, last, limit := s.draining, s.refuses, s.last, s.rt.Config.Limits.Flows
	s.mu.Unlock()
	now := time.Now()
	r := admin.Readiness{Ready: true, Reasons: []string{}, Causes: []admin.Cause{}}
	no := func(kind admin.ReadyKind, format string, args ...any) {
		text := fmt.Sprintf(format, args...)
		r.Ready = false
		r.Reasons, r.Causes = append(r.Reasons, text), append(r.Causes, admin.Cause{Kind: kind, Text: text})
	}
	warn := func(format string, args ...any) { r.Reasons = append(r.Reasons, fmt.Sprintf(format, args...)) }
	if s.over.gave.Load() {
		no(admin.ReadyStop, "another process takes the new flows")
	}
	if s.lostSteering() {
		no(admin.ReadyStop, "another process has taken the steering")
	}
	switch {
	case draining && !refuses.IsZero():
		no(admin.ReadyStop, "draining: new flows are taken for %s yet", max(0, refuses.Sub(now)).Round(100*time.Millisecond))
	case draining:
		no(admin.ReadyStop, "draining: no new flows are taken")
	}
	if own, older := s.gateway.Flows(), s.stack.Beside(); older > 0 && own+older >= limit {
		no(admin.ReadyLoad, "limits.flows is reached: %d, and %d in the older process", own, older)
	} else if own >= limit {
		no(admin.ReadyLoad, "limits.flows is reached: %d", own)
	}
	s.steeringReadiness(no, warn)
	st := s.records.Stats()
	if s.records.Refusing() {
		no(admin.ReadyOwn, "audit records cannot be written and audit.on_full is refuse: %v", st.Err)
	} else if st.Err != nil {
		warn("audit records cannot be written: %v", st.Err)
	}
	if st.Trouble != nil {
		warn("the audit file grows beyond audit.rotate.size: %v", st.Trouble)
	}
	if last != nil && last.Error != "" {
		warn("the last reload was refused, the configuration before it is in place: %s", last.Error)
	}
	for _, l := range s.Revocation() {
		switch {
		case l.State == "missing":
			no(admin.ReadyShared, "the revocation list of authority %s that %s had is not there any more (%s); the one known stays in use until %s",
				l.Authority, l.Source, l.Error, times.Stamp(l.NextUpdate))
		case l.State == "expired" && l.Mode == "hard":
			warn("no fresh revocation list of authority %s (%s): its certificates are refused", l.Authority, l.Source)
		case l.Error != "":
			warn("the revocation list of authority %s (%s) is %s, and what is there now was not taken: %s", l.Authority, l.Source, l.State, l.Error)
		case l.State != "fresh":
			warn("the revocation list of authority %s (%s) is %s", l.Authority, l.Source, l.State)
		}
	}
	for _, text := range slices.Concat(s.staleStaples(now), s.fleetWarnings()) {
		warn("%s", text)
	}
	s.sourceReadiness(now, no, warn)
	for _, c := range s.Certificates() {
		left := times.Sub(c.NotAfter, now)
		switch {
		case left <= 0 && c.Kind == kindIdentity:
			no(admin.ReadyIdentity, "the certificate of identity %s has ended", c.Name)
		case left <= 0:
			warn("a certificate of %s %s has ended", c.Kind, c.Name)
		case left < min(warnBefore, times.Sub(c.NotAfter, c.NotBefore)/3):
			warn("a certificate of %s %s ends in %s", c.Kind, c.Name, daysOrHours(now, c.NotAfter))
		}
	}
	return r
}

// daysOrHours are the days left, of the last two days the hours.
func daysOrHours(now, end time.Time) string {
	if days := times.Days(now, end); days >= 2 {
		return fmt.Sprintf("%.1f days", days)
	}
	return fmt.Sprintf("%.1f hours", hoursLeft(now, end))
}

// Flows lists the live flows, the oldest first.
func (s *Service) Flows(f admin.Filter, limit int) (flows []admin.Flow, all int) {
	var live []*gateway.Live
	s.gateway.Each(func(l *gateway.Live) { live = append(live, l) })
	slices.SortFunc(live, func(a, b *gateway.Live) int { return a.Start.Compare(b.Start) })
	for _, l := range live {
		full := limit > 0 && len(flows) == limit
		if full && f == (admin.Filter{}) {
			return flows, len(live)
		}
		flow := admin.FlowOf(l.Brief(), l.Relaying())
		if !f.Live(&flow) {
			continue
		}
		if all++; !full {
			flows = append(flows, flow)
		}
	}
	return flows, all
}

// Flow returns one live flow with its picture.
func (s *Service) Flow(id string) (*admin.FlowDetail, bool) {
	l := s.gateway.Lookup(id)
	if l == nil {
		return nil, false
	}
	st := l.Status()
	flow := admin.FlowOf(st, l.Relaying())
	drawn := diagram.Flow{
		Client:      diagram.Leg{Entries: st.Ledger, Lost: st.LedgerLost},
		Destination: diagram.Leg{Entries: st.DestLedger, Lost: st.DestLedgerLost},
	}
	return &admin.FlowDetail{
		Flow: &flow, Ledger: admin.LedgerOf(st.Ledger), DestinationLedger: admin.LedgerOf(st.DestLedger), Picture: drawn.Draw(),
	}, true
}

// Live samples the newest flows.
func (s *Service) Live(n int) admin.Live {
	var live admin.Live
	var handshakes, relays []*gateway.Live
	s.gateway.Each(func(l *gateway.Live) {
		if l.Relaying() {
			relays = append(relays, l)
			return
		}
		live.Steps[min(l.Step(), handshake.StepApplicationData)]++
		handshakes = append(handshakes, l)
	})
	live.Relaying = len(relays)
	live.Handshakes, live.Relays = newest(handshakes, n), newest(relays, n)
	return live
}

func newest(all []*gateway.Live, n int) []admin.Flow {
	slices.SortFunc(all, func(a, b *gateway.Live) int { return b.Start.Compare(a.Start) })
	flows := []admin.Flow{}
	for _, l := range all[:min(n, len(all))] {
		flows = append(flows, admin.FlowOf(l.Brief(), l.Relaying()))
	}
	return flows
}

// Config is the configuration as loaded.
func (s *Service) Config() map[string]any { return config.View(*s.runtime().Config) }

// Revocation lists the CRLs in use and the sources without one, the earliest expiry first.
func (s *Service) Revocation() []admin.RevocationList {
	return admin.RevocationListsOf(s.revocation.Stats())
}

// LogLevel returns the level of the log.
func (s *Service) LogLevel() string {
	if s.opt.Level == nil {
		return s.log.Level().String()
	}
	return s.opt.Level.Level().String()
}

// SetLogLevel changes the level until the next start.
func (s *Service) SetLogLevel(word string) error {
	words := []string{"debug", "info", "warn", "error"}
	level, err := zapcore.ParseLevel(word)
	switch {
	case err != nil || !slices.Contains(words, word):
		return fmt.Errorf("level is one of %s, not %q", strings.Join(words, ", "), word)
	case s.opt.Level == nil:
		return errors.New("this gateway's log has a fixed level")
	}
	before := s.opt.Level.Level()
	s.log.Info("log level", zap.Stringer("before", before), zap.Stringer("now", level))
	s.opt.Level.SetLevel(level)
	return nil
}

// Drain begins what SIGTERM does.
func (s *Service) Drain() time.Time {
	s.askDrain()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.deadline.IsZero() { // the drain has not begun yet
		return time.Now().Add(s.rt.Config.Limits.ShutdownDelay.Std() + s.rt.Config.Limits.Drain.Std())
	}
	return s.deadline
}

var _ admin.Backend = (*Service)(nil)
