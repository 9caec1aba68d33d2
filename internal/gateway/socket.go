package gateway

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a kernel connection that can wait without a buffer, and be written
// to without waiting. One goroutine may read at a time, and one write.
type socket struct {
	*net.TCPConn
	raw     syscall.RawConn // nil where there is none
	in, out ready

	finished atomic.Bool   // we have sent a FIN
	writing  sync.Mutex    // held by a write until it has noted how it failed
	broken   atomic.Uint32 // the errno of that, see note

	offering offering
	written  atomic.Uint64 // bytes
	before   uint64        // what was acknowledged before them: the SYN
}

// ready says whether a socket is; it is kept so that to ask allocates nothing.
type ready struct {
	poll [1]unix.PollFd
	is   func(fd uintptr) bool
}

func (r *ready) of(event int16) {
	r.is = func(fd uintptr) bool {
		r.poll[0] = unix.PollFd{Fd: int32(fd), Events: event}
		n, err := unix.Poll(r.poll[:], 0)
		for err == unix.EINTR { // what has come is not told again
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
	s.in.of(unix.POLLIN) // not a read that leaves the data: it would take an error away
	return s
}

// Write is TCPConn's, and counts.
func (s *socket) Write(b []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	n, err := s.TCPConn.Write(b)
	s.written.Add(uint64(max(n, 0)))
	s.note(err)
	return n, err
}

// Written is how many bytes the kernel has taken.
func (s *socket) Written() uint64 { return s.written.Load() }

// Acked is how many of the bytes written the peer's TCP has acknowledged
// (tcp(7), TCP_INFO), those of a write under way too; what it had stays known
// after a RST, until the socket is closed.
func (s *socket) Acked() (n uint64, gone bool) {
	info := s.info()
	if info == nil {
		return 0, true
	}
	n = info.Bytes_acked - s.before
	if s.finished.Load() {
		n = min(n, s.written.Load()) // without the FIN
	}
	return n, info.State == unix.BPF_TCP_CLOSE
}

// info is what the kernel says of the connection; nil where the socket is closed.
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
		_ = s.raw.Read(s.in.is) // its error is Read's too
	}
}

// WaitWrite waits until Offer will take something, or fail.
func (s *socket) WaitWrite() error {
	if s.out.is == nil {
		s.out.of(unix.POLLOUT)
	}
	return s.raw.Write(s.out.is)
}

// Offer writes what the kernel has room for now, and says how much that was. It
// never waits. raw is not nil.
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
