package gateway

import (
	"errors"
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Read is TCPConn's Read, but the end of a connection that was reset is an error. Linux
// reports a RST once, to the first call that asks, and from then on the end of the stream
// (tcp_recvmsg_locked: sk_err, then SOCK_DONE). If a write got that report, Read would take
// a truncated stream for complete and pass an orderly end on. A RST after the other side's
// FIN truncates nothing; Linux reports it to a write as EPIPE (tcp_reset).
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

// broke is the error by which a call learned that the connection is gone; 0 if none did. A
// write that has just learned it may not have noted it yet, so broke waits for that write.
// The wait is short, because in the state CLOSE no write blocks.
func (s *socket) broke() syscall.Errno {
	if info := s.info(); info == nil || info.State == unix.BPF_TCP_CLOSE {
		s.writing.Lock()
		defer s.writing.Unlock()
	}
	return syscall.Errno(s.broken.Load())
}

// note keeps an error that Linux reports only once. The writer that calls it holds s.writing.
func (s *socket) note(err error) {
	for _, errno := range []syscall.Errno{syscall.ECONNRESET, syscall.ETIMEDOUT} {
		if errors.Is(err, errno) {
			s.broken.Store(uint32(errno))
		}
	}
}

// Cork makes a small write wait for the FIN, for at most 200 ms (tcp(7), TCP_CORK). An error
// means that the socket is gone.
func (s *socket) Cork(on bool) {
	value := 0
	switch {
	case s.raw == nil, !on && s.finished.Load(): // the FIN has sent what waited
		return
	case on:
		value = 1
	}
	_ = s.raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, value) })
}

// CloseWrite sends a FIN, unless it fails.
func (s *socket) CloseWrite() error {
	err := s.TCPConn.CloseWrite()
	if err == nil {
		s.finished.Store(true)
	}
	return err
}
