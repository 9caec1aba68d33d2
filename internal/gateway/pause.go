package gateway

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fairqueue"
)

// A turn of limits.handshakes is held only while the gateway itself works at the
// handshake. Whoever else is waited for, the client, the destination, a responder,
// is waited for without one: so what is silent holds nobody up, however many
// flows wait for it. Each of these waits has a bound and a deadline of its own.

// endTurn gives the turn of the handshake back for good, and settles what it has
// cost; again it does nothing.
func (fl *flow) endTurn() {
	if fl.turn != nil {
		fl.turn.Cost(fl.cost())
		fl.turn.End()
	}
}

// withoutTurn runs wait, which waits for somebody other than the client, without
// the turn, and takes it again. The error is that there was none to be had.
func (fl *flow) withoutTurn(ctx context.Context, wait func()) error {
	if fl.turn == nil {
		wait()
		return nil
	}
	return WithoutTurn(fl.turn, wait, func() error { return fl.resume(ctx) })
}

// WithoutTurn runs wait, which waits for somebody other than the client, while the
// turn is paused, and then resume, which takes it again. It returns what that says.
func WithoutTurn(turn *fairqueue.Turn, wait func(), resume func() error) error {
	if !turn.Pause(fairqueue.ForOthers) {
		wait()
		return nil
	}
	wait()
	return resume()
}

// resume takes a turn that was paused; what becomes of the flow without one is
// noted in turnLost.
func (fl *flow) resume(ctx context.Context) error {
	began := time.Now()
	fl.turn.Cost(fl.cost()) // where there is none any more, it is settled by this
	err := fl.turn.Resume(ctx)
	if err == nil {
		return nil
	}
	fl.turnLost = noTurn(err, time.Since(began))
	return fl.turnLost
}

// TurnConn is a client's connection during its handshake: it holds no turn while
// it waits for the client.
type TurnConn struct {
	net.Conn
	turn   *fairqueue.Turn
	resume func() error
	off    atomic.Bool // the handshake is over
}

// NewTurnConn watches conn until Over. resume takes the turn again; its error is
// that of the Read.
func NewTurnConn(conn net.Conn, turn *fairqueue.Turn, resume func() error) *TurnConn {
	return &TurnConn{Conn: conn, turn: turn, resume: resume}
}

// Over ends the watching.
func (c *TurnConn) Over() { c.off.Store(true) }

func (c *TurnConn) Read(b []byte) (int, error) {
	if c.off.Load() || c.ready() || !c.turn.Pause(fairqueue.ForClient) {
		return c.Conn.Read(b)
	}
	n, err := c.Conn.Read(b)
	if n == 0 && err != nil {
		return n, err // there is nothing to go on with
	}
	if terr := c.resume(); terr != nil {
		return 0, terr
	}
	return n, err
}

// ready says whether Read returns at once.
func (c *TurnConn) ready() bool {
	below := bare(c.Conn)
	if below == c.Conn {
		if _, replays := c.Conn.(interface{ Replayed() (net.Conn, bool) }); replays {
			return true // of what was read already
		}
	}
	w, ok := below.(interface{ Waiting() int })
	return ok && w.Waiting() > 0
}

// CloseWrite closes the sending side of the connection below, where that can be.
func (c *TurnConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// NetConn is the connection below.
func (c *TurnConn) NetConn() net.Conn { return c.Conn }

var _ handshake.Conn = (*TurnConn)(nil)
