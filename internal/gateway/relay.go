package gateway

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// relayEnd is one side of a relay with the words for how it may end the flow.
type relayEnd struct {
	handshake.Conn
	reset                           func()
	onReset, onTrunc, onLost, onErr reason.Code
}

// relay moves bytes both ways until both sides are done. A FIN (or
// close_notify) is passed on as such and the other direction goes on; a RST,
// a truncation or any other failure is passed on as a RST.
func (fl *flow) relay(ctx context.Context, client handshake.Conn, dest *destination) {
	fl.rec.Setup = time.Since(fl.rec.Start)
	r := &relay{
		pool: fl.g.buffers, idle: fl.limits.Idle,
		client: relayEnd{client, fl.client.Reset, reason.EndClientReset, reason.EndClientTrunc, reason.EndClientLost, reason.EndClientError},
		alert:  handshake.AlertNone,
		dest:   relayEnd{dest.Conn, dest.reset, reason.EndDestinationReset, reason.EndDestinationTrunc, reason.EndDestinationLost, reason.EndDestinationError},
	}
	if code := fl.live.relaying(r); code != "" {
		r.fail(code, nil)
	}
	r.run(ctx)
	fl.rec.BytesUp, fl.rec.BytesDown = r.up.Load(), r.down.Load()
	fl.rec.End, fl.rec.EndDetail = r.end, r.detail
	if r.alert != handshake.AlertNone {
		fl.rec.AlertReceived = r.alert
	}
}

type relay struct {
	pool         *bufferPool
	idle         time.Duration
	client, dest relayEnd
	up, down     atomic.Int64
	last         atomic.Int64 // UnixNano of the last byte either way

	mu     sync.Mutex
	end    reason.Code // the first cause
	detail string
	alert  handshake.Alert
}

func (r *relay) run(ctx context.Context) {
	r.last.Store(time.Now().UnixNano())
	stop := context.AfterFunc(ctx, func() { r.fail(reason.EndDrain, nil) })
	defer stop()
	watch := newIdleWatch(r)
	defer watch.stop()

	done := make(chan struct{})
	go func() {
		defer close(done)
		r.copy(&r.dest, &r.client, &r.up)
	}()
	r.copy(&r.client, &r.dest, &r.down)
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == "" {
		r.end = reason.EndClean
		_ = r.client.Close() // both directions are closed; nothing is left to fail
		_ = r.dest.Close()
	}
}

// copy moves one direction until its end.
func (r *relay) copy(dst, src *relayEnd, n *atomic.Int64) {
	buf := r.pool.get(bufferSmall)
	defer func() { r.pool.put(buf) }()
	for {
		k, err := src.Read(*buf)
		if k > 0 {
			r.last.Store(time.Now().UnixNano())
			if _, werr := dst.Write((*buf)[:k]); werr != nil {
				r.failEnd(dst, werr)
				return
			}
			n.Add(int64(k))
			buf = r.pool.fit(buf, k)
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			// A side that has closed altogether cannot be half-closed any more.
			// If that was a RST, its own reader says so.
			if cerr := dst.CloseWrite(); cerr != nil && !isReset(cerr) {
				r.failEnd(dst, cerr)
			}
			return
		default:
			r.failEnd(src, err)
			return
		}
	}
}

// failEnd ends the flow because of an error on one side.
func (r *relay) failEnd(e *relayEnd, err error) {
	switch {
	case errors.Is(err, handshake.ErrTruncated):
		r.fail(e.onTrunc, nil)
	case isReset(err):
		r.fail(e.onReset, nil)
	case isLost(err):
		r.fail(e.onLost, nil)
	default:
		r.fail(e.onErr, err)
	}
}

// fail ends the flow: the first cause is kept and both sides get a RST.
func (r *relay) fail(code reason.Code, err error) {
	r.mu.Lock()
	if r.end == "" {
		r.end = code
		if err != nil {
			r.detail = err.Error()
		}
		var ae *handshake.AlertError
		if errors.As(err, &ae) {
			r.alert = ae.Alert
		}
	}
	r.mu.Unlock()
	r.client.reset()
	r.dest.reset()
}

// idleWatch ends a relay that nothing went through for its idle time.
type idleWatch struct {
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
}

func newIdleWatch(r *relay) *idleWatch {
	w := &idleWatch{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(r.idle, func() {
		left := r.idle - time.Since(time.Unix(0, r.last.Load()))
		if left <= 0 {
			r.fail(reason.EndIdle, nil)
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.stopped {
			w.timer.Reset(left)
		}
	})
	return w
}

func (w *idleWatch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
}

const (
	// bufferSmall is what a direction holds while it is idle, in bytes: 10,000
	// idle flows hold 80 MiB of them. bufferLarge is what it takes once it is
	// busy: more than a TLS record (16 KiB) and one GSO packet.
	bufferSmall = 4 << 10
	bufferLarge = 64 << 10
)

// bufferPool lends the two sizes of relay buffer.
type bufferPool struct{ small, large sync.Pool }

func newBufferPool() *bufferPool {
	p := &bufferPool{}
	p.small.New = func() any { b := make([]byte, bufferSmall); return &b }
	p.large.New = func() any { b := make([]byte, bufferLarge); return &b }
	return p
}

func (p *bufferPool) get(size int) *[]byte {
	if size == bufferLarge {
		return p.large.Get().(*[]byte)
	}
	return p.small.Get().(*[]byte)
}

func (p *bufferPool) put(b *[]byte) {
	if len(*b) == bufferLarge {
		p.large.Put(b)
		return
	}
	p.small.Put(b)
}

// fit changes the size after a read of k bytes: full means busy, a few bytes
// means idle.
func (p *bufferPool) fit(b *[]byte, k int) *[]byte {
	want := len(*b)
	switch {
	case k == len(*b):
		want = bufferLarge
	case k <= bufferSmall/4:
		want = bufferSmall
	}
	if want == len(*b) {
		return b
	}
	p.put(b)
	return p.get(want)
}
