package gateway

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Read reads as the kernel does, but for one thing: the end of a connection that was
// reset is a reset. Linux tells of a RST once, to the call that asks first, and of the
// end of the stream from then on (tcp_recvmsg_locked: sk_err, then SOCK_DONE). Where
// a write was told of it, the read would take what was cut off for whole, and pass it
// on as an orderly end. A RST after the FIN of the other side takes nothing from what
// came before; Linux tells a write of it with EPIPE (tcp_reset).
func (s *socket) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	switch {
	case errors.Is(err, io.EOF):
		if errno := s.broke(); errno != 0 {
			err = &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: errno}
		}
	case err != nil:
		s.note(err)
	}
	return n, err
}

// broke is the error by which a call was told that the connection is no more; 0
// where none was. A write that was just told of it may not have noted it yet: it is
// waited for. That takes no time, as in CLOSE no write waits.
func (s *socket) broke() syscall.Errno {
	if info := s.info(); info == nil || info.State == unix.BPF_TCP_CLOSE {
		s.writing.Lock()
		defer s.writing.Unlock()
	}
	return syscall.Errno(s.broken.Load())
}

// note keeps what Linux tells only once. A write that calls it has s.writing.
func (s *socket) note(err error) {
	for _, errno := range []syscall.Errno{syscall.ECONNRESET, syscall.ETIMEDOUT} {
		if errors.Is(err, errno) {
			s.broken.Store(uint32(errno))
		}
	}
}

// CloseWrite sends a FIN, unless it fails.
func (s *socket) CloseWrite() error {
	err := s.TCPConn.CloseWrite()
	if err == nil {
		s.finished.Store(true)
	}
	return err
}
