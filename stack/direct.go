package stack

import (
	"errors"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// This file hands out received data from where netstack holds it, without a copy.
// Whoever gets it works on it while netstack's lock of the connection is held:
// only then nothing frees it (a RST does). Packets that arrive meanwhile are
// queued by netstack.

// A Sink takes data of ReadTo: all of the pieces or the first bytes of them. It
// says how many bytes it took, 0 where it takes none now. It must not wait, not
// use the connection, and not keep or change the pieces.
type Sink func(pieces [][]byte) (int, error)

const (
	// directMost is how much one ReadTo hands over at most, in bytes; what
	// arrives meanwhile waits that long. With a quarter of it eight uploads ran
	// at 0.93 of the rate.
	directMost = 16 * GSOPayload
	// directPieces is the most slices it comes in: enough for directMost in
	// packets that were not merged, half of what writev takes (UIO_MAXIOV).
	directPieces = 512
	// keptPieces is how many there is room for between two calls: 1.5 KiB of a
	// connection that has become idle.
	keptPieces = 64
)

// gather collects what netstack shows of a receive queue and hands it to sink.
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

// errEnough ends netstack's reading and means nothing else.
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

// discard drops what was handed over already.
type discard struct{ left int }

func (d *discard) Write(b []byte) (int, error) {
	n := min(len(b), d.left)
	if d.left -= n; n < len(b) {
		return n, errEnough
	}
	return n, nil
}

// ReadTo waits until something has arrived, hands it to sink and returns how much
// of it that took; the rest stays. An error of sink comes back as it is in
// sinkErr, one of the connection, like Read's, in err.
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
	// More may have come until it is read; less not, for no other reads.
	g.want = min(c.Waiting(), directMost)
	for !g.handed {
		if _, err := c.receive(g, tcpip.ReadOptions{Peek: true}); err != nil {
			return 0, nil, err
		}
		if !g.handed {
			clear(g.pieces)
			g.want, g.have, g.pieces = 1, 0, g.pieces[:0] // whatever there is
		}
	}
	if g.taken > 0 {
		g.drop.left = g.taken
		// Fails only where the connection was reset meanwhile, as the next read says.
		if res, terr := c.ep.Read(&g.drop, tcpip.ReadOptions{}); terr == nil {
			c.ep.ModerateRecvBuf(res.Count)
		}
	}
	return g.taken, g.err, nil
}
