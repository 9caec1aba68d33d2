package gateway

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/turns"
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
	if fl.turn == nil || !fl.turn.Pause(turns.ForOthers) {
		wait()
		return nil
	}
	wait()
	return fl.resume(ctx)
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

// turnConn is the client's connection during its handshake: it holds no turn
// while it waits for the client.
type turnConn struct {
	handshake.Conn
	ctx context.Context
	fl  *flow
	off atomic.Bool // the handshake is over
}

// turnConn watches conn until its off is set.
func (fl *flow) turnConn(ctx context.Context, conn net.Conn) net.Conn {
	c, ok := conn.(handshake.Conn)
	if !ok {
		return conn
	}
	return &turnConn{Conn: c, ctx: ctx, fl: fl}
}

// over ends the watching.
func over(conn net.Conn) {
	if c, ok := conn.(*turnConn); ok {
		c.off.Store(true)
	}
}

func (c *turnConn) Read(b []byte) (int, error) {
	if c.off.Load() || c.ready() || !c.fl.turn.Pause(turns.ForClient) {
		return c.Conn.Read(b)
	}
	n, err := c.Conn.Read(b)
	if n == 0 && err != nil {
		return n, err // there is nothing to go on with
	}
	if terr := c.fl.resume(c.ctx); terr != nil {
		return 0, terr
	}
	return n, err
}

// ready says whether Read returns at once.
func (c *turnConn) ready() bool {
	below := bare(c.Conn)
	if below == net.Conn(c.Conn) {
		if _, replays := c.Conn.(interface{ Replayed() (net.Conn, bool) }); replays {
			return true // of what was read already
		}
	}
	w, ok := below.(interface{ Waiting() int })
	return ok && w.Waiting() > 0
}

// NetConn is the connection below.
func (c *turnConn) NetConn() net.Conn { return c.Conn }

var _ handshake.Conn = (*turnConn)(nil)
