package gateway

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a kernel connection that can wait without holding a buffer, and that can be
// written to without blocking. One goroutine may read at a time, and one write.
type socket struct {
	*net.TCPConn
	raw     syscall.RawConn // nil where there is none
	in, out ready

	finished atomic.Bool   // we have sent a FIN
	writing  sync.Mutex    // held by a write until it has noted how it failed
	broken   atomic.Uint32 // the errno of such a write, see note

	offering offering
	written  atomic.Uint64 // bytes
	before   uint64        // what was acknowledged before the first of them: the SYN
}

// ready polls a socket. It is kept with the socket so that a poll allocates nothing.
type ready struct {
	poll [1]unix.PollFd
	is   func(fd uintptr) bool
}

func (r *ready) of(event int16) {
	r.is = func(fd uintptr) bool {
		r.poll[0] = unix.PollFd{Fd: int32(fd), Events: event}
		n, err := unix.Poll(r.poll[:], 0)
		for err == unix.EINTR { // retry: the runtime does not report the event again
			n, err = unix.Poll(r.poll[:], 0)
		}
		return n != 0
	}
}

// offering is the state of one Offer.
type offering struct {
	pieces [][]byte
	taken  int
	err    error
	try    func(fd uintptr)
}

func newSocket(c *net.TCPConn) *socket {
	s := &socket{TCPConn: c}
	raw, err := c.SyscallConn()
	if err != nil {
		return s
	}
	s.raw = raw
	if info := s.info(); info != nil {
		s.before = info.Bytes_acked
	}
	s.in.of(unix.POLLIN) // poll and no peeking read: a read would take a pending error away
	return s
}

// Write is TCPConn's Write, and counts the bytes.
func (s *socket) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	n, err := s.TCPConn.Write(b)
	s.written.Add(uint64(max(n, 0)))
	s.note(err)
	return n, err
}

// unread is how many bytes have come and were not read.
func (s *socket) unread() (n int) {
	if s.raw == nil {
		return 0
	}
	_ = s.raw.Control(func(fd uintptr) { // fails on a closed socket, as whatever is done next
		n, _ = unix.IoctlGetInt(int(fd), unix.SIOCINQ)
	})
	return n
}

// Written is how many bytes the kernel has taken.
func (s *socket) Written() uint64 { return s.written.Load() }

// Acked is how many bytes the peer's TCP has acknowledged (tcp(7), TCP_INFO), including
// those of a write in progress. After a RST the count stays known until the socket is closed.
func (s *socket) Acked() (n uint64, gone bool) {
	info := s.info()
	if info == nil {
		return 0, true
	}
	n = info.Bytes_acked - s.before
	if s.finished.Load() {
		n = min(n, s.written.Load()) // do not count the FIN
	}
	return n, info.State == unix.BPF_TCP_CLOSE
}

// info is the kernel's TCP_INFO of the connection; nil if the socket is closed.
func (s *socket) info() (info *unix.TCPInfo) {
	if s.raw == nil {
		return nil
	}
	err := s.raw.Control(func(fd uintptr) {
		if i, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			info = i
		}
	})
	if err != nil {
		return nil
	}
	return info
}

// WaitRead waits until Read will return something: data, an end or an error.
func (s *socket) WaitRead() {
	if s.raw != nil {
		_ = s.raw.Read(s.in.is) // Read will return the same error
	}
}

// WaitWrite waits until Offer can write something, or fails.
func (s *socket) WaitWrite() error {
	if s.out.is == nil {
		s.out.of(unix.POLLOUT)
	}
	return s.raw.Write(s.out.is)
}

// Offer writes as much as the kernel has room for now, and returns the number of bytes. It
// never waits. raw must not be nil.
func (s *socket) Offer(pieces [][]byte) (int, error) {
	o := &s.offering
	if o.try == nil {
		o.try = func(fd uintptr) {
			for {
				o.taken, o.err = unix.Writev(int(fd), o.pieces)
				if !errors.Is(o.err, unix.EINTR) {
					return
				}
			}
		}
	}
	o.pieces = pieces
	s.writing.Lock()
	defer s.writing.Unlock()
	err := s.raw.Control(o.try)
	taken := max(o.taken, 0)
	s.written.Add(uint64(taken))
	if err == nil {
		err = o.err
	}
	o.pieces, o.taken, o.err = nil, 0, nil
	s.note(err)
	switch {
	case errors.Is(err, unix.EAGAIN):
		return 0, nil
	case err != nil:
		return taken, &net.OpError{Op: "write", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: err}
	}
	return taken, nil
}
