package native

import (
	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/wire"
)

// This file is the sending side of step 9.

// Write sends b in records, many of them at once. With an error it says how much of b
// left in whole records, as far as is known: more may have.
func (c *conn) Write(b []byte) (int, error) {
	c.writeMu.Lock()
	defer c.release()
	before := c.out.Sent
	err := c.write(b)
	if err != nil {
		return int(c.out.Sent - before), err
	}
	return len(b), nil
}

func (c *conn) write(b []byte) error {
	if err := c.ready(); err != nil {
		return err
	}
	for len(b) > 0 {
		n := min(len(b), writeAtOnce)
		if err := c.update(); err != nil {
			return err
		}
		if err := c.out.Add(handshake.RecordAppData, b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return c.out.Flush()
}

// writeAtOnce is what goes out before it is asked again whether the keys must change, in
// bytes.
const writeAtOnce = 64 * handshake.MaxPlaintext

// ready says whether something may be written, and puts the ticket in front of it.
func (c *conn) ready() error {
	_ = c.answerBreach()
	switch {
	case c.err != nil:
		return c.err
	case !c.granted:
		return errNotGranted
	}
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
	if last := c.last; last != nil {
		c.last = nil
		if err := last.send(c.out); err != nil {
			// Without our Finished there is no session: nothing may follow.
			last.traffic.Clear()
			c.err = err
			return err
		}
	}
	if msg := c.ticket; msg != nil {
		c.ticket = nil
		return c.out.Add(handshake.RecordHandshake, msg)
	}
	return nil
}

// update changes our keys where the peer wants it or the AEAD's limit is near (RFC
// 8446, sections 4.6.3 and 5.5).
func (c *conn) update() error {
	if !c.out.Due() && !c.answer.Load() {
		return nil
	}
	c.answer.Store(false)
	msg, err := (&wire.KeyUpdate{}).Marshal()
	if err != nil {
		return err
	}
	if err := c.out.Add(handshake.RecordHandshake, msg); err != nil {
		return err
	}
	c.out.Update()
	return nil
}
