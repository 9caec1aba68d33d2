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
	// orderRest is the longest that a CA that limits how often it is asked is left alone.
	orderRest = 24 * time.Hour
)

// orders remembers what has been ordered, over reloads. One goroutine uses it.
type orders map[string]*ordering // by file

type ordering struct {
	of   *x509.Certificate // that due was set for; nil: there was none
	due  time.Time         // of the next order
	wait time.Duration
	err  error // of the last order; nil: it has brought what is in use
}

// runOrders orders the certificates of identities with acme, before the first and in time before
// the end of each. An order that fails is said by the source of the identity, as other renewals.
func (s *Service) runOrders(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	seen := orders{}
	for {
		var round sync.WaitGroup // one CA that hangs holds up no order of another
		for _, o := range s.runtime().Own {
			if v := seen.of(o); v != nil && s.ordersHere() {
				round.Go(func() { s.obtain(ctx, o, v) })
			}
		}
		round.Wait()
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

// of is what is remembered of an identity; nil where it is not ordered.
func (s orders) of(o *config.Own) *ordering {
	order := o.Order()
	if order == nil {
		return nil
	}
	v := s[order.File]
	if v == nil {
		v = &ordering{}
		s[order.File] = v
	}
	return v
}

// obtain orders the certificate of an identity if that is due.
func (s *Service) obtain(ctx context.Context, o *config.Own, v *ordering) {
	order := o.Order()
	leaf, life := o.Leaf(), time.Duration(0)
	if !leaf.Equal(v.of) || v.due.IsZero() {
		*v = ordering{of: leaf, due: renewAt(leaf, rand.Float64())}
	}
	if leaf != nil {
		life = times.Sub(leaf.NotAfter, leaf.NotBefore)
	}
	if time.Now().Before(v.due) {
		o.Ordered(v.err) // after a reload it is another Own
		return
	}
	s.log.Info("a certificate is ordered", zap.String("identity", o.Name), zap.Strings("names", order.Names), zap.String("directory", order.Directory))
	err := order.Obtain(ctx, ownMark(s.runtime().Config), &s.challenges)
	if ctx.Err() != nil {
		return
	}
	v.err = err
	o.Ordered(err)
	now := time.Now()
	if err != nil {
		v.failed(err, now, life)
	}
	s.renew(ctx, now) // takes what has come, and says what has not
	if err == nil && leaf.Equal(o.Leaf()) {
		v.failed(nil, now, life) // it cannot be used, and why is said: no reason to order on and on
	}
}

// failed sets when an order that failed is repeated. Some chance keeps gateways apart that have
// failed at the same moment.
func (v *ordering) failed(err error, now time.Time, life time.Duration) {
	v.wait = min(max(2*v.wait, orderFirst), orderMost)
	if life > 0 {
		v.wait = max(min(v.wait, life/12), watchEvery)
	}
	wait := v.wait + time.Duration(rand.Float64()*float64(v.wait)/4)
	var limited *acmeclient.RetryAfter
	if errors.As(err, &limited) {
		wait = max(wait, min(limited.For, orderRest))
	}
	v.due = now.Add(wait)
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
