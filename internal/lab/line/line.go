// Package line makes two interfaces the ends of one long line: a packet that comes in at one
// leaves by the other, later, and some packets are lost or overtaken. It needs only packet
// sockets of the kernel.
//
// Where to look: line.go reads and writes, queue.go holds the packets in transit, cut.go
// splits the kernel's large segments if a part is lost.
package line

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Path says what a line does to each packet, in both directions. The zero value is a plain wire.
type Path struct {
	// Delay is the travel time of a packet.
	Delay time.Duration
	// Loss is the fraction of packets that are lost, at random; Late the fraction that take
	// LateBy longer, so that others overtake them. A large segment counts as its pieces of
	// one MSS on the wire.
	Loss, Late float64
	LateBy     time.Duration
	// Rate is the rate of the bottleneck in bit/s, and Queue what may wait before it, in
	// bytes; a packet that finds the queue full is lost. Rate 0 means no bottleneck.
	Rate  int64
	Queue int
	// Seed starts the random numbers: with the same seed the same packets have the same fate.
	Seed uint64
}

// maxQueue bounds the bytes in transit in one direction: 2 Gbit/s for a second.
const maxQueue = 256 << 20

func (p Path) check() error {
	switch {
	case p.Delay < 0 || p.LateBy < 0 || p.Rate < 0 || p.Queue < 0:
		return errors.New("line: a negative delay, rate or queue")
	case !(p.Loss >= 0 && p.Loss <= 1) || !(p.Late >= 0 && p.Late <= 1):
		return errors.New("line: loss and late packets are parts of 1")
	case (p.Rate == 0) != (p.Queue == 0):
		return errors.New("line: a rate and its queue belong together")
	}
	return nil
}

// Stats count the packets of one direction, as they are on the wire.
type Stats struct {
	Packets, Lost, Late uint64
	// Full found the queue before the bottleneck full. Failed exceeded maxQueue, or the
	// kernel did not take them.
	Full, Failed uint64
	// Unread are frames that the kernel dropped at its socket, because they came in faster
	// than the line read them. A large segment counts as one.
	Unread uint64
}

// Line is a line in operation.
type Line struct {
	path  atomic.Pointer[Path]
	lanes [2]*lane
	wg    sync.WaitGroup
}

// Open returns a socket for an interface of the calling thread's namespace.
func Open(dev string) (*os.File, error) {
	const proto = uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8 // network byte order
	ifr, err := unix.NewIfreq(dev)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	err = func() error {
		for _, o := range [][3]int{
			{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
			{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
			{unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1},
			{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64 << 20},
			{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8 << 20},
		} {
			if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
				return fmt.Errorf("option %d: %w", o[1], err)
			}
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: proto, Ifindex: int(ifr.Uint32())})
	}()
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("line: %s: %w", dev, err)
	}
	return os.NewFile(uintptr(fd), dev), nil
}

// Join carries packets between a and b, which Open made, until Close, which also closes a and
// b. If Join returns an error, it has closed them.
func Join(a, b *os.File, p Path) (*Line, error) {
	l := &Line{lanes: [2]*lane{newLane(a, b), newLane(b, a)}}
	if err := l.Set(p); err != nil {
		return nil, errors.Join(err, a.Close(), b.Close())
	}
	for _, w := range l.lanes {
		l.wg.Go(func() { w.receive(&l.path) })
		l.wg.Go(w.send)
	}
	return l, nil
}

// Set changes the path for packets that come in from now on; the random numbers start again.
func (l *Line) Set(p Path) error {
	if err := p.check(); err != nil {
		return err
	}
	l.path.Store(&p)
	return nil
}

// Stats counts what came in at a, and what came in at b.
func (l *Line) Stats() (fromA, fromB Stats) { return l.lanes[0].stats(), l.lanes[1].stats() }

// Close ends the line; packets in transit are lost. Stats stay readable.
func (l *Line) Close() error {
	l.Stats() // the kernel's count is lost with the socket
	err := errors.Join(l.lanes[0].in.Close(), l.lanes[1].in.Close())
	for _, w := range l.lanes {
		close(w.over)
	}
	l.wg.Wait()
	return err
}

// maxFrame is the largest frame, in bytes: a segment of 64 KiB and its headers.
const maxFrame = vnetSize + 1<<16 + 64

// receive reads packets until the socket is closed.
func (w *lane) receive(path *atomic.Pointer[Path]) {
	buf := make([]byte, maxFrame)
	for {
		n, err := w.in.Read(buf)
		switch {
		case errors.Is(err, unix.ENETDOWN) || errors.Is(err, unix.EINTR):
			continue // the interface went down: it may come back
		case err != nil:
			return
		}
		w.take(buf[:n], path.Load(), time.Now())
	}
}

// send writes the packets that are due until the line is closed.
func (w *lane) send() {
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	for {
		next, wait := w.due(time.Now())
		if next != nil {
			if _, err := w.out.Write(next); err != nil {
				w.mu.Lock()
				w.count.Failed++
				w.mu.Unlock()
			}
			w.done(next)
			continue
		}
		alarm.Reset(wait)
		select {
		case <-alarm.C:
		case <-w.wake:
		case <-w.over:
			return
		}
	}
}
