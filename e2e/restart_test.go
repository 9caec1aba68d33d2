package e2e

import (
	"context"
	"crypto/tls"
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

// tries begins a connection every 10 ms, until the returned func is called.
func (w *world) tries() func() []attempt {
	w.t.Helper()
	pair, err := tls.LoadX509KeyPair(w.dir+"/alice.pem", w.dir+"/alice.key")
	if err != nil {
		w.t.Fatal(err)
	}
	conf := &tls.Config{RootCAs: w.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{pair}}
	var mu sync.Mutex
	var all []attempt
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case now := <-tick.C:
				wg.Go(func() {
					ctx, cancel := context.WithTimeout(context.Background(), time.Second)
					defer cancel()
					raw, err := w.lab.Dial(ctx, lab.Client, "tcp", server(false))
					if err == nil {
						err = tls.Client(raw, conf).HandshakeContext(ctx)
						_ = raw.Close()
					}
					mu.Lock()
					defer mu.Unlock()
					all = append(all, attempt{now, err == nil})
				})
			}
		}
	})
	return func() []attempt {
		close(stop)
		wg.Wait()
		return all
	}
}

// What a restart costs clients that begin a hundred connections a second: for
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
			done := w.tries()
			for range c.held {
				conn, err := w.dialTLS(false, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
			}
			time.Sleep(500 * time.Millisecond)
			g.stop(c.sig)
			g = w.start(config)
			defer g.stop(syscall.SIGTERM)
			time.Sleep(1500 * time.Millisecond)
			all := done()
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
			if failed == len(all) || last.Sub(first) > testenv.Patience() {
				t.Error("the gateway does not come back")
			}
			w.nothingLeaked(s, c.name)
		})
	}
}
