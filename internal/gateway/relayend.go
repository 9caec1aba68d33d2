package gateway

import (
	"errors"
	"io"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// How a side may end, and what the other is told. All bytes that came before the
// end are delivered first: the other side's TCP has acknowledged them. A side that
// makes no room for a close_notify is waited for as with data: limits.stall.
//
//	the side's end                    the other side, TLS     the other side, plain
//	close_notify, or FIN if plain     close_notify, FIN       FIN
//	FIN between two records           FIN                     RST, see bareGrace
//	FIN inside a record               FIN                     RST
//	RST, an alert, a broken record    RST                     RST
//
// A FIN without close_notify may have been put there by somebody on the way (RFC
// 8446, section 6.1). A TLS peer sees that itself. A plain one would take a FIN for
// the whole; so it gets a RST. After the first two rows the other direction goes
// on, also for TLS 1.2, which has no half-closed connections (RFC 5246, section
// 7.2.1): programs use them all the same.

// bareGrace is how long nothing may move, after a FIN without close_notify, until
// a plain side is told of it: whoever sent it may still wait for the answer. Who
// thinks longer before the answer, or within it, is told by a RST.
const bareGrace = time.Second

// sideState is how far a side has come with its end. All but done is guarded by
// the relay's lock.
type sideState struct {
	done    chan struct{} // closed when its reader has returned
	unread  bool          // nothing more is read of it
	closed  bool          // it has sent all it had
	orderly bool          // and said so: with close_notify, or FIN where it is plain
	told    bool          // it got our FIN
	met     error         // how a write to it failed
}

// bareCloser is a side with TLS.
type bareCloser interface{ CloseWriteBare() error }

func (e *relayEnd) tls() bool {
	_, ok := e.Conn.(bareCloser)
	return ok
}

func (r *relay) other(e *relayEnd) *relayEnd {
	if e == &r.client {
		return &r.dest
	}
	return &r.client
}

// to is the direction towards a side.
func (r *relay) to(e *relayEnd) *delivery {
	if e == &r.client {
		return &r.down
	}
	return &r.up
}

func (r *relay) isOver() bool {
	select {
	case <-r.over:
		return true
	default:
		return false
	}
}

// stopped is asked when a read or write has failed: whether that is only because
// the flow has ended already.
func (r *relay) stopped() bool {
	if r.ctx.Err() != nil {
		// The stack goes at the same time, and what it does to the connection
		// may be seen here first.
		r.fail(reason.EndDrain)
		return true
	}
	return r.isOver()
}

// unwritable is told that a write to a side has failed, and says whether to go on
// with the other side. Where it is gone, that is for its own reader to say: it has
// what the side sent before.
func (r *relay) unwritable(e *relayEnd, err error) (goOn bool) {
	switch {
	case r.stopped():
		return false
	case !isReset(err) && !isLost(err):
		r.abrupt(e, e.onErr, err)
		return false
	}
	r.mu.Lock()
	e.met = err
	unread := e.unread
	r.mu.Unlock()
	if unread {
		r.gone(e, err)
	}
	return !unread
}

// readEnded is told how the reading of src has ended.
func (r *relay) readEnded(dst, src *relayEnd, err error) {
	r.mu.Lock()
	src.unread = true
	met := src.met
	switch {
	case errors.Is(err, io.EOF):
		src.closed, src.orderly = true, true
	case errors.Is(err, handshake.ErrNoCloseNotify), errors.Is(err, handshake.ErrTruncated):
		src.closed = true
	}
	r.half.Store(r.half.Load() || src.closed)
	r.mu.Unlock()
	switch {
	case r.stopped():
	case errors.Is(err, io.EOF):
		r.tell(dst, dst.CloseWrite)
		if met != nil {
			r.gone(src, met)
		}
	case errors.Is(err, handshake.ErrNoCloseNotify):
		r.bareEnd(dst, src)
	case errors.Is(err, handshake.ErrTruncated):
		r.truncated(dst, src)
	case isReset(err), isLost(err):
		if met != nil {
			err = met // the first, where the kernel tells it only once
		}
		r.gone(src, err)
	default:
		r.violated(src, err)
	}
}

// tell sends our FIN to a side.
func (r *relay) tell(e *relayEnd, closeWrite func() error) {
	r.mu.Lock()
	e.told = true
	r.mu.Unlock()
	// A side that has closed altogether cannot be half-closed any more. If that
	// was a RST, its own reader says so, or settle.
	if err := closeWrite(); err != nil && !isReset(err) && !r.stopped() {
		r.abrupt(e, e.onErr, err)
	}
}

// bareEnd is told of a FIN between two records.
func (r *relay) bareEnd(dst, src *relayEnd) {
	r.mu.Lock()
	if r.bare == nil && !dst.orderly {
		r.bare = src
	}
	r.mu.Unlock()
	if to, ok := dst.Conn.(bareCloser); ok {
		r.tell(dst, to.CloseWriteBare)
		return
	}
	r.awaitQuiet(dst, src)
	r.abrupt(src, "", nil)
}

// awaitQuiet returns when all is read of dst, or nothing has moved for bareGrace
// since src has ended, and src has taken all it was sent. That it takes it the
// relay does not see: a write waits until there is much room. Who takes nothing
// is ended by limits.stall.
func (r *relay) awaitQuiet(dst, src *relayEnd) {
	quiet := time.Since(r.began) // since when, at the earliest
	for {
		now := time.Since(r.began)
		quiet = max(quiet, r.quietSince(now))
		if now-quiet >= bareGrace {
			if yes, gone := r.to(src).arrived(true); yes || gone {
				return
			}
			quiet = now
		}
		timer := time.NewTimer(bareGrace - (now - quiet))
		select {
		case <-timer.C:
			continue
		case <-dst.done:
		case <-r.over:
		}
		timer.Stop()
		return
	}
}

// truncated is told of a FIN inside a record.
func (r *relay) truncated(dst, src *relayEnd) {
	r.mu.Lock()
	code := src.onTrunc
	if dst.orderly {
		code = ""
		r.asideLocked(src.name + " closed inside a record")
	}
	if r.end == "" {
		r.end = code
	}
	r.mu.Unlock()
	if to, ok := dst.Conn.(bareCloser); ok {
		r.tell(dst, to.CloseWriteBare)
		return
	}
	r.abrupt(src, code, nil)
}

// gone is told that a side has reset the connection, or no longer answers.
func (r *relay) gone(e *relayEnd, err error) {
	code := e.onReset
	switch {
	case isLost(err):
		code = e.onLost
	case r.expected(e):
		code = ""
		r.mu.Lock()
		r.asideLocked(e.name + " reset the connection")
		r.mu.Unlock()
	}
	r.abrupt(e, code, nil)
}

// expected says whether a RST of a side is a common way to go after an end that
// was told before: it has all that was sent to it, or wanted no more.
func (r *relay) expected(e *relayEnd) bool {
	arrived, _ := r.to(e).arrived(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.closed && e.tls() || arrived && (e.closed || r.other(e).closed)
}

// violated is told of a side that broke the protocol, or said so of ours.
func (r *relay) violated(e *relayEnd, err error) {
	var alert *handshake.AlertError
	r.mu.Lock()
	after := r.other(e).orderly && errors.As(err, &alert)
	if after {
		r.asideLocked(e.name + ": " + err.Error())
		r.alertLocked(err)
	}
	r.mu.Unlock()
	if after {
		r.abrupt(e, "", nil)
		return
	}
	r.abrupt(e, e.onErr, err)
}

// asideLocked notes what happened after the end, or beside it, for the detail of
// the record.
func (r *relay) asideLocked(what string) {
	if r.aside == "" {
		r.aside = "afterwards " + what
	}
}

// abrupt ends the flow by a RST, once what waits for the other side of e has
// arrived there. With code "" the end is what it is without that.
func (r *relay) abrupt(e *relayEnd, code reason.Code, err error) {
	r.mu.Lock()
	r.causeLocked(code, err)
	if r.broken == nil {
		r.broken = e
	}
	r.mu.Unlock()
	// The reader of e may still write what it has of it.
	past := time.Unix(1, 0)
	_ = e.SetReadDeadline(past) // those of a closed connection need none
	_ = e.SetWriteDeadline(past)
	_ = r.other(e).SetReadDeadline(past)
}

// settle waits until what was sent has arrived, and closes both sides. Nothing is
// read any more.
func (r *relay) settle() {
	r.settling.Store(true)
	began := time.Now()
	r.mu.Lock()
	first := r.broken
	r.mu.Unlock()
	if first == nil {
		first = &r.client
	} else {
		first = r.other(first) // the end is told to the side that has not made it
	}
	for _, e := range []*relayEnd{first, r.other(first)} {
		r.await(e, began)
		if r.ended() {
			break
		}
		r.to(e).freeze()
		if !e.told {
			e.reset()
		}
	}
	r.up.freeze()
	r.down.freeze()
	// Also after a reset: there are buffers to be given back.
	_ = r.client.Close()
	_ = r.dest.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.end != "" {
		return
	}
	switch r.end, r.detail = reason.EndClean, r.aside; {
	case r.bare != nil:
		r.end, r.detail = reason.EndNoNotify, r.bare.name
		if r.aside != "" {
			r.detail += ", " + r.aside
		}
	}
}

// await returns when a side has all that was sent to it, or takes no more of it.
// The flow is settling since began.
func (r *relay) await(e *relayEnd, began time.Time) {
	t := r.to(e)
	for wait := time.Millisecond; ; wait = settleWait(wait, time.Since(began)) {
		yes, gone := t.arrived(!e.told)
		switch {
		case yes:
			return
		case gone:
			if !r.expected(e) {
				r.mu.Lock()
				r.causeLocked(e.onReset, nil)
				r.mu.Unlock()
			}
			return
		case time.Since(began) >= settleStalls*r.stall:
			r.fail(e.onStall)
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-r.dead:
			timer.Stop()
			return
		}
	}
}

const (
	// settleStalls bounds how long a flow whose sides have both ended waits until
	// what was sent has arrived, in limits.stall: who takes just enough that he does
	// not stall would hold 4 MiB for hours.
	settleStalls = 10
	// settlePoll and settlePollMax are how long an end waits for its next look at
	// most, at first and after a while: TCP tells nobody that something was
	// acknowledged, and many flows may wait for those who take nothing.
	settlePoll    = 50 * time.Millisecond
	settlePollMax = time.Second
)

// settleWait is the wait before the next look, by the last one and how long it has
// been: one sixteenth of that, so that an end is noticed little later than it is.
func settleWait(last, elapsed time.Duration) time.Duration {
	return min(2*last, max(settlePoll, elapsed/16), settlePollMax)
}
