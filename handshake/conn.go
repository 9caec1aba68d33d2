package handshake

import (
	"crypto/tls"
	"errors"
	"net"
)

// sessionConn is step 9: a tls.Conn whose end is told exactly.
type sessionConn struct {
	*tls.Conn
	raw    *tapConn
	ledger *Ledger
}

// Read returns io.EOF only after a close_notify, ErrTruncated after a FIN
// without one, *AlertError after an alert of the peer.
func (c *sessionConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err == nil {
		return n, nil
	}
	if a, ok := remoteAlert(err); ok {
		if c.ledger.AlertReceived() != a {
			c.ledger.NoteAlert(StepApplicationData, SidePeer, a)
		}
		return n, &AlertError{Alert: a}
	}
	if isEOF(err) && c.raw.eof.Load() {
		// crypto/tls asks the connection for more only as long as it has seen
		// no close_notify, so a FIN it has met came without one.
		return n, ErrTruncated
	}
	return n, err
}

// CloseWrite sends close_notify, and FIN after it where the connection below
// can be half-closed: a peer that waits for either gets it. Reading goes on.
func (c *sessionConn) CloseWrite() error {
	err := c.Conn.CloseWrite()
	if w, ok := c.raw.Conn.(interface{ CloseWrite() error }); ok {
		err = errors.Join(err, w.CloseWrite())
	}
	return err
}

// NetConn returns the connection below TLS, as it was handed to the engine.
// Closing that one directly sends no close_notify.
func (c *sessionConn) NetConn() net.Conn { return c.raw.Conn }

var _ Conn = (*sessionConn)(nil)
