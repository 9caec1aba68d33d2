package gateway

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketPair is a connection of the kernel: our end and the destination's.
func socketPair(t *testing.T) (ours *socket, theirs *net.TCPConn) {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	c, err := net.DialTCP("tcp", nil, ln.Addr().(*net.TCPAddr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	theirs, err = ln.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	return newSocket(c), theirs
}

// until waits for an event of the socket without taking anything away from it.
func (s *socket) until(t *testing.T, events int16) {
	t.Helper()
	poll := []unix.PollFd{{Events: events}}
	err := s.raw.Control(func(fd uintptr) {
		poll[0].Fd = int32(fd)
		for {
			if n, err := unix.Poll(poll, 60_000); !errors.Is(err, unix.EINTR) {
				if n != 1 || err != nil {
					t.Errorf("poll: %d, %v", n, err)
				}
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Whichever call is told of the RST, the read reports a reset, after all data from before it.
func TestReadAfterReset(t *testing.T) {
	for name, taken := range map[string]func(*socket) error{
		"nobody was told": nil,
		"a write was told": func(s *socket) error {
			_, err := s.Write([]byte("x"))
			return err
		},
		"an offer was told": func(s *socket) error {
			_, err := s.Offer([][]byte{[]byte("x")})
			return err
		},
		"a write was told, and then a FIN was to be sent": func(s *socket) error {
			_, err := s.Write([]byte("x"))
			if err := s.CloseWrite(); err == nil {
				return errors.New("a FIN after a RST")
			}
			if s.finished.Load() {
				return errors.New("a FIN that was not sent counts")
			}
			return err
		},
		"an offer was told, and then a FIN was to be sent": func(s *socket) error {
			_, err := s.Offer([][]byte{[]byte("x")})
			_ = s.CloseWrite()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, theirs := socketPair(t)
			if _, err := theirs.Write([]byte("half an answer")); err != nil {
				t.Fatal(err)
			}
			s.until(t, unix.POLLIN)
			_ = theirs.SetLinger(0)
			_ = theirs.Close()
			s.until(t, unix.POLLHUP)
			if taken != nil {
				if err := taken(s); !isReset(err) {
					t.Fatalf("it was told %v", err)
				}
			}
			got := make([]byte, 64)
			n, err := s.Read(got)
			if string(got[:n]) != "half an answer" || err != nil {
				t.Errorf("%q, %v", got[:n], err)
			}
			for range 2 {
				if n, err := s.Read(got); n != 0 || !isReset(err) {
					t.Errorf("the end is %d, %v, want a reset", n, err)
				}
			}
		})
	}
}

// A RST after the FIN takes nothing from the data before it: it answers data that was written
// to a peer that had closed.
func TestReadAfterFINAndReset(t *testing.T) {
	for name, told := range map[string]bool{"nobody was told": false, "a write was told": true} {
		t.Run(name, func(t *testing.T) {
			s, theirs := socketPair(t)
			if _, err := theirs.Write([]byte("all of it")); err != nil {
				t.Fatal(err)
			}
			_ = theirs.Close() // all is read there: a FIN
			s.until(t, unix.POLLRDHUP)
			if _, err := s.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			s.until(t, unix.POLLHUP)
			if told {
				if _, err := s.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
					t.Fatalf("it was told %v", err)
				}
			}
			got := make([]byte, 64)
			if n, err := s.Read(got); string(got[:n]) != "all of it" || err != nil {
				t.Errorf("%q, %v", got[:n], err)
			}
			for range 2 {
				if n, err := s.Read(got); n != 0 || !errors.Is(err, io.EOF) {
					t.Errorf("the end is %d, %v, want EOF", n, err)
				}
			}
		})
	}
}

// An orderly end stays one, in every order of the two ends.
func TestReadAfterFIN(t *testing.T) {
	for _, first := range []bool{false, true} {
		s, theirs := socketPair(t)
		if first {
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = theirs.Write([]byte("all of it"))
		_ = theirs.CloseWrite()
		if b, err := io.ReadAll(s); string(b) != "all of it" || err != nil {
			t.Errorf("our end first: %t: %q, %v", first, b, err)
		}
		for range 2 {
			if n, err := s.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
				t.Errorf("our end first: %t: then %d, %v", first, n, err)
			}
		}
		if first {
			continue
		}
		if _, err := s.Write([]byte("x")); err != nil {
			t.Errorf("half-closed: %v", err)
		}
	}
}
