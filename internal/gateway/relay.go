package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack"
)

// relayEnd is one side of a relay with the words for how it may end the flow.
type relayEnd struct {
	handshake.Conn
	reset                           func()
	onReset, onTrunc, onLost, onErr reason.Code
}

// relay is both sides, connected.
func (fl *flow) relay(client handshake.Conn, dest *destination) *relay {
	fl.rec.Setup = time.Since(fl.rec.Start)
	fl.ledger.Compact()
	if fl.facts.Hello != nil {
		fl.facts.Hello = fl.facts.Hello.Compact() // of the rest there is no need any more
		fl.live.compact(fl.facts.Hello)
	}
	r := &relay{
		destHeld: fl.rec.DestPeer.Held(),
		spawn:    fl.spawn, keepAlive: func() { keepAlive(dest.raw) },
		pool: fl.g.buffers, memory: fl.g.memory, over: make(chan struct{}), idle: fl.limits.Idle, stall: fl.limits.Stall, halfClosed: fl.limits.HalfClosed,
		clientProgress: progressOf(fl.client), destProgress: progressOf(dest.raw),
		client: relayEnd{client, fl.client.Reset, reason.EndClientReset, reason.EndClientTrunc, reason.EndClientLost, reason.EndClientError},
		alert:  handshake.AlertNone,
		dest:   relayEnd{dest.Conn, dest.reset, reason.EndDestinationReset, reason.EndDestinationTrunc, reason.EndDestinationLost, reason.EndDestinationError},
	}
	if code := fl.live.relaying(r); code != "" {
		r.fail(code, nil)
	}
	return r
}

// relayed takes the end of a relay over into the record.
func (fl *flow) relayed(r *relay) {
	fl.rec.BytesUp, fl.rec.BytesDown = r.up.Load(), r.down.Load()
	fl.rec.End, fl.rec.EndDetail = r.end, r.detail
	if r.alert != handshake.AlertNone {
		fl.rec.AlertReceived = r.alert
	}
}

// relay moves bytes both ways until both sides are done. A FIN (or
// close_notify) is passed on as such and the other direction goes on; a RST,
// a truncation or any other failure is passed on as a RST.
type relay struct {
	spawn        func(func()) // runs a function in another goroutine
	keepAlive    func()       // of the destination; nil where there is none
	pool         *bufferPool
	memory       Memory
	over         chan struct{} // closed by the first fail
	idle         time.Duration
	stall        time.Duration
	halfClosed   time.Duration
	client, dest relayEnd
	ctx          context.Context // of the run
	up, down     atomic.Int64
	lent         atomic.Int64 // bytes of buffers that it has now
	destHeld     int          // bytes of the destination's certificates
	began        time.Time    // by the monotonic clock: a wall clock that is set ends no flow
	last         atomic.Int64 // nanoseconds from began to the last byte either way
	half         atomic.Bool  // one side has sent all it had

	clientProgress, destProgress func() (stack.Progress, bool) // watch.go; nil: nobody knows

	mu     sync.Mutex
	end    reason.Code // the first cause
	detail string
	alert  handshake.Alert
}

func (r *relay) run(ctx context.Context) {
	r.began = time.Now()
	r.ctx = ctx
	stop := context.AfterFunc(ctx, func() { r.fail(reason.EndDrain, nil) })
	defer stop()
	watch := newRelayWatch(r, time.Now())
	defer watch.stop()

	done := make(chan struct{})
	r.spawn(func() {
		defer close(done)
		r.copy(&r.dest, &r.client, &r.up)
	})
	r.copy(&r.client, &r.dest, &r.down)
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end == "" {
		r.end = reason.EndClean
	}
	// Both directions are closed and nothing is left to fail, or they were
	// reset, and buffers are still to be given back.
	_ = r.client.Close()
	_ = r.dest.Close()
}

// ended says whether the relay has failed.
func (r *relay) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end != ""
}

// failEnd ends the flow because of an error on one side.
func (r *relay) failEnd(e *relayEnd, err error) {
	switch {
	case r.ctx.Err() != nil:
		// The stack goes at the same time, and what it does to the connection
		// may be seen here first.
		r.fail(reason.EndDrain, nil)
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
		close(r.over)
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
