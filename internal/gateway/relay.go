package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/passing"
	"github.com/sslgate/sslgate/internal/peerlimit"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack"
)

// relayEnd is one side of a relay, with the reason codes for how that side may end the flow.
type relayEnd struct {
	handshake.Conn
	reset                                             func()
	onReset, onTrunc, onLost, onErr, onStall, onAgain reason.Code
	name                                              string // in the detail of a record

	sideState
}

// relay connects both sides and frees what only the handshakes needed.
func (fl *flow) relay(client handshake.Conn, dest *destination) *relay {
	fl.out.setup = time.Since(fl.start)
	fl.session = nil
	fl.ledger.Compact()
	if fl.facts.Hello != nil {
		fl.facts.Hello = fl.facts.Hello.Compact() // the rest of the hello is not needed any more
		fl.live.compact(fl.facts.Hello)
	}
	r := &relay{
		destHeld: fl.out.dest.peer.Held(), passing: fl.passing,
		spawn: fl.spawn, keepAlive: func() { keepAlive(dest.raw) },
		hold: fl.hold, pool: fl.g.buffers, memory: fl.g.memory, over: make(chan struct{}), dead: make(chan struct{}),
		idle: fl.limits.Idle, stall: fl.limits.Stall, halfClosed: fl.limits.HalfClosed,
		clientProgress: progressOf(fl.client), destProgress: progressOf(dest.raw),
		client: relayEnd{Conn: client, reset: fl.client.Reset, name: "the client", onReset: reason.EndClientReset, onTrunc: reason.EndClientTrunc, onLost: reason.EndClientLost, onErr: reason.EndClientError, onStall: reason.EndClientStalled, onAgain: reason.EndClientRenegotiation},
		alert:  handshake.AlertNone,
		dest:   relayEnd{Conn: dest.Conn, reset: dest.reset, name: "the destination", onReset: reason.EndDestinationReset, onTrunc: reason.EndDestinationTrunc, onLost: reason.EndDestinationLost, onErr: reason.EndDestinationError, onStall: reason.EndDestinationStalled, onAgain: reason.EndDestinationRenegotiation},
	}
	r.toll = newToll(fl.g.turns, fl.facts.Src.Addr(), client)
	r.client.done, r.dest.done = make(chan struct{}), make(chan struct{})
	to, _ := fl.client.(receiver)
	r.down.aim(to, !r.client.tls())
	r.up.aim(dest.sock, !r.dest.tls())
	if code := fl.live.relaying(r); code != "" {
		r.fail(code)
	}
	return r
}

// relay moves bytes both ways until both sides are done. relayend.go says how the end of
// each side is passed on.
type relay struct {
	spawn        func(func()) // runs a function in another goroutine
	keepAlive    func()       // of the destination; nil where there is none
	pool         *bufferPool
	memory       Memory
	over         chan struct{} // closed when nothing more is to be read
	dead         chan struct{} // closed by fail: both sides were reset
	idle         time.Duration
	stall        time.Duration
	halfClosed   time.Duration
	client, dest relayEnd
	hold         *peerlimit.Hold // of the client's identity; nil where it has none
	toll         *toll           // nil where the client's side is not terminated
	opening      *opening        // nil unless the client must not speak TLS
	passing      *passing.Reader // nil unless the flow is bypassed
	ctx          context.Context // of the run
	up, down     delivery        // to the destination, to the client
	lent         atomic.Int64    // bytes of buffers it holds now
	destHeld     int             // bytes of the destination's certificates
	began        time.Time       // monotonic, so that a change of the wall clock ends no flow
	last         atomic.Int64    // nanoseconds from began to the last byte either way
	waits        atomic.Int32    // readers that wait for memory
	half         atomic.Bool     // one side has sent all it had
	settling     atomic.Bool     // both sides have

	clientProgress, destProgress func() (stack.Progress, bool) // watch.go; nil: nobody knows

	mu     sync.Mutex
	end    reason.Code // the first cause; "" while an orderly end is possible
	detail string
	alert  handshake.Alert
	aside  string    // detail of an end that is no alarm
	bare   *relayEnd // the side that sent a FIN without close_notify, between two records
	broken *relayEnd // the side that has ended the flow other than in order
	failed bool
}

func (r *relay) run(ctx context.Context) {
	r.began = time.Now()
	r.ctx = ctx
	stop := context.AfterFunc(ctx, func() { r.fail(reason.EndDrain) })
	defer stop()
	watch := newRelayWatch(r, time.Now())
	defer watch.stop()

	r.spawn(func() { r.copy(&r.dest, &r.client, &r.up) })
	r.copy(&r.client, &r.dest, &r.down)
	<-r.client.done
	r.settle()
}

// ended says whether the relay has failed; it then frees what it holds.
func (r *relay) ended() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failed
}

// fail ends the flow at once. Both sides get a RST, and what they have not taken is lost.
// Only the first cause is kept.
func (r *relay) fail(code reason.Code) {
	r.up.freeze()
	r.down.freeze()
	r.mu.Lock()
	r.causeLocked(code, nil)
	first := !r.failed
	r.failed = true
	r.mu.Unlock()
	r.client.reset()
	r.dest.reset()
	if first {
		close(r.dead)
	}
}

// causeLocked stores why the flow ends, unless a cause is stored already, and closes over,
// so that nothing more is read.
func (r *relay) causeLocked(code reason.Code, err error) {
	select {
	case <-r.over:
	default:
		close(r.over)
	}
	if r.end != "" || code == "" {
		return
	}
	r.end = code
	if err != nil {
		r.detail = err.Error()
	}
	r.alertLocked(err)
}

// alertLocked stores the alert that a side has sent instead of an orderly end.
func (r *relay) alertLocked(err error) {
	var ae *handshake.AlertError
	if errors.As(err, &ae) && r.alert == handshake.AlertNone {
		r.alert = ae.Alert
	}
}
