package gateway

import (
	"errors"
	"io"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/reason"
)

// How a side may end, and what the other side is told. All bytes from before the end are
// delivered first: the other side's TCP has acknowledged them. A side that makes no room
// for a close_notify is waited for as with data: limits.stall.
//
//	the side's end                    the other side, TLS     the other side, plain
//	close_notify, or FIN if plain     close_notify, FIN       FIN
//	FIN between two records           FIN                     RST, see bareGrace
//	FIN inside a record               FIN                     RST
//	RST, an alert, a broken record    RST                     RST
//
// A FIN without close_notify may come from an attacker on the path (RFC 8446, section 6.1).
// A TLS peer can see that itself. A plain peer would take a FIN for the complete end, so it
// gets a RST. After the first two rows the other direction goes on. That is so for TLS 1.2
// too, which has no half-closed connections (RFC 5246, section 7.2.1), because programs use
// them all the same.

// bareGrace is how long nothing may move after a FIN without close_notify until the plain
// side gets its RST: the sender of the FIN may still wait for the answer. A plain side that
// pauses for longer, before or within the answer, gets the RST.
const bareGrace = time.Second

// sideState is how far a side has come with its end. All fields but done are guarded by the
// relay's lock.
type sideState struct {
	done    chan struct{} // closed when its reader has returned
	unread  bool          // nothing more is read of it
	closed  bool          // it has sent all it had
	orderly bool          // and said so: with close_notify, or FIN where it is plain
	told    bool          // it got our FIN
	met     error         // how a write to it failed
}

func (e *relayEnd) tls() bool {
	_, ok := e.Conn.(handshake.BareCloser)
	return ok
}

func (r *relay) other(e *relayEnd) *relayEnd {
	if e == &r.client {
		return &r.dest
	}
	return &r.client
}

// to returns the direction towards a side.
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

// stopped is called when a read or write has failed. It says whether that is only because
// the flow has ended already.
func (r *relay) stopped() bool {
	if r.ctx.Err() != nil {
		// The stack is closed at the same time. What it does to the connection may be seen
		// here first.
		r.fail(reason.EndDrain)
		return true
	}
	return r.isOver()
}

// unwritable handles a failed write to a side, and says whether to go on with the other
// side. If the side is gone, its own reader reports that, because it still has to read what
// the side sent before.
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

// readEnded handles the end of the reading of src.
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

// tell passes an end on to a side with closeWrite: our FIN.
func (r *relay) tell(e *relayEnd, closeWrite func() error) {
	r.mu.Lock()
	e.told = true
	r.mu.Unlock()
	// A side that has closed altogether cannot be half-closed any more. If that was a RST,
	// its own reader or settle reports it.
	if err := closeWrite(); err != nil && !isReset(err) && !r.stopped() {
		r.abrupt(e, e.onErr, err)
	}
}

// bareEnd handles a FIN between two records.
func (r *relay) bareEnd(dst, src *relayEnd) {
	r.mu.Lock()
	if r.bare == nil && !dst.orderly {
		r.bare = src
	}
	r.mu.Unlock()
	if to, ok := dst.Conn.(handshake.BareCloser); ok {
		r.tell(dst, to.CloseWriteBare)
		return
	}
	r.awaitQuiet(dst, src)
	r.abrupt(src, "", nil)
}

// awaitQuiet returns when all is read of dst, or when nothing has moved for bareGrace since
// src ended and src has taken all that was sent to it. The second check asks TCP: the relay
// itself does not see how src takes data, as a write waits until there is much room. If
// src takes nothing, limits.stall ends the flow.
func (r *relay) awaitQuiet(dst, src *relayEnd) {
	quiet := time.Since(r.began) // the start of the quiet time, at the earliest
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

// truncated handles a FIN inside a record.
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
	if to, ok := dst.Conn.(handshake.BareCloser); ok {
		r.tell(dst, to.CloseWriteBare)
		return
	}
	r.abrupt(src, code, nil)
}

// gone handles a side that has reset the connection, or no longer answers.
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

// expected says whether a RST of a side is a common way to leave after an orderly end: the
// side has all that was sent to it, or it wanted no more.
func (r *relay) expected(e *relayEnd) bool {
	arrived, _ := r.to(e).arrived(false)
	r.mu.Lock()
	defer r.mu.Unlock()
	return e.closed && e.tls() || arrived && (e.closed || r.other(e).closed)
}

// violated handles a side that broke the protocol, or that sent an alert.
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
	code := e.onErr
	if errors.Is(err, handshake.ErrRenegotiation) {
		code = e.onAgain
	}
	r.abrupt(e, code, err)
}

// asideLocked keeps, for the detail of the record, what happened after or beside the end.
func (r *relay) asideLocked(what string) {
	if r.aside == "" {
		r.aside = "afterwards " + what
	}
}

// abrupt ends the flow by a RST, once the other side of e has all that waits for it. With
// code "" the cause of the end stays as it is.
func (r *relay) abrupt(e *relayEnd, code reason.Code, err error) {
	r.mu.Lock()
	r.causeLocked(code, err)
	if r.broken == nil {
		r.broken = e
	}
	r.mu.Unlock()
	// The reader of e may still have to write what it has read.
	past := time.Unix(1, 0)
	_ = e.SetReadDeadline(past) // fails only on a closed connection
	_ = e.SetWriteDeadline(past)
	_ = r.other(e).SetReadDeadline(past)
}

// settle waits until what was sent has arrived, and closes both sides. Nothing is read any
// more.
func (r *relay) settle() {
	r.settling.Store(true)
	began := time.Now()
	r.mu.Lock()
	first := r.broken
	r.mu.Unlock()
	if first == nil {
		first = &r.client
	} else {
		first = r.other(first) // first the side that did not break the flow: it must be told of the end
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
	// Close even after a reset: that gives buffers back.
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

// await returns when a side has acknowledged all that was sent to it, or takes no more.
// began is when the flow began to settle.
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
	// settleStalls bounds how long a flow whose sides have both ended waits until what was
	// sent has arrived, as a multiple of limits.stall. Otherwise a peer that takes just
	// enough not to stall could hold 4 MiB for hours.
	settleStalls = 10
	// settlePoll and settlePollMax are the longest waits between two looks at an end, at
	// first and after a while. Polling is needed because TCP reports no acknowledgement;
	// the wait grows because many flows may wait for peers that take nothing.
	settlePoll    = 50 * time.Millisecond
	settlePollMax = time.Second
)

// settleWait returns the wait before the next look, from the last wait and the time since
// the start. It is a sixteenth of that time, so that an end is noticed only little late.
func settleWait(last, elapsed time.Duration) time.Duration {
	return min(2*last, max(settlePoll, elapsed/16), settlePollMax)
}
