package bench

import (
	"context"
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// conns opens and closes connections as fast as loadWorkers can.
func (l *load) conns(ready func() error) (Outcome, error) {
	cfgs := make([]*tls.Config, loadWorkers)
	for i := range cfgs {
		cfgs[i] = l.tls
		if l.job.Resume && l.tls != nil {
			cfgs[i] = l.tls.Clone()
			cfgs[i].ClientSessionCache = tls.NewLRUClientSessionCache(1)
			if _, err := l.once(cfgs[i]); err != nil {
				return Outcome{}, err
			}
		}
	}
	if err := ready(); err != nil {
		return Outcome{}, err
	}
	start := time.Now()
	end := start.Add(l.job.For)
	var good, failed, resumed atomic.Int64
	var first atomic.Pointer[string]
	var wg sync.WaitGroup
	for _, cfg := range cfgs {
		wg.Go(func() {
			for time.Now().Before(end) {
				again, err := l.once(cfg)
				if err != nil {
					failed.Add(1)
					text := err.Error()
					first.CompareAndSwap(nil, &text)
					time.Sleep(time.Millisecond) // a peer that refuses must not be hammered
					continue
				}
				good.Add(1)
				if again {
					resumed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	o := Outcome{Seconds: time.Since(start).Seconds(), Conns: good.Load(), Failed: failed.Load(), Resumed: resumed.Load()}
	if text := first.Load(); text != nil {
		o.Error = *text
	}
	return o, nil
}

// once is one connection of a rate test.
func (l *load) once(cfg *tls.Config) (resumed bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), connTimeout)
	defer cancel()
	c, err := l.dial(ctx, cfg)
	if err != nil {
		return false, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(connTimeout)); err != nil {
		return false, err
	}
	if t, ok := c.(*tls.Conn); ok {
		resumed = t.ConnectionState().DidResume
	}
	return resumed, echo(c, request{op: opEcho}.bytes(), make([]byte, requestSize))
}

// rtt makes round trips on one open connection.
func (l *load) rtt(ready func() error) (Outcome, error) {
	c, err := l.open(l.job.For + bulkSlack + connTimeout)
	if err != nil {
		return Outcome{}, err
	}
	defer c.Close()
	msg, buf := request{op: opEcho}.bytes(), make([]byte, requestSize)
	for range 20 { // not the first ones: tickets, buffers, caches
		if err := echo(c, msg, buf); err != nil {
			return Outcome{}, err
		}
	}
	if err := ready(); err != nil {
		return Outcome{}, err
	}
	var took []time.Duration
	start := time.Now()
	for at := start; at.Sub(start) < l.job.For && len(took) < maxSamples; {
		if err := echo(c, msg, buf); err != nil {
			return Outcome{}, err
		}
		now := time.Now()
		took = append(took, now.Sub(at))
		at = now
	}
	slices.Sort(took)
	micros := func(q float64) float64 {
		return float64(took[int(q*float64(len(took)-1))]) / float64(time.Microsecond)
	}
	return Outcome{Seconds: time.Since(start).Seconds(), Conns: int64(len(took)), P50: micros(0.50), P99: micros(0.99)}, nil
}

// idle opens connections, makes one round trip on each, and leaves them open.
func (l *load) idle() ([]net.Conn, Outcome) {
	var mu sync.Mutex
	var held []net.Conn
	var o Outcome
	var wg sync.WaitGroup
	var n atomic.Int64
	start := time.Now()
	for range loadWorkers {
		wg.Go(func() {
			for n.Add(1) <= int64(l.job.Flows) {
				c, err := l.open(l.job.For)
				if err == nil {
					err = echo(c, request{op: opEcho}.bytes(), make([]byte, requestSize))
				}
				mu.Lock()
				if err == nil {
					held = append(held, c)
					o.Conns++
				} else {
					o.Failed++
					o.Error = err.Error()
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	o.Seconds = time.Since(start).Seconds()
	return held, o
}
