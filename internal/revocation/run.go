package revocation

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/memory"
	"github.com/sslgate/sslgate/internal/times"
)

// A failed fetch is repeated after firstRetry, then twice as long each time, up to
// maxRetry. All fetch times are varied by up to a tenth, so that many gateways do not
// fetch at the same moment.
const (
	firstRetry = 10 * time.Second
	maxRetry   = 15 * time.Minute
	// lateRetry is the least time between two fetches of a list that is late.
	lateRetry = time.Minute
)

func jitter(d time.Duration) time.Duration {
	return d + time.Duration((rand.Float64()-0.5)*float64(d)/5)
}

// Run keeps the lists and answers up to date until ctx ends. It checks a file every
// Options.Poll and loads it when it has changed. It fetches a URL every
// Authority.Refresh, and again soon after a failure. It returns when all that it started
// has ended.
func (c *Checker) Run(ctx context.Context) error {
	defer c.asks.CloseIdleConnections()
	defer c.client.CloseIdleConnections()
	var wg sync.WaitGroup
	defer func() {
		wg.Wait()
		if c.copies.saveDue(c.o.Now()) {
			end, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveAtEnd)
			defer cancel()
			c.save(end)
		}
	}()
	tick := time.NewTicker(c.o.Poll)
	defer tick.Stop()
	for {
		c.round(ctx, &wg)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// Prime fetches the lists of which nothing fresh is known, until each was tried or ctx
// ends, so that under Hard the first clients after a start are not refused. Call it
// before Run.
func (c *Checker) Prime(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	now := c.o.Now()
	for _, src := range c.claim(func(s *source) bool {
		return IsURL(s.location) && !slices.ContainsFunc(s.lists, func(l *List) bool { return l.Fresh(now) })
	}) {
		wg.Go(func() { c.load(ctx, src) })
	}
}

// claim marks the idle sources that f picks as busy and returns them.
func (c *Checker) claim(f func(*source) bool) []*source {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []*source
	for _, s := range c.sources {
		if !s.busy && f(s) {
			s.busy = true
			list = append(list, s)
		}
	}
	return list
}

// round starts the work that is due.
func (c *Checker) round(ctx context.Context, wg *sync.WaitGroup) {
	c.renew()
	now := c.o.Now()
	for _, src := range c.claim(func(s *source) bool {
		if IsURL(s.location) {
			return !now.Before(s.due)
		}
		return s.isNew() || s.again && !now.Before(s.due)
	}) {
		wg.Go(func() { c.load(ctx, src) })
	}
	c.age(now)
	if c.copies.saveDue(now) {
		wg.Go(func() { c.save(ctx) })
	}
	for _, v := range c.data.Load().authorities {
		if v.responder == nil || !v.responder.renewing.CompareAndSwap(false, true) {
			continue
		}
		wg.Go(func() {
			defer v.responder.renewing.Store(false)
			for _, q := range v.responder.renew(ctx, now, v.names) {
				v.takeBack(c, q)
			}
		})
	}
}

// loaded is what one load of a source brought.
type loaded struct {
	lists []*List
	file  string // the stamp
	tags  tags
	data  []byte // what was fetched; nil for a file
}

// load reads one claimed source and replaces its lists if the new ones are good.
func (c *Checker) load(ctx context.Context, src *source) {
	// The loan covers everything: the bytes read, the lists made of them, and the lists
	// they replace, which live until the last flow has finished with them.
	within, loan := c.o.Memory.Borrow(ctx)
	defer loan.Return()
	got, err := c.read(within, loan, src)
	now := c.o.Now()
	c.mu.Lock()
	if !IsURL(src.location) && got.file != "" {
		src.file = got.file // also of one that is refused: read again when it changes
	}
	if err == nil {
		err = c.orderOf(src.authority.Name).check(src.lists, got.lists, got.data != nil)
	}
	n, changed := src.counters, false
	switch {
	case errors.Is(err, errNotModified):
		n.notModified.Add(1)
		err = nil
	case err == nil:
		src.tags = got.tags
		if changed = !sameLists(src.lists, got.lists); changed {
			n.loaded.Add(1)
			src.lists = got.lists
			// Not if a Reload has removed the source meanwhile.
			if changed = slices.Contains(c.sources, src); changed {
				c.publishLocked()
			}
		}
	case ctx.Err() == nil:
		n.failures.Add(1)
	}
	news := err != nil && (src.err == nil || src.err.Error() != err.Error())
	src.err, src.busy = err, false
	src.again = !IsURL(src.location) && (errors.Is(err, memory.ErrNoRoom) || errors.Is(err, ErrOlder) || errors.Is(err, ErrNotYet))
	inUse := src.lists // copied now: once busy is false, the next load may change it
	src.schedule(now)
	c.mu.Unlock()

	switch {
	case err != nil && ctx.Err() != nil: // stopped, nothing is wrong
	case news:
		c.complain(src, inUse, err)
	case changed:
		for _, l := range got.lists {
			c.o.Log.Info("revocation list taken", zap.String("authority", src.authority.Name), zap.String("source", src.location),
				zap.Stringer("list", l), zap.Int("entries", l.Entries), zap.Time("until", l.NextUpdate))
		}
		c.changed()
	}
	if err == nil && got.data != nil {
		if err := c.keep(src, got.data, got.tags); err != nil {
			c.o.Log.Warn("revocation list not kept: after a restart it is fetched anew", zap.String("source", src.location), zap.Error(err))
		}
		c.copies.mark() // save reads what keep wrote
	}
}

func sameLists(a, b []*List) bool {
	return slices.EqualFunc(a, b, func(a, b *List) bool { return a.sum == b.sum })
}

// schedule sets when a URL is fetched next.
func (s *source) schedule(now time.Time) {
	wait := s.authority.Refresh
	if wait <= 0 {
		wait = DefaultRefresh
	}
	if s.err != nil {
		wait = min(wait, maxRetry, firstRetry<<min(s.fails, 16))
		s.fails++
		s.due = now.Add(jitter(wait))
		return
	}
	s.fails = 0
	for _, l := range s.lists {
		// As soon as the next list should be there, and then more and more often.
		next := times.Sub(l.lateAt(), now)
		if next <= 0 {
			next = max(times.Sub(l.NextUpdate, now)/4, lateRetry)
		}
		wait = min(wait, next)
	}
	s.due = now.Add(jitter(wait))
}

// age logs, once for each stage, that a list becomes stale. An expired list raises the
// epoch, because the answers of Check change.
func (c *Checker) age(now time.Time) {
	gone := false
	c.mu.Lock()
	for _, src := range c.sources {
		stages := map[*List]stage{}
		for _, l := range src.lists {
			s := stageOf(l, now)
			stages[l] = s
			if s <= src.stage[l] {
				continue
			}
			gone = gone || s == expired
			f := []zap.Field{zap.String("authority", src.authority.Name), zap.String("source", src.location),
				zap.Stringer("list", l), zap.Time("until", l.NextUpdate), zap.Stringer("revocation", src.authority.Mode)}
			if s == expired {
				c.o.Log.Error("revocation list expired", f...)
			} else {
				c.o.Log.Warn("revocation list expires soon and there is no newer one", append(f, zap.String("left", times.Text(now, l.NextUpdate)))...)
			}
		}
		src.stage = stages
	}
	gone = c.ageKept(now) || gone
	if gone {
		c.epoch.Add(1)
	}
	c.mu.Unlock()
	if gone {
		c.changed()
	}
}
