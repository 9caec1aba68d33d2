package stack

import (
	"syscall"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func TestErrno(t *testing.T) {
	for _, tc := range []struct {
		terr tcpip.Error
		want syscall.Errno
	}{
		{&tcpip.ErrConnectionReset{}, syscall.ECONNRESET},
		{&tcpip.ErrAborted{}, syscall.ECONNRESET},
		{&tcpip.ErrTimeout{}, syscall.ETIMEDOUT},
		{&tcpip.ErrHostUnreachable{}, syscall.EHOSTUNREACH},
		{&tcpip.ErrNoNet{}, syscall.ENETUNREACH},
		{&tcpip.ErrConnectionRefused{}, syscall.ECONNREFUSED},
		{&tcpip.ErrConnectionAborted{}, syscall.ECONNABORTED},
		{&tcpip.ErrMessageTooLong{}, syscall.EMSGSIZE},
		{&tcpip.ErrNoBufferSpace{}, syscall.ENOBUFS},
		{&tcpip.ErrUnknownDevice{}, syscall.ECONNRESET},
		{nil, syscall.ECONNRESET},
	} {
		if got := errno(tc.terr); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.terr, got, tc.want)
		}
	}
}
