package stack

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/sslgate/sslgate/stack/sender"
)

// Conn is one accepted TCP connection. LocalAddr is the destination the client
// meant, RemoteAddr is the client.
//
// Errors are *net.OpError and can be told apart by errors.Is:
//
//   - io.EOF (bare): the client sent FIN and everything before it was read;
//   - syscall.ECONNRESET: the client sent RST;
//   - syscall.ETIMEDOUT: the client no longer answers;
//   - syscall.EPIPE: written after CloseWrite;
//   - os.ErrDeadlineExceeded: the deadline has passed; the connection lives on;
//   - net.ErrClosed: closed or reset on this side.
//
// Once an error other than the deadline's has ended the connection, every later call
// returns that error again. All methods may be called concurrently.
type Conn struct {
	ep       tcpip.Endpoint
	wq       *waiter.Queue
	src, dst netip.AddrPort

	readable, writable           chan struct{} // hold one token each
	readableEntry, writableEntry waiter.Entry

	readMu  sync.Mutex        // one reader at a time; guards reading, gather
	reading tcpip.SliceWriter // a field, so that no call has to allocate it
	gather  *gather           // of ReadTo; made by its first call
	readDL  deadline

	writeMu sync.Mutex   // one writer at a time; guards writing
	writing bytes.Reader // a field for the same reason as reading
	pieces  pieces
	writeDL deadline
	paced   *sender.Sender // nil: netstack's own sender

	taken       atomic.Uint64 // by Read, in bytes
	written     atomic.Uint64 // bytes
	una         uint32        // SND.UNA before the first byte
	writeClosed atomic.Bool
	finSent     atomic.Bool                   // or the FIN waits behind data
	failure     atomic.Pointer[syscall.Errno] // the first error that ended the connection

	endOnce sync.Once
	ended   chan struct{}             // closed by the first Close or Reset
	onEnd   func(c *Conn, reset bool) // called once, after ended is closed
}

func newConn(ep tcpip.Endpoint, wq *waiter.Queue, src, dst netip.AddrPort, onEnd func(*Conn, bool)) *Conn {
	c := &Conn{ep: ep, wq: wq, src: src, dst: dst, ended: make(chan struct{}), onEnd: onEnd}
	// Registered once for the life of the connection, not in every call that blocks.
	// The price is a token that no call waits for: it costs one failed try.
	c.readableEntry, c.readable = waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr | waiter.EventRdHUp)
	c.writableEntry, c.writable = waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventHUp | waiter.EventErr)
	wq.EventRegister(&c.readableEntry)
	wq.EventRegister(&c.writableEntry)
	_, c.una = sendState(ep)
	return c
}

// Read reads what has arrived, at least one byte.
func (c *Conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.readMu.Lock()
	defer c.readMu.Unlock()
	defer func() { c.reading = nil }()
	c.reading = b
	n, err := c.receive(&c.reading, tcpip.ReadOptions{})
	if err == nil {
		c.taken.Add(uint64(n))
		c.ep.ModerateRecvBuf(n)
	}
	return n, err
}

// Taken is how many bytes Read has handed out.
func (c *Conn) Taken() uint64 { return c.taken.Load() }

// receive waits until something has arrived and has netstack write it to dst. The
// caller holds readMu.
func (c *Conn) receive(dst io.Writer, opts tcpip.ReadOptions) (int, error) {
	for {
		if err := c.stopped(&c.readDL); err != nil {
			return 0, c.opError("read", err)
		}
		res, terr := c.ep.Read(dst, opts)
		switch terr.(type) {
		case nil:
			return res.Count, nil
		case *tcpip.ErrWouldBlock:
			c.wait(c.readable, &c.readDL)
			continue
		case *tcpip.ErrClosedForReceive:
			if err := c.closedForReceive(); err != nil {
				return 0, c.opError("read", err)
			}
			return 0, io.EOF
		}
		return 0, c.opError("read", c.fail(terr))
	}
}

// WaitRead waits until Read will return at once: with data, the end of the data or an
// error.
func (c *Conn) WaitRead() {
	const some = waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr | waiter.EventRdHUp
	for c.stopped(&c.readDL) == nil && c.ep.Readiness(some) == 0 {
		c.wait(c.readable, &c.readDL)
	}
}

const (
	// roomy is the size in bytes of a receive buffer that surely has room for the n
	// bytes of WaitFor, at most a TLS record. Netstack counts some 500 bytes for each
	// segment beside its data, and drops segments that exceed the buffer.
	roomy = 256 << 10
	// roomyLook is how often WaitFor checks that the buffer is still roomy: the stack
	// makes buffers smaller when memory is short.
	roomyLook = time.Second
)

// WaitFor waits until n bytes can be read without waiting, or the data has ended, or
// there is an error. It returns at once where the receive buffer may have no room for n
// bytes.
func (c *Conn) WaitFor(n int) {
	for c.stopped(&c.readDL) == nil && c.Waiting() < n && c.receives() && c.ep.SocketOptions().GetReceiveBufferSize() >= roomy {
		look := time.NewTimer(roomyLook)
		select {
		case <-c.readable:
		case <-c.readDL.wait():
		case <-c.ended:
		case <-look.C:
		}
		look.Stop()
	}
}

// receives says whether more data can come: the client has sent neither FIN nor RST. It
// does not use netstack's Readiness, which forgets the client's FIN while our own is
// under way.
func (c *Conn) receives() bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateEstablished, tcp.StateFinWait1, tcp.StateFinWait2:
		return true
	}
	return false
}

// Waiting is how many received bytes can be read without waiting; 0 if netstack does
// not say.
func (c *Conn) Waiting() int {
	n, terr := c.ep.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if terr != nil {
		return 0
	}
	return n
}

// closedForReceive says why nothing more will be received; nil means the peer's FIN.
// Netstack reports a reset to one call only and an orderly end to the calls that
// follow. We report the reset to all of them.
func (c *Conn) closedForReceive() error {
	if c.isEnded() {
		return net.ErrClosed
	}
	if tcp.EndpointState(c.ep.State()) == tcp.StateError {
		return c.fail(c.ep.LastError())
	}
	return nil
}

// Write queues all of b for sending; it blocks while the send buffer is full.
// A large b makes large segments: do not cut it up.
func (c *Conn) Write(b []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	defer c.writing.Reset(nil)
	done := 0
	if len(b) < smallWrite {
		if err := c.countPiece(); err != nil {
			return 0, c.opError("write", err)
		}
	}
	for {
		if err := c.stopped(&c.writeDL); err != nil {
			return done, c.opError("write", err)
		}
		if c.writeClosed.Load() {
			return done, c.opError("write", syscall.EPIPE)
		}
		if done == len(b) {
			return done, nil
		}
		c.writing.Reset(b[done:])
		n, terr := c.ep.Write(&c.writing, tcpip.WriteOptions{})
		done += int(n)
		c.written.Add(uint64(n))
		switch terr.(type) {
		case nil:
		case *tcpip.ErrWouldBlock:
			c.wait(c.writable, &c.writeDL)
			c.fitSendBuffer()
		case *tcpip.ErrClosedForSend:
			if c.isEnded() || c.writeClosed.Load() {
				continue // stopped on this side meanwhile: the next round says so
			}
			return done, c.opError("write", c.fail(c.ep.LastError()))
		default:
			return done, c.opError("write", c.fail(terr))
		}
	}
}

// Cork makes what is written from now on wait for Cork(false), which must follow, if nothing
// else sends it before. With a CloseWrite between the two, the last data and the FIN leave
// in one segment.
func (c *Conn) Cork(on bool) {
	t := sender.Tuple{Client: c.src, Dest: c.dst}
	switch {
	case c.paced == nil:
	case on:
		c.paced.Cork(t)
	default:
		c.paced.Uncork(t)
	}
}

// CloseWrite sends FIN after the data written so far. The client then reads EOF, and
// this side can still read.
func (c *Conn) CloseWrite() error {
	if c.isEnded() {
		return c.opError("close", net.ErrClosed)
	}
	if c.writeClosed.Swap(true) {
		return nil
	}
	if terr := c.ep.Shutdown(tcpip.ShutdownWrite); terr != nil {
		if c.isEnded() {
			return c.opError("close", net.ErrClosed)
		}
		if _, gone := terr.(*tcpip.ErrNotConnected); gone {
			terr = c.ep.LastError()
		}
		return c.opError("close", c.fail(terr))
	}
	c.finSent.Store(true)
	return nil
}

// Close ends the connection in order: it sends what was written, then FIN. If received
// bytes were never read, the client gets RST instead, as with a kernel socket. Only the
// first Close or Reset has an effect.
func (c *Conn) Close() error {
	c.end(false)
	return nil
}

// Reset ends the connection at once: the client gets RST, and what it has not
// received yet is lost. Only the first Close or Reset has an effect.
func (c *Conn) Reset() { c.end(true) }

func (c *Conn) end(reset bool) {
	c.endOnce.Do(func() {
		close(c.ended)
		c.wq.EventUnregister(&c.readableEntry)
		c.wq.EventUnregister(&c.writableEntry)
		c.readDL.set(time.Time{})
		c.writeDL.set(time.Time{})
		if reset {
			c.ep.Abort()
		}
		c.ep.Close()
		c.onEnd(c, reset)
	})
}

// LocalAddr is the destination the client meant.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.dst) }

// RemoteAddr is the client.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.src) }

// SetDeadline sets both deadlines; the zero time removes them.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline sets the deadline of Read. It also applies to a Read that is blocked
// now.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(&c.readDL, t) }

// SetWriteDeadline sets the deadline of Write. It also applies to a Write that is
// blocked now.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(&c.writeDL, t) }

func (c *Conn) setDeadline(d *deadline, t time.Time) error {
	if c.isEnded() {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

// stopped says why a call must not go on, nil if it may.
func (c *Conn) stopped(d *deadline) error {
	if c.isEnded() {
		return net.ErrClosed
	}
	if d.passed() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// wait blocks until event, until the deadline d has passed, or until this side has
// ended the connection.
func (c *Conn) wait(event <-chan struct{}, d *deadline) {
	select {
	case <-event:
	case <-d.wait():
	case <-c.ended:
	}
}

func (c *Conn) isEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// fail records the error that ended the connection, and returns the first one recorded.
func (c *Conn) fail(terr tcpip.Error) error {
	e := errno(terr)
	c.failure.CompareAndSwap(nil, &e)
	return *c.failure.Load()
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

var _ net.Conn = (*Conn)(nil)
