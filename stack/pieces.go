package stack

import (
	"net"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Netstack counts the bytes that wait to be sent, not the memory that holds them. Each
// write that is not sent yet has its own segment, packet buffer and chunk, some 700
// bytes. If a client does not read while a destination sends single bytes, a send buffer
// of 4 MiB would take gigabytes. So small writes are bounded by their number too.
const (
	// smallWrite is the size in bytes below which a write counts as small.
	smallWrite = 1 << 10
	// maxPending bounds the small writes that are not acknowledged: some 6 MiB. Writes of
	// 500 bytes can still fill the send buffer.
	maxPending = maxMarks * perMark
	maxMarks   = 16
	perMark    = 512
	// pendingPoll is how long a write waits before it first checks again, pendingMost the
	// longest wait before a later check. It has to poll: netstack notifies only when a
	// full send buffer gets room.
	pendingPoll, pendingMost = 5 * time.Millisecond, 160 * time.Millisecond
)

// pieces counts the small writes of a connection that are not acknowledged, perMark of
// them at a time. A mark is the position in the stream where the last of perMark writes
// ended.
type pieces struct {
	since    int // writes since the last mark
	marks    [maxMarks]uint64
	first, n int
}

// sends says whether netstack still sends written data.
func (c *Conn) sends() bool {
	switch tcp.EndpointState(c.ep.State()) {
	case tcp.StateEstablished, tcp.StateCloseWait:
		return true
	}
	return false
}

// countPiece counts a small write before it is made, and waits while there are too many.
// The caller holds writeMu.
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
			break // if the connection has ended, Write says why
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
