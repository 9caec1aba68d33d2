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
// the other direction's write was told of it, the read would take what was cut off
// for whole, and pass it on as an orderly end.
func (s *socket) Read(b []byte) (int, error) {
	n, err := s.TCPConn.Read(b)
	if errors.Is(err, io.EOF) && s.wasReset() {
		err = &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: syscall.ECONNRESET}
	}
	return n, err
}

// CloseWrite sends a FIN. From then on no write can take the news of a RST away.
func (s *socket) CloseWrite() error {
	s.finished.Store(true)
	return s.TCPConn.CloseWrite()
}

// wasReset says whether the connection is no more although we have not closed our
// half. After a FIN of the other side it would be in CLOSE-WAIT (RFC 9293, section
// 3.3.2); Linux leaves for CLOSE at once only on a RST or an error of its own.
func (s *socket) wasReset() bool {
	return s.raw != nil && !s.finished.Load() && s.state() == unix.BPF_TCP_CLOSE
}
