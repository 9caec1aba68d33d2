package bogo

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/sslgate/sslgate/handshake"
)

// readSize is how much is read at once, in bytes: less than the runner's records have.
const readSize = 512

// exchange sends data back until the peer has ended, and ends too.
func (c *connection) exchange() error {
	conn, o := c.session.Conn, c.o
	defer func() { _ = conn.Close() }()
	if err := c.writeFirst(); err != nil {
		return err
	}
	if !o.has("shim-shuts-down") {
		if err := c.echo(); err != nil {
			return err
		}
	}
	if err := conn.CloseWrite(); err != nil && !gone(err) {
		return fmt.Errorf("close_notify: %w", err)
	}
	_, err := io.Copy(io.Discard, conn)
	if errors.Is(err, handshake.ErrNoCloseNotify) && !o.has("check-close-notify") || gone(err) {
		return nil
	}
	return err
}

// gone says that the runner has closed its end: it does so when it has seen enough.
func gone(err error) bool { return handshake.IsReset(err) || errors.Is(err, syscall.ENOTCONN) }

// writeFirst writes what is to be written before anything is read.
func (c *connection) writeFirst() error {
	conn, o := c.session.Conn, c.o
	if o.has("write-different-record-sizes") {
		for _, n := range []int{0, 1, 255, 256, 257, 16383, 16384, 16385, 32767, 32768, 32769} {
			if _, err := conn.Write(bytes.Repeat([]byte{0x42}, n)); err != nil {
				return err
			}
		}
		return nil
	}
	if !o.has("shim-writes-first") {
		return nil
	}
	text := "hello"
	if o.has("shim-initial-write") {
		text = o.text("shim-initial-write")
	}
	times, err := o.number("repeat-shim-initial-write", 1)
	for i := 0; i < times && err == nil; i++ {
		_, err = conn.Write([]byte(text))
	}
	return err
}

// echo sends back what comes, with all bits turned, until the peer's end.
func (c *connection) echo() error {
	conn := c.session.Conn
	size, err := c.o.number("read-size", readSize)
	if err != nil {
		return err
	}
	buf := make([]byte, size)
	for {
		if w, ok := conn.(handshake.ReadWaiter); ok && c.o.has("peek-then-read") {
			w.WaitRead()
		}
		n, err := conn.Read(buf)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, handshake.ErrNoCloseNotify) && !c.o.has("check-close-notify"):
			return nil
		case err != nil:
			return err
		}
		for i := range buf[:n] {
			buf[i] ^= 0xff
		}
		if _, err := conn.Write(buf[:n]); err != nil {
			return err
		}
	}
}
