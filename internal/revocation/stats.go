package revocation

import (
	"sync/atomic"
	"time"
)

// counters of one authority.
type counters struct {
	good, revoked, unknownRefused, unknownAllowed atomic.Uint64
	badStaples                                    atomic.Uint64
	fetches, notModified, loaded, failures        atomic.Uint64
	asked, askFailures, askCached                 atomic.Uint64
}

func (n *counters) count(r *Result) {
	switch {
	case r.Status == Good:
		n.good.Add(1)
	case r.Status == Revoked:
		n.revoked.Add(1)
	case r.Code == "":
		n.unknownAllowed.Add(1)
	default:
		n.unknownRefused.Add(1)
	}
}

// Stats is a snapshot of the counters and lists.
type Stats struct {
	Epoch       uint64
	Digest      string // see Checker.Digest
	Authorities map[string]AuthorityStats
}

// AuthorityStats are the counters of one authority since the start of the process.
type AuthorityStats struct {
	Mode Mode

	// Answers of Check. A flow is checked at most twice: in its handshake, and again if
	// the epoch has grown meanwhile.
	Good, Revoked  uint64
	UnknownRefused uint64 // hard, and nothing fresh was known
	UnknownAllowed uint64 // soft, and nothing fresh was known
	BadStaples     uint64

	// Sources.
	Fetches     uint64 // URLs asked
	NotModified uint64 // ... answered by 304
	Loaded      uint64 // sources whose new lists were taken
	Failures    uint64 // sources that could not be read, or whose lists were refused

	// The OCSP responder.
	OCSPAsked, OCSPFailures, OCSPCached uint64
	OCSP                                string // URL; "" if there is no responder
	OCSPError                           string // why the last question got no useful answer; "" if it got one

	Lists []ListStats
}

// ListStats is one list in use.
type ListStats struct {
	Source, Issuer, Number string
	ThisUpdate, NextUpdate time.Time
	Entries, Bytes         int // Bytes of memory for the serials
	// State is "fresh", "late" (two thirds of its lifetime are over), "missing" (in
	// force, but its source does not carry it any more, or carries nothing usable) or
	// "expired".
	State string
	Error string // why the source's last load was refused, "" if it was not
}

// Stats returns the counters and what lists are in use.
func (c *Checker) Stats() Stats {
	now := c.o.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	s := Stats{Epoch: c.epoch.Load(), Digest: c.Digest(), Authorities: map[string]AuthorityStats{}}
	for _, a := range c.authorities {
		n := c.counters[a.Name]
		s.Authorities[a.Name] = AuthorityStats{
			Mode: a.Mode,
			Good: n.good.Load(), Revoked: n.revoked.Load(),
			UnknownRefused: n.unknownRefused.Load(), UnknownAllowed: n.unknownAllowed.Load(), BadStaples: n.badStaples.Load(),
			Fetches: n.fetches.Load(), NotModified: n.notModified.Load(), Loaded: n.loaded.Load(), Failures: n.failures.Load(),
			OCSPAsked: n.asked.Load(), OCSPFailures: n.askFailures.Load(), OCSPCached: n.askCached.Load(),
		}
	}
	for name, r := range c.responders {
		a := s.Authorities[name]
		a.OCSP, a.OCSPError = r.cfg.URL, r.lastFailure()
		s.Authorities[name] = a
	}
	for _, src := range c.sources {
		a := s.Authorities[src.authority.Name]
		failed := ""
		if src.err != nil {
			failed = src.err.Error()
		}
		for _, l := range src.lists {
			x := statsOf(l, src.location, now)
			x.Error = failed
			if src.lost() && x.State != expired.String() {
				x.State = missing
			}
			a.Lists = append(a.Lists, x)
		}
		if len(src.lists) == 0 {
			a.Lists = append(a.Lists, ListStats{Source: src.location, State: expired.String(), Error: failed})
		}
		s.Authorities[src.authority.Name] = a
	}
	for name, all := range c.kept {
		a := s.Authorities[name]
		for _, l := range all {
			x := statsOf(l.List, l.location, now)
			x.Error = errVanished.Error()
			if x.State != expired.String() {
				x.State = missing
			}
			a.Lists = append(a.Lists, x)
		}
		s.Authorities[name] = a
	}
	return s
}

func statsOf(l *List, location string, now time.Time) ListStats {
	x := ListStats{
		Source: location, Issuer: l.Issuer, ThisUpdate: l.ThisUpdate, NextUpdate: l.NextUpdate,
		Entries: l.Entries, Bytes: len(l.revoked.flat) + 4*len(l.revoked.index), State: stageOf(l, now).String(),
	}
	if l.Number != nil {
		x.Number = l.Number.Text(10)
	}
	return x
}
