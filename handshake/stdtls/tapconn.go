package stdtls

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// tapConn is the connection as crypto/tls sees it. It remembers how the raw
// connection ended, which crypto/tls does not tell.
type tapConn struct {
	net.Conn
	tap      *tap
	buffers  *recordBuffers
	detached atomic.Bool
	in       *inbound // after the handshake
	out      outbound
	// eof is set once the raw connection has given io.EOF: the peer's FIN.
	// crypto/tls returns plain io.EOF for a FIN and for a close_notify.
	eof atomic.Bool
	// patient is set when crypto/tls is not to set a deadline for its close_notify.
	patient atomic.Bool
	// failed is the first error of the raw connection other than io.EOF.
	failed atomic.Pointer[error]

	// ahead is what was read and not handed on yet, a part of store; late is
	// the error that came with it. Only Read uses them, which crypto/tls never
	// calls twice at a time.
	ahead, store []byte
	late         error
}

// readAhead is how much is read at a time while the tap hands on one record
// after the other: a client's whole flight most often, so that a handshake
// costs three reads of the connection below instead of a dozen.
const readAhead = 2 << 10

// read is Read of the connection below, of which something may be here already.
func (c *tapConn) read(b []byte) (int, error) {
	if len(c.ahead) == 0 && c.late == nil {
		if c.detached.Load() {
			c.ahead, c.store = nil, nil
			return c.Conn.Read(b)
		}
		if c.store == nil {
			c.store = make([]byte, readAhead)
		}
		var n int
		n, c.late = c.Conn.Read(c.store)
		c.ahead = c.store[:n]
	}
	n := copy(b, c.ahead)
	c.ahead = c.ahead[n:]
	if len(c.ahead) > 0 {
		return n, nil
	}
	err := c.late
	c.late = nil
	return n, err
}

func (c *tapConn) Read(b []byte) (int, error) {
	if c.detached.Load() {
		n, err := c.in.read(b)
		if isNotNow(err) {
			return n, err
		}
		return c.ended(n, err)
	}
	dir := toClient
	if c.tap.server {
		dir = toServer
	}
	n, err := c.read(b[:c.tap.room(dir, len(b))])
	if n > 0 {
		c.tap.feed(dir, b[:n])
		if e := c.tap.refusal(); e != nil {
			return 0, &refusedByUs{e}
		}
	}
	return c.ended(n, err)
}

// ended remembers the end of the stream.
func (c *tapConn) ended(n int, err error) (int, error) {
	if err != nil {
		if n > 0 && errors.Is(err, io.EOF) {
			// Data first: a close_notify in it must not look like a FIN. The
			// next Read meets the same end again.
			return n, nil
		}
		c.remember(err)
	}
	return n, err
}

// SetWriteDeadline is called by crypto/tls: its close_notify has 5 s, and fails where
// the peer takes longer to make room for it (closeNotify in crypto/tls/conn.go).
func (c *tapConn) SetWriteDeadline(t time.Time) error {
	if c.patient.Load() {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

func (c *tapConn) Write(b []byte) (int, error) {
	if c.detached.Load() {
		n, err := c.out.write(c.Conn, b)
		if err != nil {
			c.remember(err)
		}
		return n, err
	}
	dir := toServer
	if c.tap.server {
		dir = toClient
	}
	now, back := c.out.sort(b)
	if now = c.tap.rewrite(dir, now, back); len(now) == 0 {
		return len(b), nil
	}
	n, err := c.Conn.Write(now)
	if n > 0 {
		c.tap.feed(dir, now[:n])
	}
	if err != nil {
		c.remember(err)
		return min(n, len(b)), err
	}
	return len(b), nil
}

// uncork sends what was gathered since out.cork.
func (c *tapConn) uncork() error {
	err := c.out.uncork(c.Conn)
	if err != nil {
		c.remember(err)
	}
	return err
}

func (c *tapConn) remember(err error) {
	if errors.Is(err, io.EOF) {
		c.eof.Store(true)
		return
	}
	c.failed.CompareAndSwap(nil, &err)
}

// rawErr returns how the raw connection failed, nil if it did not.
func (c *tapConn) rawErr() error {
	if p := c.failed.Load(); p != nil {
		return *p
	}
	if c.eof.Load() {
		return io.EOF
	}
	return nil
}

// detach ends the watching: from here records go through recordin.go and
// recordout.go. Nobody reads or writes meanwhile. What is held of a handshake
// that failed never leaves.
func (c *tapConn) detach(failed bool) tapped {
	if failed {
		c.out.dropHeld()
	} else {
		c.tap.goOn()
		if held := c.out.pending(); len(held) > 0 {
			c.tap.feed(toClient, held)
		}
	}
	seen, aligned := c.tap.finish()
	c.in = newInbound(c, c.buffers)
	c.in.off = !aligned
	c.out.pool = c.buffers
	c.detached.Store(true)
	return seen
}
