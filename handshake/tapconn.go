package handshake

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
)

// tapConn is the connection as crypto/tls sees it. It remembers how the raw
// connection ended, which crypto/tls does not tell.
type tapConn struct {
	net.Conn
	tap      *tap
	detached atomic.Bool
	// eof is set once the raw connection has given io.EOF: the peer's FIN.
	// crypto/tls returns plain io.EOF for a FIN and for a close_notify.
	eof atomic.Bool
	// failed is the first error of the raw connection other than io.EOF.
	failed atomic.Pointer[error]
}

func (c *tapConn) Read(b []byte) (int, error) {
	if c.detached.Load() {
		n, err := c.Conn.Read(b)
		return c.ended(n, err)
	}
	dir := toClient
	if c.tap.server {
		dir = toServer
	}
	n, err := c.Conn.Read(b[:c.tap.room(dir, len(b))])
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

func (c *tapConn) Write(b []byte) (int, error) {
	if c.detached.Load() {
		n, err := c.Conn.Write(b)
		if err != nil {
			c.remember(err)
		}
		return n, err
	}
	dir := toServer
	if c.tap.server {
		dir = toClient
	}
	b = c.tap.rewrite(dir, b)
	n, err := c.Conn.Write(b)
	if n > 0 {
		c.tap.feed(dir, b[:n])
	}
	if err != nil {
		c.remember(err)
	}
	return n, err
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

// detach ends the watching: from here bytes go straight through.
func (c *tapConn) detach() observed {
	c.detached.Store(true)
	return c.tap.finish()
}
