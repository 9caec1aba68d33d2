package gateway

import (
	"net"
	"runtime"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/stack"
)

// direction is one direction of a relay.
type direction struct {
	r        *relay
	dst, src *relayEnd
	t        *delivery
	size     int  // of the buffer for the next turn
	plain    bool // src is a kernel socket without TLS
	slow     bool // the last write took longer than slowWrite
	deaf     bool // dst takes nothing more: data for it is thrown away
	// read reads the handshake of a bypassed flow and says whether it wants more; nil once
	// it does not. Until then the bytes go through a buffer.
	read func(b []byte) (more bool)

	// Set for a busy direction that needs no buffer, see straight.
	from *stack.Conn
	to   *socket
	sink stack.Sink
}

// copy moves one direction until its end. While it waits it holds no buffer.
func (r *relay) copy(dst, src *relayEnd, t *delivery) {
	defer close(src.done)
	d := &direction{r: r, dst: dst, src: src, t: t, size: bufferSmall}
	if p := r.passing; p != nil {
		if d.read = p.Server; src == &r.client {
			d.read = p.Client
		}
	}
	waiter, _ := src.Conn.(handshake.ReadWaiter)
	_, d.plain = src.Conn.(*socket)
	for {
		if waiter != nil {
			waiter.WaitRead()
		}
		k, err, werr := d.turn()
		if werr != nil && !d.deaf {
			if d.deaf = r.unwritable(dst, werr); !d.deaf {
				return
			}
		}
		d.size = fit(d.size, k, d.most())
		if err != nil {
			r.readEnded(dst, src, err)
			return
		}
		if src == &r.client && r.toll != nil && !r.pace(k) {
			return
		}
		if !r.wait(r.hold.Moved(k)) {
			return
		}
	}
}

// most is the largest buffer size that helps this direction.
func (d *direction) most() int {
	if d.plain && !d.slow {
		return bufferHuge
	}
	return bufferLarge
}

// turn moves the data that is there, once.
func (d *direction) turn() (n int, readErr, writeErr error) {
	if d.size > bufferSmall && !d.deaf && d.read == nil && d.straight() {
		return d.hand()
	}
	buf := d.r.pool.get(d.size)
	d.size = len(*buf) // less where too much is lent
	d.r.lent.Add(int64(d.size))
	defer func(size int) {
		d.r.lent.Add(-int64(size))
		d.r.pool.put(buf)
	}(d.size)
	d.take(d.size)
	n, readErr = d.src.Read(*buf)
	if d.src == &d.r.client && d.r.opening.isTLS((*buf)[:n]) {
		d.r.refuseTLS()
		return 0, net.ErrClosed, nil
	}
	if d.read != nil && n > 0 && !d.read((*buf)[:n]) {
		d.read = nil
	}
	if n > 0 && !d.deaf {
		d.moved(n)
		if writeErr = d.write((*buf)[:n]); writeErr == nil {
			d.t.wrote()
		}
	}
	return n, readErr, writeErr
}

// write writes b, in pieces, and notes whether that took long.
func (d *direction) write(b []byte) error {
	began := time.Now()
	for {
		k := min(len(b), bufferLarge)
		if _, err := d.dst.Write(b[:k]); err != nil {
			return err
		}
		if b = b[k:]; len(b) == 0 {
			d.slow = time.Since(began) > slowWrite
			return nil
		}
		runtime.Gosched() // let other flows run
	}
}

// take asks the memory budget for room before n bytes are read.
func (d *direction) take(n int) {
	if d.src != &d.r.dest {
		return // the client's bytes are in the stack already; reading them frees them there
	}
	d.r.waits.Add(1)
	if d.r.memory.Take(n, d.r.over) {
		d.r.stir() // before it counts as not waiting: it has not read yet
	}
	d.r.waits.Add(-1)
}

// moved counts n bytes, those of a buffer before they are written. The delivery knows how
// many of them arrive.
func (d *direction) moved(n int) {
	d.r.stir()
	d.t.moved.Add(int64(n))
}

// straight says whether the direction can do without a buffer: from a connection of the
// stack into a kernel socket, both without TLS. In the opposite direction a buffer is
// quicker: the room in netstack would have to be known before each read, so each read
// would get less.
func (d *direction) straight() bool {
	if d.from != nil {
		return true
	}
	from, ok := bare(d.src.Conn).(*stack.Conn)
	if !ok {
		return false
	}
	to, ok := d.dst.Conn.(*socket)
	if !ok || to.raw == nil {
		return false
	}
	d.from, d.to = from, to
	d.sink = func(pieces [][]byte) (int, error) {
		n, err := to.Offer(pieces)
		if n > 0 {
			d.moved(n)
			d.t.wrote()
		}
		return n, err
	}
	return true
}

// hand moves the data that is there without a buffer.
func (d *direction) hand() (n int, readErr, writeErr error) {
	for {
		n, writeErr, readErr = d.from.ReadTo(d.sink)
		if n > 0 || readErr != nil || writeErr != nil {
			return n, readErr, writeErr
		}
		if writeErr = d.to.WaitWrite(); writeErr != nil {
			return 0, nil, writeErr
		}
	}
}

// bare returns the connection below one that has replayed its peeked bytes.
func bare(c net.Conn) net.Conn {
	if r, ok := c.(handshake.Peeked); ok {
		if below, ok := r.Replayed(); ok {
			return below
		}
	}
	return c
}
