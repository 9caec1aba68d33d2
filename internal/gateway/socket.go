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

// Acked is how many of them the peer's TCP has acknowledged (tcp(7), SIOCOUTQ);
// what it had stays known after a RST, until the socket is closed.
func (s *socket) Acked() (n uint64, gone bool) {
	written := s.written.Load()
	gone = s.state() == unix.BPF_TCP_CLOSE
	waiting, err := 0, errors.ErrUnsupported
	if s.raw != nil {
		_ = s.raw.Control(func(fd uintptr) { waiting, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) })
	}
	if err != nil {
		return 0, true
	}
	if waiting > 0 && s.finished.Load() {
		waiting-- // the FIN
	}
	return written - min(uint64(waiting), written), gone
}

// state is TCP's; CLOSE where the socket is closed.
func (s *socket) state() uint8 {
	state := uint8(unix.BPF_TCP_CLOSE)
	if s.raw != nil {
		_ = s.raw.Control(func(fd uintptr) {
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				state = info.State
			}
		})
	}
	return state
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
