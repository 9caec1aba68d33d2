package handshake

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/sslgate/sslgate/internal/reason"
)

// The bounds of what is read before there is a verdict.
const (
	// maxHelloRecords is the number of records a hello may be cut into. Every
	// real one fits one or two, and RFC 8446, section 5.1, allows one byte in
	// each: this is enough for the largest hello that we cause, one with a ticket
	// of ours (MaxPlainTicket), cut so; the larger ones of clients with ML-DSA may not
	// be cut into all that many. With MaxHello it bounds what one flow makes us
	// hold at 170 KB, and each record is charged (work.Records).
	maxHelloRecords = 21 << 10
	// peekChunk is what one Read asks for at least, in bytes: a hello with an
	// ML-KEM key share has about 1700, so that one Read is enough.
	peekChunk = 2048
	// maxEmptyReads is how often in a row a conn may return nothing, as in bufio.
	maxEmptyReads = 100
)

// Peek reads the client's first flight up to the end of the ClientHello, in
// whatever records and TCP segments it comes, and sends nothing. It is the
// preflight: until the verdict the client has not learnt that somebody other
// than the destination is there.
//
// The deadline is ctx's; the read deadline of conn is taken off at the end.
// limit bounds the hello in bytes with its 4-byte header; 0, and more than
// MaxHello, mean MaxHello.
//
// The conn returned, also beside an error, first replays what was read, byte
// for byte and once, then goes on with conn. Its CloseWrite is that of conn,
// ErrNoHalfClose if conn has none. It is a Peeked and a ReadWaiter.
//
// The error is a *Error of step 1: not TLS, no hello in time, one that is too
// large or that ParseClientHello refuses. The hello is nil then.
func Peek(ctx context.Context, conn net.Conn, limit int) (*ClientHello, Conn, error) {
	return PeekFrom(ctx, conn, limit, nil)
}

// PeekFrom is Peek where the first bytes of the flight were read already: begun, which it
// takes over.
func PeekFrom(ctx context.Context, conn net.Conn, limit int, begun []byte) (*ClientHello, Conn, error) {
	if limit <= 0 || limit > MaxHello {
		limit = MaxHello
	}
	p := &peeker{ctx: ctx, conn: conn, limit: limit, raw: begun}
	expired := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(expired)
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // long past: ends the Read under way
	})
	h, e := p.hello()
	if !stop() {
		<-expired // else it could set its deadline after ours is off
	}
	_ = conn.SetReadDeadline(time.Time{}) // fails only where conn is closed, and then the next Read says so
	back := &replayConn{Conn: conn, records: p.records}
	if len(p.raw) > 0 {
		back.left = p.raw
	}
	if e != nil {
		return nil, back, e
	}
	return h, back, nil
}

// peeker reads one hello.
type peeker struct {
	ctx   context.Context
	conn  net.Conn
	limit int
	raw   []byte // everything read so far
	pos   int    // of it, where the current record starts
	msg   []byte // the handshake message as far as it has come
	err   error  // of the last Read

	records int // begun so far
}

// hello reads records until the message is whole.
func (p *peeker) hello() (*ClientHello, *Error) {
	if e := p.sniff(); e != nil {
		return nil, e
	}
	version := uint16(p.raw[1])<<8 | uint16(p.raw[2])
	for p.records = 1; ; p.records++ {
		if p.records > maxHelloRecords {
			return nil, refusef(reason.HelloTooLarge, "in more than %d records", maxHelloRecords)
		}
		whole, e := p.record()
		if e != nil {
			return nil, e
		}
		if whole {
			break
		}
	}
	h, e := parseClientHello(p.msg)
	if e != nil {
		return nil, e
	}
	h.RecordVersion, h.Records = version, p.records
	return h, nil
}

// sniff reads as many bytes as it takes to tell TLS from other protocols, at
// least a record's type and version.
func (p *peeker) sniff() *Error {
	for n := 1; ; n++ {
		e := p.fill(n)
		if e != nil && len(p.raw) == 0 {
			return e
		}
		verdict, more := sniff(p.raw)
		if more && e == nil {
			n = len(p.raw) // the next round wants at least one byte more
			continue
		}
		if verdict == nil && more {
			return e // cut off in the middle of a TLS record's header
		}
		return verdict
	}
}

// record reads one record and adds it to the message. It says whether the
// message is whole.
func (p *peeker) record() (whole bool, _ *Error) {
	if e := p.fill(RecordHeader); e != nil {
		return false, e
	}
	head := p.raw[p.pos:]
	typ, major, size := head[0], head[1], RecordLen(head)
	switch {
	case major != 3:
		return false, malformed(AlertProtocolVersion, "a record of version %#02x%02x", major, head[2])
	case typ != RecordHandshake:
		return false, p.wrongRecord(typ, size)
	case size == 0:
		// RFC 8446, section 5.1: no zero-length fragments of handshake types.
		return false, malformed(AlertUnexpectedMessage, "an empty handshake record")
	case size > MaxPlaintext:
		return false, malformed(AlertRecordOverflow, "a record of %d bytes", size)
	}
	// The message's own header first: it can be refused before the rest is there.
	if need := min(size, 4-len(p.msg)); need > 0 {
		if e := p.fill(RecordHeader + need); e != nil {
			return false, e
		}
		if e := p.checkHeader(p.raw[p.pos+RecordHeader:][:need], size); e != nil {
			return false, e
		}
	} else if e := p.checkHeader(nil, size); e != nil {
		return false, e
	}
	if e := p.fill(RecordHeader + size); e != nil {
		return false, e
	}
	p.msg = append(p.msg, p.raw[p.pos+RecordHeader:][:size]...)
	p.pos += RecordHeader + size
	return len(p.msg) >= 4 && len(p.msg) == messageLen(p.msg), nil
}

// checkHeader looks at the handshake header, as far as it is known with the
// next bytes, and at whether the record's size fits what is left of the message.
func (p *peeker) checkHeader(next []byte, size int) *Error {
	head := append(slices.Clip(p.msg[:min(len(p.msg), 4)]), next...)
	if head[0] != TypeClientHello {
		return malformed(AlertUnexpectedMessage, "%s instead of ClientHello", MessageName(head[0]))
	}
	if len(head) < 4 {
		return nil
	}
	total := messageLen(head)
	if total > p.limit {
		return refusef(reason.HelloTooLarge, "%d bytes, the limit is %d", total, p.limit)
	}
	// RFC 8446, section 5.1: a message before a change of keys ends its record.
	if left := total - len(p.msg); size > left {
		return malformed(AlertUnexpectedMessage, "%d bytes behind the ClientHello in its record", size-left)
	}
	return nil
}

// messageLen is the length of a handshake message with its header.
func messageLen(head []byte) int {
	return 4 + (int(head[1])<<16 | int(head[2])<<8 | int(head[3]))
}

// wrongRecord is the refusal of a record that carries no handshake message.
func (p *peeker) wrongRecord(typ uint8, size int) *Error {
	if typ != RecordAlert || size != 2 || p.fill(RecordHeader+size) != nil {
		return malformed(AlertUnexpectedMessage, "a record of type %d before the ClientHello was whole", typ)
	}
	// The client gave up by itself, so there is nothing to answer.
	a := Alert(p.raw[p.pos+RecordHeader+1])
	e := malformed(AlertNone, "the alert %s before the ClientHello was whole", a)
	e.Received = a
	return e
}

// fill reads until n bytes of the current record are there.
func (p *peeker) fill(n int) *Error {
	for empty := 0; len(p.raw)-p.pos < n; {
		if p.err != nil {
			return p.readError()
		}
		p.raw = slices.Grow(p.raw, max(peekChunk-len(p.raw), n-(len(p.raw)-p.pos)))
		m, err := p.conn.Read(p.raw[len(p.raw):cap(p.raw)])
		p.raw, p.err = p.raw[:len(p.raw)+m], err
		if m > 0 {
			empty = 0
		} else if empty++; empty > maxEmptyReads && err == nil {
			p.err = io.ErrNoProgress
		}
	}
	return nil
}

// readError says how the client's side of the connection ended.
func (p *peeker) readError() *Error {
	code := reason.HelloReset // ECONNRESET, and whatever else ends a connection hard
	var timeout net.Error
	switch {
	case errors.Is(p.err, io.EOF), errors.Is(p.err, io.ErrUnexpectedEOF):
		code = reason.HelloEOF
	case errors.As(p.err, &timeout) && timeout.Timeout():
		code = reason.HelloTimeout
	}
	e := refusef(code, "after %d bytes", len(p.raw))
	e.Err = p.err
	if cause := context.Cause(p.ctx); cause != nil && code == reason.HelloTimeout {
		e.Err = cause
	}
	return e
}

// replayConn gives back what Peek read, then goes on with the conn below.
type replayConn struct {
	net.Conn
	mu   sync.Mutex
	left []byte // nil once everything was given back

	records int // that Peek has read
}

// Read replays first.
func (c *replayConn) Read(b []byte) (int, error) {
	c.mu.Lock()
	if c.left == nil {
		c.mu.Unlock()
		return c.Conn.Read(b)
	}
	n := copy(b, c.left)
	if c.left = c.left[n:]; len(c.left) == 0 {
		c.left = nil // lets go of the memory
	}
	c.mu.Unlock()
	return n, nil
}

// Pending is how many bytes are still to be replayed.
func (c *replayConn) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.left)
}

// Records is how many records Peek has begun to read.
func (c *replayConn) Records() int { return c.records }

// WaitRead waits like the conn below, once everything was replayed.
func (c *replayConn) WaitRead() {
	c.mu.Lock()
	replay := c.left != nil
	c.mu.Unlock()
	if w, ok := c.Conn.(ReadWaiter); ok && !replay {
		w.WaitRead()
	}
}

// NetConn returns the conn below. A Read there misses what is still to be replayed.
func (c *replayConn) NetConn() net.Conn { return c.Conn }

// Replayed returns the conn below once everything was replayed: from then on it
// is as good.
func (c *replayConn) Replayed() (net.Conn, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Conn, c.left == nil
}

// CloseWrite closes the sending side of the conn below.
func (c *replayConn) CloseWrite() error { return CloseWriteBelow(c.Conn) }

var (
	_ Conn       = (*replayConn)(nil)
	_ Peeked     = (*replayConn)(nil)
	_ ReadWaiter = (*replayConn)(nil)
)

// escaped shows at most n bytes of the peer, in ASCII and in quotes.
func escaped(b []byte, n int) string {
	if len(b) > n {
		return fmt.Sprintf("%+q...", b[:n])
	}
	return fmt.Sprintf("%+q", b)
}

// firstLine is b up to its line end.
func firstLine(b []byte) []byte {
	if i := bytes.IndexAny(b, "\r\n"); i >= 0 {
		return b[:i]
	}
	return b
}
