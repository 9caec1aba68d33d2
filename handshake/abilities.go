package handshake

import (
	"errors"
	"net"
)

// This file names what a connection may be able to do besides net.Conn. Below the
// engine they are stack.Conn and the kernel's sockets; what wraps them (Peek, an
// engine, a gateway's own wrapper) has NetConn, so that Ability finds what it does not
// have itself.

// HalfCloser can close its sending side alone: with close_notify and FIN for TLS, with
// FIN below it. Reading goes on.
type HalfCloser interface{ CloseWrite() error }

// ErrNoHalfClose is what CloseWrite gets where the connection below cannot be
// half-closed.
var ErrNoHalfClose = errors.New("handshake: the connection cannot be half-closed")

// Conn is a connection whose sending side can be closed alone.
type Conn interface {
	net.Conn
	HalfCloser
}

// BareCloser is a connection with TLS that can send a FIN without close_notify: the
// peer learns that nothing more comes, and not that this was all (RFC 8446, section
// 6.1).
type BareCloser interface{ CloseWriteBare() error }

// ReadWaiter can wait without a buffer. WaitRead returns once Read would return soon,
// with data or an error. It returns at once while the connection still holds data that
// Read has left.
type ReadWaiter interface{ WaitRead() }

// RecordCounter counts what the peer has made us read since the handshake: the records,
// and the answers to KeyUpdates that it asked for (RFC 8446, section 4.6.3). A peer decides how
// much data a record has. Only the goroutine that calls Read may call it.
type RecordCounter interface{ Received() (records, answers int) }

// RecordsAtOnce bounds the records of which one Read takes data, where a connection has
// RecordCounter: its caller learns in time what small records cost.
const RecordsAtOnce = 64

// InboundQueue says how many received bytes can be read without waiting.
type InboundQueue interface{ Waiting() int }

// InboundWaiter can wait until n bytes can be read without waiting, or an end or an
// error has come.
type InboundWaiter interface{ WaitFor(n int) }

// QueueDepths says how many bytes of data the connection holds: received and not read,
// written and not acknowledged.
type QueueDepths interface{ Held() (received, sent int) }

// DirectWriter takes what fits at once and copies nothing: Offer says how many bytes of
// the pieces that was, WaitWrite waits until Offer takes something, or fails.
type DirectWriter interface {
	Offer(pieces [][]byte) (int, error)
	WaitWrite() error
}

// Corker can make what is written wait for its FIN, so that both leave in one segment.
// Nothing waits longer than until Cork(false), which must follow.
type Corker interface{ Cork(on bool) }

// Wrapper is a connection on another one. What it holds itself is not seen below.
type Wrapper interface{ NetConn() net.Conn }

// Peeked is what Peek returns, besides a Conn.
type Peeked interface {
	Wrapper
	// Pending is how many bytes are still to be replayed.
	Pending() int
	// Records is how many records Peek has begun to read.
	Records() int
	// Replayed returns the connection below once everything was replayed: from then
	// on it is as good.
	Replayed() (net.Conn, bool)
}

// Ability finds the connection that has the ability T: the given one, or the first
// below it. What speaks of single bytes (DirectWriter, InboundQueue, InboundWaiter) is
// not looked for below TLS: there the bytes are those of records, and what was written
// directly would leave in the clear.
func Ability[T any](conn net.Conn) (T, bool) {
	var none T
	ofBytes := false
	switch any(&none).(type) {
	case *DirectWriter, *InboundQueue, *InboundWaiter:
		ofBytes = true
	}
	for {
		if able, ok := conn.(T); ok {
			return able, true
		}
		_, secured := conn.(BareCloser)
		w, ok := conn.(Wrapper)
		if !ok || secured && ofBytes {
			return none, false
		}
		conn = w.NetConn()
	}
}

// EndBelow has notify write the last bytes, such as close_notify, and closes the sending side
// of the connection. Where that can be, both leave in one segment.
func EndBelow(conn net.Conn, notify func() error) error {
	if c, ok := Ability[Corker](conn); ok {
		c.Cork(true)
		defer c.Cork(false)
	}
	err := notify()
	if fin := CloseWriteBelow(conn); !errors.Is(fin, ErrNoHalfClose) {
		err = errors.Join(err, fin)
	}
	return err
}

// CloseWriteBelow closes the sending side of a connection, ErrNoHalfClose where that
// cannot be.
func CloseWriteBelow(conn net.Conn) error {
	if c, ok := conn.(HalfCloser); ok {
		return c.CloseWrite()
	}
	return ErrNoHalfClose
}
