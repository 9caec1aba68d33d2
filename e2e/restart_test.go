package e2e

import (
	"context"
	"crypto/tls"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// attempt is one connection that a client tried.
type attempt struct {
	at time.Time
	ok bool
}

// steadily calls do in goroutines of their own, up to a hundred times a second, until
// the returned func is called. At most 16 calls are under way: more would ask of a slow
// machine what it cannot serve, and tell of the machine.
func steadily(do func(begun time.Time)) (stop func()) {
	var wg sync.WaitGroup
	ended := make(chan struct{})
	underWay := make(chan struct{}, 16)
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
			}
			select {
			case <-ended:
				return
			case underWay <- struct{}{}:
			}
			wg.Go(func() {
				defer func() { <-underWay }()
				do(time.Now())
			})
		}
	})
	return func() {
		close(ended)
		wg.Wait()
	}
}

// tries begins connections steadily until stop is called. soFar is what was tried.
func (w *world) tries() (soFar func() []attempt, stop func()) {
	w.t.Helper()
	return w.triesWithin(testenv.Scaled(time.Second))
}

// triesWithin is tries with a time of its own for each connection.
func (w *world) triesWithin(patience time.Duration) (soFar func() []attempt, stop func()) {
	w.t.Helper()
	pair, err := tls.LoadX509KeyPair(w.dir+"/alice.pem", w.dir+"/alice.key")
	if err != nil {
		w.t.Fatal(err)
	}
	conf := &tls.Config{RootCAs: w.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{pair}}
	var mu sync.Mutex
	var all []attempt
	stop = steadily(func(begun time.Time) {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		raw, err := w.lab.Dial(ctx, lab.Client, "tcp", server(false))
		if err == nil {
			err = tls.Client(raw, conf).HandshakeContext(ctx)
			_ = raw.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		all = append(all, attempt{begun, err == nil})
	})
	return func() []attempt {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(all)
	}, stop
}

// What a restart costs clients that begin up to a hundred connections a second: for
// how long new ones fail, and that they succeed again.
func TestRestartCost(t *testing.T) {
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	config := w.config(payRule, "")
	for _, c := range []struct {
		name string
		sig  syscall.Signal
		held int // live flows that do not end by themselves
	}{{"orderly, no live flow", syscall.SIGTERM, 0}, {"orderly, live flows", syscall.SIGTERM, 20}, {"killed", syscall.SIGKILL, 0}} {
		t.Run(c.name, func(t *testing.T) {
			g := w.start(config)
			s := w.leak()
			for range c.held {
				conn, err := w.dialTLS(false, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			tried, stop := w.tries()
			stop = sync.OnceFunc(stop)
			defer stop()
			succeed := func(when string) {
				t.Helper()
				from := time.Now()
				testenv.Eventually(t, "ten connections succeed "+when, func() bool {
					n := 0
					for _, a := range tried() {
						if a.ok && a.at.After(from) {
							n++
						}
					}
					return n >= 10
				})
			}
			succeed("before")
			g.stop(c.sig)
			g = w.start(config)
			defer g.stop(syscall.SIGTERM)
			succeed("after")
			stop()
			all := tried()
			var first, last time.Time
			failed := 0
			for _, a := range all {
				if a.ok {
					continue
				}
				failed++
				if first.IsZero() || a.at.Before(first) {
					first = a.at
				}
				if a.at.After(last) {
					last = a.at
				}
			}
			t.Logf("%s: %d of %d connections failed; the last of them began %v after the first", c.name, failed, len(all), last.Sub(first).Round(time.Millisecond))
			w.nothingLeaked(s, c.name)
		})
	}
}
