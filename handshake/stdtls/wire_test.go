package stdtls

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sslgate/sslgate/handshake"
)

// wire is one direction of a connection in memory. What is written comes out in
// pieces that have nothing to do with the writes.
type wire struct {
	mu    sync.Mutex
	cond  *sync.Cond
	data  []byte
	limit int // bytes that wait before a write blocks
	ended error
	cuts  *rand.Rand // nil: whatever is there in one piece
}

func newWire(limit int, cuts *rand.Rand) *wire {
	w := &wire{limit: limit, cuts: cuts}
	w.cond = sync.NewCond(&w.mu)
	return w
}

func (w *wire) read(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.data) == 0 && w.ended == nil {
		w.cond.Wait()
	}
	if len(w.data) == 0 {
		return 0, w.ended
	}
	n := min(len(b), len(w.data))
	if w.cuts != nil && n > 1 && w.cuts.IntN(2) == 0 {
		n = 1 + w.cuts.IntN(n)
	}
	n = copy(b, w.data[:n])
	w.data = w.data[n:]
	w.cond.Broadcast()
	return n, nil
}

func (w *wire) write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for done := 0; ; w.cond.Wait() {
		if w.ended != nil {
			return done, io.ErrClosedPipe
		}
		k := min(len(b)-done, max(0, w.limit-len(w.data)))
		w.data = append(w.data, b[done:done+k]...)
		w.cond.Broadcast()
		if done += k; done == len(b) {
			return done, nil
		}
	}
}

func (w *wire) waiting() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.data)
}

// end lets what waits be read first where the end is io.EOF.
func (w *wire) end(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended == nil {
		w.ended = err
		if !errors.Is(err, io.EOF) {
			w.data = nil
		}
	}
	w.cond.Broadcast()
}

// memConn is one end of a connection in memory; it has no deadlines.
type memConn struct {
	in, out *wire
	writes  atomic.Int64
}

func (c *memConn) Read(b []byte) (int, error) { return c.in.read(b) }

func (c *memConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.out.write(b)
}

func (c *memConn) CloseWrite() error { c.out.end(io.EOF); return nil }

func (c *memConn) Close() error {
	c.out.end(io.EOF)
	c.in.end(os.ErrClosed)
	return nil
}

func (*memConn) LocalAddr() net.Addr { return &net.TCPAddr{} }

func (*memConn) RemoteAddr() net.Addr { return &net.TCPAddr{} }

func (*memConn) SetDeadline(time.Time) error { return nil }

func (*memConn) SetReadDeadline(time.Time) error { return nil }

func (*memConn) SetWriteDeadline(time.Time) error { return nil }

// toldConn is a memConn that says how much waits, as stack.Conn does.
type toldConn struct{ *memConn }

func (c *toldConn) Waiting() int { return c.in.waiting() }

// memPair makes both ends; told is for ours.
func memPair(limit int, seed uint64, told bool) (ours handshake.Conn, peers *memConn, mine *memConn) {
	var cuts func() *rand.Rand
	if cuts = func() *rand.Rand { return nil }; seed != 0 {
		n := uint64(0)
		cuts = func() *rand.Rand { n++; return rand.New(rand.NewPCG(seed, n)) }
	}
	a, b := newWire(limit, cuts()), newWire(limit, cuts())
	mine, peers = &memConn{in: a, out: b}, &memConn{in: b, out: a}
	if told {
		return &toldConn{mine}, peers, mine
	}
	return mine, peers, mine
}
