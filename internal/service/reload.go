package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/memory"
)

// Reload reads the configuration and every file it names again, once, and puts all of it in
// place or nothing: after any error the old set stays, and the error says what is wrong. Flows
// keep the set they began with. With `reload: {live: reevaluate}` live flows are decided again,
// and those that are no longer allowed end.
//
// Reading fails if ctx ends, after reloadFor, and if limits.memory has no room: what flows hold
// has priority over what is read.
func (s *Service) Reload(ctx context.Context) (*admin.ReloadResult, error) {
	return s.reloadFrom(ctx, nil)
}

// reloadFrom is Reload from another place than that of the configuration in force, unless src is
// nil.
func (s *Service) reloadFrom(ctx context.Context, src fileset.Source) (*admin.ReloadResult, error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	s.notify.reloading()
	defer func() { s.notify.ready("policy " + s.policyID()) }()
	s.records.Reopen()
	s.mu.Lock()
	old := s.rt
	s.mu.Unlock()

	res := &admin.ReloadResult{At: time.Now().UTC(), Before: old.Set.ID(), Policy: old.Set.ID(), SnapshotBefore: old.Snapshot, Snapshot: old.Snapshot}
	res.CRLsBefore = s.revocation.Digest()
	checked, err := s.read(ctx, src)
	rt := checked.Runtime
	for _, f := range checked.Findings {
		res.Findings = append(res.Findings, f.String())
	}
	if err == nil && rt == nil {
		err = errUnusable
	}
	if rt != nil {
		res.NeedsRestart = config.NeedsRestart(old.Config, rt.Config)
		if err = sameBase(old.Config, rt.Config); err == nil {
			err = s.dialAs(rt.Config)
		}
		if err == nil {
			s.attend(ctx, rt)
			s.revocation.Reload(rt.Revocation) // first, so that it knows every authority that the new rules may name
			s.gateway.Put(gatewaySettings(rt))
			s.hub.Keep(ruleNames(rt.Config))
			if rt.Token != nil {
				s.admin.SetToken(rt.Token)
			}
			res.Policy, res.Snapshot = rt.Set.ID(), rt.Snapshot
			res.Certificates, res.CertificatesMore = s.changes.look(rt, s.log)
			s.trustChanged(rt) // before the flows are looked at: a change meanwhile is seen at the next look
			if rt.Config.Reload.Live == "reevaluate" {
				res.Ended = s.reevaluate(rt.Set)
			}
		}
	}
	res.CRLs = s.revocation.Digest()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = res
	switch {
	case err == nil:
		s.wanted = nil
	case checked.Named != nil:
		s.wanted = checked.Named
	} // else nothing was read: the files wanted before still are
	s.metrics.Reloaded(err == nil, res.At)
	if err != nil {
		res.Error = err.Error()
		if src != nil {
			return res, err // whoever hands over the source logs it, once
		}
		s.log.Error("reload refused, the old configuration stays", zap.Error(err), zap.Strings("findings", res.Findings))
		return res, err
	}
	s.rt = rt
	for _, o := range old.Own {
		o.Close()
	}
	s.agents.Keep(rt.Agents())
	s.reloads++
	s.log.Info("reloaded", zap.String("policy", res.Policy), zap.String("before", res.Before), zap.String("snapshot", res.Snapshot), zap.Int("ended", res.Ended))
	return res, nil
}

// reloadFor bounds the reading of a configuration: ten thousand rules take some seconds.
const reloadFor = time.Minute

// read reads the configuration and its files within a loan of memory. An error means that it
// could not be read, not that it is wrong.
func (s *Service) read(ctx context.Context, src fileset.Source) (config.Checked, error) {
	ctx, cancel := context.WithTimeout(ctx, reloadFor)
	defer cancel()
	ctx, loan := s.memory.Borrow(ctx)
	defer loan.Return()
	s.mu.Lock()
	source, file := s.rt.Source, s.file
	s.mu.Unlock()
	if src != nil {
		source = src
	}
	checked, err := config.CheckWithin(ctx, loan, source, file, s.engine)
	switch {
	case errors.Is(err, memory.ErrNoRoom):
		err = fmt.Errorf("the configuration cannot be loaded beside the live flows, the old one stays: %w; a restart takes it, or raise limits.memory", err)
	case errors.Is(err, context.DeadlineExceeded):
		err = fmt.Errorf("reading the configuration takes longer than %s, the old one stays: a restart takes it (%w)", reloadFor, err)
	case err != nil:
		err = fmt.Errorf("the configuration was not read to its end, the old one stays: %w", err)
	}
	return checked, err
}

func (s *Service) policyID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rt.Set.ID()
}

var errUnusable = errors.New("the configuration is not usable; the old one stays")

// restartError says that a configuration differs in keys that only a restart can change.
type restartError struct{ keys []string }

func (e *restartError) Error() string {
	return fmt.Sprintf("only a restart can change %s; the old configuration stays", strings.Join(e.keys, ", "))
}

// sameBase refuses a configuration with keys that only a restart can change.
func sameBase(old, now *config.Config) error {
	differ := config.NeedsRestart(old, now)
	if len(differ) == 0 {
		return nil
	}
	return &restartError{differ}
}

// watchEvery is how often the files are checked with `reload: {watch: true}`: a stat of a few
// files, soon enough for the renewal of a certificate.
const watchEvery = 5 * time.Second

// watch reloads on SIGHUP and, if configured, when a file has changed.
func (s *Service) watch(ctx context.Context) error {
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	look := looks{seen: s.stamps()}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-hup:
			look.seen = s.stamps()
			_, err := s.Reload(ctx) // Reload logs the error
			look.after(time.Now(), err)
		case <-tick.C:
			s.lookForChanges()
			s.mu.Lock()
			asked := s.rt.Config.Reload.Watch
			s.mu.Unlock()
			why := look.why(time.Now(), s.stamps())
			if !asked || why == "" {
				continue
			}
			s.log.Info("the configuration is read again", zap.String("why", why))
			_, err := s.Reload(ctx) // Reload logs the error
			look.after(time.Now(), err)
		}
	}
}

// A reload that failed for lack of room or time says nothing about the configuration. With
// `reload: {watch: true}` it is tried again after retryFirst, then after twice the last wait,
// up to retryMost.
const (
	retryFirst = 30 * time.Second
	retryMost  = 16 * time.Minute
)

// looks is what watch remembers between two looks at the files.
type looks struct {
	// seen is what was there before the last reload: the next look notices what changed
	// during that reload.
	seen string
	// retry is when to reload although nothing has changed; zero: never. wait is the time
	// between the last reload and retry.
	retry time.Time
	wait  time.Duration
}

// why returns the reason to reload now, given the present stamps; "" if there is none.
func (l *looks) why(now time.Time, stamps string) string {
	switch {
	case stamps != l.seen:
		l.seen = stamps
		return "a file of the configuration has changed"
	case !l.retry.IsZero() && !now.Before(l.retry):
		return "the configuration that could not be read is tried again"
	}
	return ""
}

// after notes the result of a reload.
func (l *looks) after(now time.Time, err error) {
	if !errors.Is(err, memory.ErrNoRoom) && !errors.Is(err, context.DeadlineExceeded) {
		l.retry, l.wait = time.Time{}, 0
		return
	}
	l.wait = min(max(2*l.wait, retryFirst), retryMost)
	l.retry = now.Add(l.wait)
}

// stamps returns a text that changes when one of the configuration's files does.
func (s *Service) stamps() string {
	s.mu.Lock()
	files, from := slices.Concat(s.rt.Watched(), s.wanted), s.rt.Source
	s.mu.Unlock()
	slices.Sort(files)
	files = slices.Compact(files)
	var b strings.Builder
	for _, name := range files {
		stamp, err := from.Stamp(name)
		if err != nil {
			stamp = err.Error()
		}
		fmt.Fprintf(&b, "%s: %s\n", name, stamp)
	}
	return b.String()
}
