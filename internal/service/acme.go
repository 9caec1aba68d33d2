package service

import (
	"context"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/acmeclient"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/times"
)

// An order that failed is repeated after orderFirst, then after twice the last wait, up to
// orderMost, and at most after a twelfth of the certificate's life.
const (
	orderFirst = time.Minute
	orderMost  = 6 * time.Hour
	// A CA that limits how often it is asked is left alone for limitedFirst, then for twice the
	// last wait, up to orderRest, or for longer where it says so: also up to orderRest.
	limitedFirst = time.Hour
	orderRest    = 24 * time.Hour
	// orderLeast is the least time between two certificates of one identity, or a twelfth of a
	// certificate's life where that is less: whatever goes wrong, a CA's limits are not used up.
	orderLeast = time.Hour
	// ordersAtOnce bounds the orders that are under way with one CA.
	ordersAtOnce = 2
)

// orders remembers what has been ordered, over reloads. It is safe for many goroutines.
type orders struct {
	mu   sync.Mutex
	by   map[string]*ordering // by file
	busy map[string]int       // orders under way, by directory of the CA
}

// ordering is one order, again and again. What follows mu of orders belongs to the goroutine that
// has begun it; to orders where none has.
type ordering struct {
	busy   bool
	cancel context.CancelFunc // of the order under way
	sum    string             // what is ordered: acmeclient.Order.Sum

	of      *x509.Certificate // that due was set for; nil: there was none
	due     time.Time         // of the next order
	wait    time.Duration     // the last one after an order that failed
	limited time.Duration     // the last one because the CA limits how often it is asked
	ordered time.Time         // when the CA has issued the last certificate
	err     error             // of the last order; nil: it has brought what is in use
	other   bool              // another process orders it
	unknown bool              // what is remembered cannot be used, and was waited for
}

// runOrders orders the certificates of identities with acme, before the first and in time before
// the end of each. An order that fails is said by the source of the identity, as other renewals.
// Orders go on beside each other, so a CA that hangs holds up those of no other.
func (s *Service) runOrders(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var under sync.WaitGroup
	defer under.Wait()
	seen := &orders{}
	for {
		if s.ordersHere() {
			for _, o := range s.runtime().Own {
				if v := seen.begin(ctx, s, o); v != nil {
					under.Go(func() { v.run(s, o) })
				}
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// ordersHere says whether this process is the one that new flows come to, a CA's validator too.
func (s *Service) ordersHere() bool {
	return (s.lease == nil || s.over.took.Load()) && !s.over.gave.Load()
}

// begun is an order that is to be run.
type begun struct {
	ctx  context.Context
	of   *orders
	v    *ordering
	from string // the directory of the CA
}

// run orders, and makes room for the next order.
func (b *begun) run(s *Service, o *config.Own) {
	defer b.end()
	s.obtain(b.ctx, o, b.v)
}

func (b *begun) end() {
	b.v.cancel()
	b.of.mu.Lock()
	defer b.of.mu.Unlock()
	b.v.busy = false
	b.of.busy[b.from]--
}

// begin is the order of an identity if it is due and may begin; nil else. One under way of what
// is not wanted any more is cancelled.
func (s *orders) begin(ctx context.Context, svc *Service, o *config.Own) *begun {
	order := o.Order()
	if order == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by, s.busy = map[string]*ordering{}, map[string]int{}
	}
	v := s.by[order.File]
	sum := order.Sum()
	if v != nil && v.busy {
		if v.sum != sum {
			v.cancel()
		}
		return nil
	}
	if v == nil || v.sum != sum {
		v = &ordering{sum: sum}
		s.by[order.File] = v
	}
	if !svc.isDue(o, v, time.Now()) || s.busy[order.Directory] >= ordersAtOnce {
		o.Ordered(v.err) // after a reload it is another Own
		return nil
	}
	v.busy = true
	s.busy[order.Directory]++
	b := &begun{of: s, v: v, from: order.Directory}
	b.ctx, v.cancel = context.WithCancel(ctx)
	return b
}

// isDue says whether the certificate of an identity is to be ordered now.
func (s *Service) isDue(o *config.Own, v *ordering, now time.Time) bool {
	if leaf := o.Leaf(); !leaf.Equal(v.of) || v.due.IsZero() {
		s.plan(o, v, leaf, now)
	}
	return !now.Before(v.due)
}

// plan sets when the certificate is ordered next, by what is in use, and by what is remembered of
// this process or one before it.
func (s *Service) plan(o *config.Own, v *ordering, leaf *x509.Certificate, now time.Time) {
	v.of, v.due = leaf, renewAt(leaf, rand.Float64())
	v.wait, v.limited = 0, 0
	s.heed(o, v, now)
}

// heed puts off the next order by what is remembered.
func (s *Service) heed(o *config.Own, v *ordering, now time.Time) {
	m, err := o.Order().Recall(now)
	if err != nil { // how long the CA wants to be left alone is not known
		if v.unknown {
			return
		}
		v.unknown = true
		s.log.Warn("what is remembered of orders cannot be used", zap.String("identity", o.Name), zap.Error(err))
		m = acmeclient.Memory{Due: now.Add(orderFirst), Wait: orderFirst, Said: err.Error()}
	}
	v.wait, v.limited, v.ordered = max(v.wait, m.Wait), max(v.limited, m.Limited), latest(v.ordered, m.Ordered)
	if !v.ordered.IsZero() {
		v.due = latest(v.due, v.ordered.Add(leastBetween(lifeOf(v.of))))
	}
	v.due = latest(v.due, m.Due)
	if v.err = nil; m.Said != "" && v.due.Equal(m.Due) { // else somebody has brought a certificate since
		v.err = errors.New(m.Said)
	}
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// lifeOf is the life of a certificate; 0 of none.
func lifeOf(c *x509.Certificate) time.Duration {
	if c == nil {
		return 0
	}
	return times.Sub(c.NotAfter, c.NotBefore)
}

// leastBetween is the least time between two certificates with that life; 0: it is not known.
func leastBetween(life time.Duration) time.Duration {
	if life <= 0 {
		return orderLeast
	}
	return max(min(orderLeast, life/12), watchEvery)
}

// obtain orders the certificate of an identity if that is due, and nobody else does so.
func (s *Service) obtain(ctx context.Context, o *config.Own, v *ordering) {
	order := o.Order()
	release, err := order.Lock()
	if errors.Is(err, acmeclient.ErrElsewhere) {
		if !v.other {
			s.log.Info(err.Error(), zap.String("identity", o.Name))
		}
		v.other = true
		return
	}
	if err != nil {
		v.failed(err, time.Now(), lifeOf(o.Leaf()))
		o.Ordered(v.err)
		return
	}
	defer release()
	// Another process may have ordered it, or been told to wait, since this one looked.
	v.other = false
	s.renew(ctx, time.Now())
	leaf := o.Leaf()
	if leaf.Equal(v.of) {
		s.heed(o, v, time.Now())
	} else {
		s.plan(o, v, leaf, time.Now())
	}
	if time.Now().Before(v.due) {
		o.Ordered(v.err)
		return
	}
	if err := order.Remember(v.begins(time.Now(), lifeOf(leaf))); err != nil { // else a disk that is full has us order on and on
		v.failed(err, time.Now(), lifeOf(leaf))
		o.Ordered(v.err)
		return
	}
	s.log.Info("a certificate is ordered", zap.String("identity", o.Name), zap.Strings("names", order.Names), zap.String("directory", order.Directory))
	err = order.Obtain(ctx, ownMark(s.runtime().Config), &s.challenges)
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	if err != nil {
		v.failed(err, now, lifeOf(leaf))
	} else {
		v.err, v.wait, v.limited, v.ordered = nil, 0, 0, now
	}
	o.Ordered(v.err)
	s.renew(ctx, now)                       // takes what has come, and says what has not
	if err == nil && leaf.Equal(o.Leaf()) { // it cannot be used, and why is said: no reason to order on and on
		v.failed(nil, now, lifeOf(leaf))
		v.due = latest(v.due, now.Add(leastBetween(lifeOf(leaf))))
	}
	m := acmeclient.Memory{Wait: v.wait, Limited: v.limited, Ordered: v.ordered}
	if v.wait > 0 {
		m.Due = v.due
	}
	if v.err != nil {
		m.Said = v.err.Error()
	}
	if err := order.Remember(m); err != nil {
		s.log.Warn("when the CA may be asked again is not remembered over a restart", zap.String("identity", o.Name), zap.Error(err))
	}
}

// begins is what is remembered while an order is under way, should this process not live to see
// its end.
func (v *ordering) begins(now time.Time, life time.Duration) acmeclient.Memory {
	at := *v
	at.failed(errors.New("the last order was not finished"), now, life)
	return acmeclient.Memory{Due: at.due, Wait: at.wait, Limited: v.limited, Ordered: v.ordered, Said: at.err.Error()}
}

// failed sets when an order that failed is repeated. Some chance keeps gateways apart that have
// failed at the same moment.
func (v *ordering) failed(err error, now time.Time, life time.Duration) {
	v.err = err
	v.wait = min(max(2*v.wait, orderFirst), orderMost)
	if life > 0 {
		v.wait = max(min(v.wait, life/12), watchEvery)
	}
	wait := v.wait
	var limited *acmeclient.RetryAfter
	if errors.As(err, &limited) {
		v.limited = min(max(2*v.limited, limitedFirst), orderRest)
		wait = max(wait, v.limited, min(limited.For, orderRest))
	}
	v.due = now.Add(wait + time.Duration(rand.Float64()*float64(wait)/4))
}

// renewAt is when a certificate is renewed: at two thirds of its life, or up to a twelfth of it
// earlier, by chance from 0 to 1. One that is not there, nil, is due at once.
func renewAt(c *x509.Certificate, chance float64) time.Time {
	if c == nil {
		return time.Unix(1, 0)
	}
	early := time.Duration(chance * float64(times.Sub(c.NotAfter, c.NotBefore)) / 12)
	return times.Part(c.NotBefore, c.NotAfter, 2, 3).Add(-early)
}
