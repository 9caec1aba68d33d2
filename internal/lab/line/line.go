// Package line makes two interfaces the ends of one long line: what comes in
// at one leaves by the other, later, and some of it is lost or overtaken. It
// needs nothing of the kernel but packet sockets.
//
// Where to look: line.go reads and writes, queue.go is what is under way,
// cut.go takes the kernel's large segments apart where a part is lost.
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

// Path says what a line does to each packet, each way. The zero value is a wire.
type Path struct {
	// Delay is how long a packet is under way.
	Delay time.Duration
	// Loss is the part of packets that are lost, at random; Late that of
	// packets that take LateBy longer, so that others overtake them. A large
	// segment counts as what it would be on the wire: its pieces of one MSS.
	Loss, Late float64
	LateBy     time.Duration
	// Rate is that of the narrowest place in bit/s, and Queue what may wait
	// before it, in bytes; what finds it full is lost. 0 is no such place.
	Rate  int64
	Queue int
	// Seed begins the random numbers: the same packets have the same fate.
	Seed uint64
}

// maxQueue bounds what is under way one way, in bytes: 2 Gbit/s for a second.
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

// Stats count the packets of one way, as they are on the wire.
type Stats struct {
	Packets, Lost, Late uint64
	// Full did not fit before the narrowest place, Failed did not fit in
	// memory, or the kernel did not take them.
	Full, Failed uint64
	// Unread are frames, large segments as one, that came in faster than the
	// line read them, so that the kernel dropped them at its socket.
	Unread uint64
}

// Line is a line that stands.
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

// Join begins to carry packets between a and b, which Open made, until Close;
// it then closes them. With an error it has closed them.
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

// Set changes the path for what comes in from now on; the random numbers begin
// anew.
func (l *Line) Set(p Path) error {
	if err := p.check(); err != nil {
		return err
	}
	l.path.Store(&p)
	return nil
}

// Stats counts what came in at a, and what came in at b.
func (l *Line) Stats() (fromA, fromB Stats) { return l.lanes[0].stats(), l.lanes[1].stats() }

// Close takes the line down; what is under way is lost. Stats stay.
func (l *Line) Close() error {
	l.Stats() // the kernel's count goes with the socket
	err := errors.Join(l.lanes[0].in.Close(), l.lanes[1].in.Close())
	for _, w := range l.lanes {
		close(w.over)
	}
	l.wg.Wait()
	return err
}

// maxFrame is the largest frame, in bytes: a segment of 64 KiB and its headers.
const maxFrame = vnetSize + 1<<16 + 64

// receive reads what comes in until the socket is closed.
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

// send writes what is due until the line is over.
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
