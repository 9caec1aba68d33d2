package stack

import (
	"errors"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// ErrRunTwice is returned by Run when it is called a second time.
var ErrRunTwice = errors.New("stack: Run called twice")

// errno translates a netstack error that ended a connection into the errno that a
// kernel socket would return, so that errors.Is works the same.
func errno(err tcpip.Error) syscall.Errno {
	switch err.(type) {
	case *tcpip.ErrTimeout:
		return syscall.ETIMEDOUT
	case *tcpip.ErrHostUnreachable, *tcpip.ErrHostDown:
		return syscall.EHOSTUNREACH
	case *tcpip.ErrNetworkUnreachable, *tcpip.ErrNoNet:
		return syscall.ENETUNREACH
	case *tcpip.ErrConnectionRefused:
		return syscall.ECONNREFUSED
	case *tcpip.ErrConnectionAborted:
		return syscall.ECONNABORTED
	case *tcpip.ErrMessageTooLong:
		return syscall.EMSGSIZE
	case *tcpip.ErrNoBufferSpace:
		return syscall.ENOBUFS
	}
	// ErrConnectionReset; ErrAborted, which netstack returns for a RST that came after
	// the peer's FIN; and every unknown error: the connection is gone without an
	// orderly end.
	return syscall.ECONNRESET
}
