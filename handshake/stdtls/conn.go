package stdtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// sessionConn is step 9: a tls.Conn whose end is told exactly.
type sessionConn struct {
	*tls.Conn
	raw     *tapConn
	ledger  *handshake.Ledger
	readMu  sync.Mutex
	failed  error // how the reading ended, for every later Read
	full    bool  // the last Read filled its buffer: crypto/tls may hold more
	peeked  bool  // peek holds a byte for the next Read
	peek    [1]byte
	writeMu sync.Mutex // from cork to uncork nothing else ends the sending
}

// Read returns io.EOF only after a close_notify, ErrNoCloseNotify or
// ErrTruncated after a FIN without one, *AlertError after an alert of the peer.
// It waits for one record, and takes as many more as are there already and have
// room in b.
func (c *sessionConn) Read(b []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if len(b) == 0 {
		return 0, nil
	}
	if c.failed != nil && !c.peeked {
		return 0, c.failed
	}
	in := c.raw.in
	defer func() { in.now = false }()
	var n int
	if c.peeked {
		c.peeked, n, in.now = false, copy(b, c.peek[:]), true
		if n == len(b) || c.failed != nil {
			c.full = n == len(b)
			return n, nil
		}
	}
	most := in.records + handshake.RecordsAtOnce
	k, err := c.Conn.Read(b[n:])
	n += k
	c.full = n == len(b)
	switch {
	case err != nil && !in.now:
		return n, c.told(err)
	case err != nil: // behind the byte
		_ = c.told(err)
		return n, nil
	}
	in.now = true
	for n > 0 && n < len(b) && in.records < most && in.whole() {
		k, err := c.Conn.Read(b[n:])
		n += k
		if err != nil {
			_ = c.told(err) // the next Read returns it; notNow: the record held no data
			break
		}
	}
	c.full = n == len(b)
	return n, nil
}

// Received says how many records have come, and how many KeyUpdates were answered.
func (c *sessionConn) Received() (records, answers int) {
	return c.raw.in.records, int(c.raw.out.answers.Load())
}

// WaitRead waits until Read will return something: part of a record that it has
// left, the next one (see inbound.await), an end or an error. It is for callers
// that hold no buffer meanwhile.
func (c *sessionConn) WaitRead() {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.failed != nil || c.peeked {
		return
	}
	if c.full && c.raw.in.off {
		return // nothing could keep it from waiting
	}
	if c.full {
		// Only crypto/tls knows whether it has a rest.
		c.full = false
		in := c.raw.in
		in.now = true
		n, err := c.Conn.Read(c.peek[:])
		in.now = false
		if c.peeked = n > 0; c.peeked || err != nil && !isNotNow(err) {
			if err != nil {
				_ = c.told(err)
			}
			return
		}
	}
	c.raw.in.await()
}

// told is how a Read of crypto/tls ended, in our words. It is kept unless the
// reading can go on.
func (c *sessionConn) told(err error) error {
	var timeout net.Error
	if isNotNow(err) || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	c.failed = c.word(err)
	return c.failed
}

func (c *sessionConn) word(err error) error {
	if a, ok := remoteAlert(err); ok {
		if c.ledger.AlertReceived() != a {
			c.ledger.NoteAlert(handshake.StepApplicationData, handshake.SidePeer, a)
		}
		return &handshake.AlertError{Alert: a}
	}
	if handshake.IsEOF(err) && c.raw.eof.Load() {
		// crypto/tls asks the connection for more only as long as it has seen
		// no close_notify, so a FIN it has met came without one.
		if c.raw.in.between() {
			return handshake.ErrNoCloseNotify
		}
		return handshake.ErrTruncated
	}
	if a := alertBehind(err); a != handshake.AlertNone && !c.raw.out.over() {
		c.ledger.NoteAlert(handshake.StepApplicationData, handshake.SideUs, a)
	}
	if isRenegotiation(err) {
		return fmt.Errorf("%w: %w", handshake.ErrRenegotiation, err)
	}
	return err
}

// errEnded is what a write gets behind our FIN.
var errEnded = errors.New("handshake: written after the end")

// Write sends more than one record's worth in pieces of many records.
func (c *sessionConn) Write(b []byte) (int, error) {
	if c.raw.out.over() {
		return 0, errEnded
	}
	if len(b) <= handshake.MaxPlaintext {
		if len(b) == handshake.MessageHeader+1 {
			c.raw.out.answers.Add(-1) // its record is as long as an answer, and is none
		}
		return c.Conn.Write(b)
	}
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.raw.out.cork()
	n, err := c.Conn.Write(b)
	if ferr := c.raw.uncork(); err == nil && ferr != nil {
		return 0, ferr
	}
	return n, err
}

// CloseWrite sends close_notify, and FIN after it where the connection below
// can be half-closed: a peer that waits for either gets it. Reading goes on. It
// waits while the peer takes nothing of what was written before, as Write does, until
// a deadline for writing or the end of the connection below.
func (c *sessionConn) CloseWrite() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.raw.patient.Store(true)
	return handshake.EndBelow(c.raw.Conn, func() error {
		err := c.Conn.CloseWrite()
		c.raw.out.end()
		return err
	})
}

// SetWriteDeadline sets the deadline of Write and CloseWrite.
func (c *sessionConn) SetWriteDeadline(t time.Time) error { return c.raw.Conn.SetWriteDeadline(t) }

// SetDeadline sets all deadlines.
func (c *sessionConn) SetDeadline(t time.Time) error { return c.raw.Conn.SetDeadline(t) }

// CloseWriteBare sends a FIN without close_notify: the peer learns that nothing
// more comes, and not that this was all. Reading goes on. It fails where the
// connection below cannot be half-closed.
func (c *sessionConn) CloseWriteBare() error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	c.raw.out.end()
	return handshake.CloseWriteBelow(c.raw.Conn)
}

// Close sends close_notify and closes the connection below. It also gives back
// what was read ahead, so it is due after a reset too.
func (c *sessionConn) Close() error {
	err := c.Conn.Close()
	c.readMu.Lock() // a Read under way has ended with the connection
	defer c.readMu.Unlock()
	c.raw.in.release()
	return err
}

// NetConn returns the connection below TLS, as it was handed to the engine.
// Closing that one directly sends no close_notify.
func (c *sessionConn) NetConn() net.Conn { return c.raw.Conn }

var (
	_ handshake.Conn       = (*sessionConn)(nil)
	_ handshake.BareCloser = (*sessionConn)(nil)
	_ handshake.ReadWaiter = (*sessionConn)(nil)
	_ handshake.Wrapper    = (*sessionConn)(nil)

	_ handshake.RecordCounter = (*sessionConn)(nil)
)
