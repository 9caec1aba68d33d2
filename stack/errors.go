package stack

import (
	"errors"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// ErrRunTwice is returned by Run when it is called a second time.
var ErrRunTwice = errors.New("stack: Run called twice")

// errno translates an error that ended a connection into the errno the kernel
// has for it, so that errors.Is works as with a kernel socket.
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
	// ErrConnectionReset, and ErrAborted: what netstack calls a RST that
	// came after the peer's FIN. Anything unknown is a connection that is no
	// more, without an orderly end.
	return syscall.ECONNRESET
}
