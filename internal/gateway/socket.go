package gateway

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// socket is a kernel connection that can wait for data without a buffer.
type socket struct {
	*net.TCPConn
	raw  syscall.RawConn // nil where there is none
	poll [1]unix.PollFd
	some func(fd uintptr) bool
}

func newSocket(c *net.TCPConn) *socket {
	s := &socket{TCPConn: c}
	raw, err := c.SyscallConn()
	if err != nil {
		return s
	}
	s.raw = raw
	s.some = func(fd uintptr) bool {
		// Not a read that leaves the data: it would take an error away.
		s.poll[0] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		n, err := unix.Poll(s.poll[:], 0)
		for err == unix.EINTR { // what has come is not told again
			n, err = unix.Poll(s.poll[:], 0)
		}
		return n != 0
	}
	return s
}

// WaitRead waits until Read will return something: data, an end or an error.
// One goroutine may wait at a time.
func (s *socket) WaitRead() {
	if s.raw != nil {
		_ = s.raw.Read(s.some) // its error is Read's too
	}
}
