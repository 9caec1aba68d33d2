package admin

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"
)

// Admit makes the handshake with a caller. It returns the connection on top of it, or why the
// caller may not read. ctx carries the deadline.
type Admit func(ctx context.Context, c net.Conn) (net.Conn, error)

const (
	// admitFor is how long a caller has for its handshake.
	admitFor = 5 * time.Second
	// maxCallers bounds the connections of the metrics listener, those in their handshake
	// included: each costs some 50 KiB.
	maxCallers = 64
	// maxCallersOfOne bounds those of one client. Prometheus keeps one; two of them behind
	// one address, both reloading, have four. So silent connections from one address keep
	// nobody at another address out.
	maxCallersOfOne = 8
)

// ListenMetrics listens on any address for readers of /metrics, the only path that is served
// there, and returns the address. It closes a connection for which admit returns an error.
func (s *Server) ListenMetrics(address string, admit Admit) (a netip.AddrPort, err error) {
	ln, err := listenTCP(address)
	if err != nil {
		return a, fmt.Errorf("admin.metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.opt.Metrics)
	// About one line in ten seconds: anyone who can reach the port can cause refusals.
	said := rate.NewLimiter(rate.Every(10*time.Second), 3)
	admitted := func(ln net.Listener) net.Listener {
		ctx, cancel := context.WithCancel(context.Background())
		return &admitting{
			Listener: newLimited(ln, maxCallers, maxCallersOfOne), admit: admit, log: s.opt.Log,
			said: said, ctx: ctx, cancel: cancel, ready: make(chan net.Conn),
		}
	}
	d := s.add("admin metrics", admitted(ln), mux)
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	d.again = func() (net.Listener, error) {
		ln, err := listenTCP(at.String())
		if err != nil {
			return nil, err
		}
		return admitted(ln), nil
	}
	// A reader comes every few seconds. A kept connection would not be checked again after
	// a reload or a revocation.
	d.http.SetKeepAlivesEnabled(false)
	return at, nil
}

// admitting returns connections whose handshake is complete. A slow handshake does not delay
// the others.
type admitting struct {
	net.Listener
	admit  Admit
	log    *zap.Logger
	said   *rate.Limiter
	ctx    context.Context // of the handshakes
	cancel context.CancelFunc
	ready  chan net.Conn

	begin sync.Once
	wg    sync.WaitGroup

	mu     sync.Mutex
	failed error // why it no longer accepts
}

// Accept waits for the next admitted caller.
func (l *admitting) Accept() (net.Conn, error) {
	l.begin.Do(func() { l.wg.Go(l.accept) })
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.failed != nil {
			return nil, l.failed
		}
		return nil, net.ErrClosed
	}
}

func (l *admitting) accept() {
	for {
		c, err := l.Listener.Accept()
		if err != nil && l.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
			select { // out of descriptors: wait until some are closed
			case <-time.After(5 * time.Millisecond):
				continue
			case <-l.ctx.Done():
			}
		}
		if err != nil {
			l.mu.Lock()
			l.failed = err
			l.mu.Unlock()
			l.cancel()
			return
		}
		l.wg.Go(func() { l.one(c) })
	}
}

func (l *admitting) one(raw net.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, admitFor)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	c, err := l.admit(ctx, raw)
	if !stop() && err == nil {
		err = ctx.Err() // ctx has ended and set the deadline to the past
	}
	if err != nil {
		_ = raw.Close()
		if l.said.Allow() {
			l.log.Warn("a reader of /metrics was refused", zap.Stringer("client", raw.RemoteAddr()), zap.Error(err))
		}
		return
	}
	_ = raw.SetDeadline(time.Time{}) // http.Server sets its own
	select {
	case l.ready <- &admitted{c, raw}:
	case <-l.ctx.Done():
		_ = raw.Close()
	}
}

// admitted also closes the connection below, which counts in limited.
type admitted struct {
	net.Conn
	raw net.Conn
}

func (c *admitted) Close() error { return errors.Join(c.Conn.Close(), ignoreClosed(c.raw.Close())) }

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Close ends the listener and every handshake in progress.
func (l *admitting) Close() error {
	l.cancel()
	err := l.Listener.Close()
	l.wg.Wait()
	return err
}
