package gateway

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/fairqueue"
)

// A flow holds a turn of limits.handshakes only while the gateway itself works on the
// handshake. It waits for others (the client, the destination, a responder) without a turn.
// So a silent peer delays nobody, however many flows wait for it. Each of these waits has a
// limit and a deadline of its own.

// endTurn ends the turn of the handshake for good and settles its cost. A second call does
// nothing.
func (fl *flow) endTurn() {
	if fl.turn != nil {
		fl.turn.Cost(fl.cost())
		fl.turn.End()
	}
}

// withoutTurn pauses the turn, runs wait, which waits for somebody other than the client,
// and takes the turn again. The error says that the turn could not be taken.
func (fl *flow) withoutTurn(ctx context.Context, wait func()) error {
	if fl.turn == nil {
		wait()
		return nil
	}
	return WithoutTurn(fl.turn, wait, func() error { return fl.resume(ctx) })
}

// WithoutTurn pauses the turn, runs wait, which waits for somebody other than the client,
// and then calls resume to take the turn again. It returns the error of resume.
func WithoutTurn(turn *fairqueue.Turn, wait func(), resume func() error) error {
	if !turn.Pause(fairqueue.ForOthers) {
		wait()
		return nil
	}
	wait()
	return resume()
}

// resume takes a paused turn again. If that fails, turnLost holds the refusal of the flow.
func (fl *flow) resume(ctx context.Context) error {
	began := time.Now()
	fl.turn.Cost(fl.cost()) // settles the cost if Resume fails
	err := fl.turn.Resume(ctx)
	if err == nil {
		return nil
	}
	fl.turnLost = noTurn(err, time.Since(began))
	return fl.turnLost
}

// TurnConn is a client's connection during its handshake. It pauses the turn while it
// waits for the client.
type TurnConn struct {
	net.Conn
	turn   *fairqueue.Turn
	resume func() error
	off    atomic.Bool // the handshake is over
}

// NewTurnConn watches conn until Over. resume takes the turn again; Read returns its
// error.
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
		return n, err // no data, so the handshake cannot go on
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
		if _, replays := c.Conn.(handshake.Peeked); replays {
			return true // it still replays peeked bytes
		}
	}
	w, ok := below.(handshake.InboundQueue)
	return ok && w.Waiting() > 0
}

// CloseWrite closes the sending side of the connection below.
func (c *TurnConn) CloseWrite() error { return handshake.CloseWriteBelow(c.Conn) }

// NetConn is the connection below.
func (c *TurnConn) NetConn() net.Conn { return c.Conn }

var (
	_ handshake.Conn    = (*TurnConn)(nil)
	_ handshake.Wrapper = (*TurnConn)(nil)
)
