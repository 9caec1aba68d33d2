package dialer

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// markOf is the mark of a connection's socket.
func markOf(t *testing.T, c syscall.Conn) int {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	mark := -1
	if err := raw.Control(func(fd uintptr) { mark, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return mark
}

// Connections carry the mark, and so do questions to name servers, by UDP and by TCP.
func TestMark(t *testing.T) {
	testenv.Root(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, mark := range []Mark{0, 0x50} {
		called := 0
		d := mark.Dialer(func(network string, fd int) error { called++; return nil })
		c, err := d.DialContext(t.Context(), "tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if got := markOf(t, c.(*net.TCPConn)); got != int(mark) || called != 1 {
			t.Errorf("mark %#x: the socket has %#x, prepared %d times", mark, got, called)
		}
		_ = c.Close()
		if (d.Resolver != nil) != (mark != 0) {
			t.Errorf("mark %#x: resolver %v", mark, d.Resolver)
		}
		if mark == 0 {
			continue
		}
		for _, network := range []string{"udp", "tcp"} {
			c, err := d.Resolver.Dial(t.Context(), network, ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if got := markOf(t, c.(syscall.Conn)); got != int(mark) {
				t.Errorf("a question by %s has mark %#x", network, got)
			}
			_ = c.Close()
		}
		if err := mark.Check(); err != nil {
			t.Error(err)
		}
	}
}

// What cannot be prepared is not dialled.
func TestNotPrepared(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	mine := errors.New("mine")
	c, err := Mark(0).Dialer(func(string, int) error { return mine }).DialContext(t.Context(), "tcp", ln.Addr().String())
	if !errors.Is(err, mine) {
		t.Errorf("%v, %v", c, err)
	}
}

func TestUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Unix(context.Background(), path, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	_ = ln.Close()
	if _, err := Unix(context.Background(), path, 0); err == nil {
		t.Error("nobody listens")
	}
}
