package service

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/metrics"
	"github.com/sslgate/sslgate/internal/times"
)

// stapleWatch reads an OCSP response again when its file has changed. That happens every few
// days and needs no reload. It also logs, once each, that a response is about to expire and that
// it has expired. It is what is remembered about the staples of the last look.
type stapleWatch struct {
	log  *zap.Logger
	seen map[*config.Staple]*stapleSeen
}

type stapleSeen struct {
	stamp string // of the file
	said  string // the last warning
}

// look checks all staples of the configuration in force.
func (w *stapleWatch) look(all []*config.Staple, now time.Time) {
	seen := make(map[*config.Staple]*stapleSeen, len(all))
	for _, st := range all {
		v, ok := w.seen[st]
		if !ok {
			v = &stapleSeen{} // a new configuration: one more read costs little
		}
		seen[st] = v
		if stamp := st.Stamp(); stamp != v.stamp {
			v.stamp = stamp
			changed, err := st.Read(now)
			switch {
			case err != nil:
				w.log.Warn("OCSP staple not taken, the one before it stays until it ends", zap.String("identity", st.Identity), zap.Error(err))
			case changed:
				w.log.Info("OCSP staple read again", zap.String("identity", st.Identity), zap.Time("until", st.Until()))
			}
		}
		text := staleStaple(st, now)
		if kind := stapleState(st, now); kind != v.said {
			v.said = kind
			if text != "" {
				w.log.Warn(text, zap.String("file", st.File))
			}
		}
	}
	w.seen = seen
}

// The states of a staple.
const (
	stapleFresh  = "fresh"
	stapleEnding = "ending"
	stapleEnded  = "ended"
)

func stapleState(st *config.Staple, now time.Time) string {
	switch {
	case !now.Before(st.Until()):
		return stapleEnded
	case st.Ending(now):
		return stapleEnding
	}
	return stapleFresh
}

// staleStaple returns what is wrong with a staple, "" if nothing is.
func staleStaple(st *config.Staple, now time.Time) string {
	switch stapleState(st, now) {
	case stapleEnded:
		return fmt.Sprintf("the OCSP staple of identity %s has ended and is not shown", st.Identity)
	case stapleEnding:
		return fmt.Sprintf("the OCSP staple of identity %s ends in %s", st.Identity, times.Text(now, st.Until()))
	}
	return ""
}

// staleStaples returns the warnings about all staples, for readiness.
func (s *Service) staleStaples(now time.Time) []string {
	var all []string
	for _, st := range s.runtime().Staples() {
		if text := staleStaple(st, now); text != "" {
			all = append(all, text)
		}
	}
	return all
}

func (s *Service) stapleMetrics() []metrics.Staple {
	var all []metrics.Staple
	for _, st := range s.runtime().Staples() {
		all = append(all, metrics.Staple{Name: st.Identity, Until: st.Until()})
	}
	return all
}
