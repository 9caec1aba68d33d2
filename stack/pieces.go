package stack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Netstack counts the bytes that wait to be sent, not what holds them: each
// write that is not sent yet has a segment, a packet buffer and a chunk of its
// own, some 700 bytes. Beside a client that does not read, a destination that
// drips byte by byte would fill a send buffer of 4 MiB with gigabytes. So small
// writes are bounded by their number too.
const (
	// smallWrite is what counts as one, in bytes.
	smallWrite = 1 << 10
	// maxPending bounds those that are not acknowledged: some 6 MiB. Writes of
	// 500 bytes fill the send buffer as before.
	maxPending = maxMarks * perMark
	maxMarks   = 16
	perMark    = 512
	// pendingPoll is how long a write waits for its first look, and pendingMost for
	// a later one, at most: netstack tells only of a send buffer that was full.
	pendingPoll, pendingMost = 5 * time.Millisecond, 160 * time.Millisecond
)

// pieces counts the small writes of a connection that are not acknowledged,
// perMark of them at a time: a mark is where in the stream the last of them
// ended.
type pieces struct {
	since    int // writes since the last mark
	marks    [maxMarks]uint64
	first, n int
}

// sends says whether netstack still sends what is written.
func (c *Conn) sends() bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateEstablished, tcp.StateCloseWait:
		return true
	}
	return false
}

// countPiece is told of a small write before it is made, and waits while there
// are too many. writeMu is held.
func (c *Conn) countPiece() error {
	p := &c.pieces
	if p.since++; p.since < perMark {
		return nil
	}
	for poll := pendingPoll; ; poll = min(2*poll, pendingMost) {
		acked := c.Progress().Taken
		for p.n > 0 && p.marks[p.first] <= acked {
			p.first, p.n = (p.first+1)%maxMarks, p.n-1
		}
		if p.n < maxMarks || !c.sends() {
			break // of a connection that has ended Write tells why
		}
		if err := c.stopped(&c.writeDL); err != nil {
			return err
		}
		select {
		case <-c.ended:
			return net.ErrClosed
		case <-c.writeDL.wait():
		case <-time.After(poll):
		}
	}
	p.since = 0
	p.marks[(p.first+p.n)%maxMarks] = c.written.Load()
	p.n++
	return nil
}
