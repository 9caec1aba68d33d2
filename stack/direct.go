package stack

import (
	"errors"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// This file hands out received data from where netstack holds it, without a copy. The
// sink works on the data while netstack's lock of the connection is held: without the
// lock, another event, such as a RST, could free the data. Netstack queues packets that
// arrive meanwhile.

// A Sink takes the data of ReadTo: all of the pieces or the first bytes of them. It
// returns how many bytes it took, 0 if it can take none now. It must not wait, must not
// use the connection, and must not keep or change the pieces.
type Sink func(pieces [][]byte) (int, error)

const (
	// directMost is how many bytes one ReadTo hands over at most; packets that arrive
	// meanwhile wait that long. With a quarter of it eight uploads ran at 0.93 of the
	// rate.
	directMost = 16 * GSOPayload
	// directPieces is how many slices the data comes in at most. That is enough for
	// directMost in packets that were not merged, and half of what writev takes
	// (UIO_MAXIOV).
	directPieces = 512
	// keptPieces is the room for slices that a connection keeps between two calls: 1.5
	// KiB for one that has become idle.
	keptPieces = 64
)

// gather collects the pieces that netstack shows of a receive queue and hands them to
// sink.
type gather struct {
	sink   Sink
	want   int // bytes
	have   int
	pieces [][]byte
	handed bool // to sink
	taken  int
	err    error
	drop   discard
}

// errEnough makes netstack stop reading; it reports no error.
var errEnough = errors.New("enough")

func (g *gather) Write(b []byte) (int, error) {
	g.have += len(b)
	g.pieces = append(g.pieces, b)
	if g.have < g.want && len(g.pieces) < directPieces {
		return len(b), nil
	}
	g.taken, g.err = g.sink(g.pieces)
	g.handed = true
	return len(b), errEnough
}

// discard drops the bytes that the sink has taken already.
type discard struct{ left int }

func (d *discard) Write(b []byte) (int, error) {
	n := min(len(b), d.left)
	if d.left -= n; n < len(b) {
		return n, errEnough
	}
	return n, nil
}

// ReadTo waits until something has arrived, hands it to sink and returns how many bytes
// the sink took; the other bytes stay. An error of sink is returned unchanged as
// sinkErr, an error of the connection as err, like Read's.
func (c *Conn) ReadTo(sink Sink) (n int, sinkErr, err error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	g := c.gather
	if g == nil {
		g = &gather{}
		c.gather = g
	}
	defer func() {
		clear(g.pieces)
		*g = gather{pieces: g.pieces[:0]}
		if cap(g.pieces) > keptPieces {
			c.gather = nil
		}
	}()
	g.sink = sink
	c.WaitRead()
	// By the time netstack reads, there may be more than Waiting said but not less:
	// only this call reads.
	g.want = min(c.Waiting(), directMost)
	for !g.handed {
		if _, err := c.receive(g, tcpip.ReadOptions{Peek: true}); err != nil {
			return 0, nil, err
		}
		if !g.handed {
			clear(g.pieces)
			g.want, g.have, g.pieces = 1, 0, g.pieces[:0] // take whatever there is
		}
	}
	if g.taken > 0 {
		g.drop.left = g.taken
		// This fails only if the connection was reset meanwhile; the next read reports
		// that.
		if res, terr := c.ep.Read(&g.drop, tcpip.ReadOptions{}); terr == nil {
			c.ep.ModerateRecvBuf(res.Count)
		}
	}
	return g.taken, g.err, nil
}
