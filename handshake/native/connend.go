package native

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/record"
	"github.com/sslgate/sslgate/handshake/native/wire"
)

// This file is how a connection ends for a reason of the peer's: what its reader is told,
// and the alert for a breach of the protocol.

// told is how the reading ended, in the words of package handshake. It is kept unless
// the reading can go on. A breach of the protocol is answered with its alert.
func (c *conn) told(err error) error {
	if handshake.IsTimeout(err) {
		return err
	}
	c.failed = err
	var received *alertReceived
	switch {
	case errors.As(err, &received) && received.alert == handshake.AlertCloseNotify:
		c.failed = io.EOF
	case errors.As(err, &received):
		c.failed = &handshake.AlertError{Alert: received.alert}
	case errors.Is(err, io.EOF):
		c.failed = handshake.ErrNoCloseNotify
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.failed = handshake.ErrTruncated
	default:
		a := alertFor(err)
		if a == handshake.AlertNoRenegotiation {
			c.failed = fmt.Errorf("%w: %w", handshake.ErrRenegotiation, err)
		}
		if a != handshake.AlertNone {
			c.refuse(a)
		}
	}
	c.forget()
	return c.failed
}

// forget clears the secret of the peer's epoch.
func (c *conn) forget() {
	if c.traffic != nil {
		c.traffic.Clear()
	}
}

// alertFor is the alert for a breach of the protocol, AlertNone for another error.
func alertFor(err error) handshake.Alert {
	var bad *wire.Error
	var fault *record.Fault
	switch {
	case errors.As(err, &bad):
		return bad.Alert
	case errors.As(err, &fault):
		return fault.Alert
	}
	return handshake.AlertNone
}

// refuse ends the sending with an alert. Where a write is under way, that one sends it
// behind its data: see release.
func (c *conn) refuse(a handshake.Alert) {
	c.breach.Store(uint32(a) + 1)
	if c.writeMu.TryLock() {
		c.release()
	}
}

// answerBreach sends the alert that waits, and says whether there was one. writeMu is
// held.
func (c *conn) answerBreach() bool {
	a := c.breach.Load()
	if a == 0 {
		return false
	}
	if c.err == nil {
		c.err = errClosed
		if sendAlert(c.Conn, c.out, handshake.Alert(a-1)) == nil {
			c.ledger.Note(alertEntry(handshake.StepApplicationData, handshake.Alert(a-1)))
		}
	}
	return true
}

// release unlocks writeMu. An alert that came up meanwhile goes out first, or is seen
// behind the unlocking: whoever asked for it could not lock then.
func (c *conn) release() {
	for {
		answered := c.answerBreach()
		c.writeMu.Unlock()
		if answered || c.breach.Load() == 0 || !c.writeMu.TryLock() {
			return
		}
	}
}

// sendAlert writes an alert record behind what was sent. A peer that stopped reading
// shall not hold us.
func sendAlert(conn net.Conn, out *record.Writer, a handshake.Alert) error {
	if err := conn.SetWriteDeadline(time.Now().Add(handshake.AlertTimeout)); err != nil {
		return err
	}
	err := out.Add(handshake.RecordAlert, []byte{a.Level(), byte(a)})
	if err == nil {
		err = out.Flush()
	}
	return errors.Join(err, conn.SetWriteDeadline(time.Time{}))
}
