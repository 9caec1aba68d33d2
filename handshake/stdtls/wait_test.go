package stdtls

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// established is a session on a kernel socket, and the client's end.
func established(t *testing.T, version uint16) (*sessionConn, *tls.Conn, *net.TCPConn) {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	ctx := testenv.Context(t)
	client := tls.Client(cc, clientConfig(version, handshaketest.Fixtures().Client.TLS()))
	var wg sync.WaitGroup
	wg.Go(func() { _ = client.Handshake() })
	defer wg.Wait()
	hello, conn, err := handshake.Peek(ctx, sc, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := New().Server(ctx, conn, hello, handshaketest.ServerParams(), nil, handshake.NewLedger(time.Now()))
	if err != nil {
		t.Fatal(err)
	}
	s.Grant()
	t.Cleanup(func() { _ = s.Conn.Close() })
	return s.Conn.(*sessionConn), client, cc
}

// How a connection ended is told by Read, also where a wait without a buffer
// met it: a kernel socket tells of a RST once. A deadline can be moved.
func TestEndsMetWhileWaiting(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, c := range []struct {
			name string
			end  func(*tls.Conn, *net.TCPConn)
			want error
		}{
			{"reset", func(_ *tls.Conn, raw *net.TCPConn) { _ = raw.SetLinger(0); _ = raw.Close() }, syscall.ECONNRESET},
			{"FIN", func(_ *tls.Conn, raw *net.TCPConn) { _ = raw.Close() }, handshake.ErrNoCloseNotify},
			{"closed", func(c *tls.Conn, _ *net.TCPConn) { _ = c.CloseWrite() }, io.EOF},
		} {
			t.Run(tls.VersionName(version)+"/"+c.name, func(t *testing.T) {
				s, client, raw := established(t, version)
				_ = s.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
				s.WaitRead()
				if _, err := s.Read(make([]byte, 10)); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("read past the deadline: %v", err)
				}
				_ = s.SetReadDeadline(testenv.Deadline())
				c.end(client, raw)
				s.WaitRead()
				for range 2 {
					s.WaitRead()
					if n, err := s.Read(make([]byte, 10)); n != 0 || !errors.Is(err, c.want) {
						t.Errorf("%d bytes, %v, want %v", n, err, c.want)
					}
				}
			})
		}
	}
}

// A wait returns at once while a read has left something, and loses none of it,
// whatever the reads are long.
func TestWaitingLosesNothing(t *testing.T) {
	s, client, _ := established(t, tls.VersionTLS13)
	const size = 100_000
	go func() {
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(i % 251)
		}
		_, _ = client.Write(b)
		_ = client.CloseWrite()
	}()
	_ = s.SetReadDeadline(testenv.Deadline())
	for at, i := 0, 0; ; i++ {
		s.WaitRead()
		s.WaitRead()
		b := make([]byte, []int{1, 1, 2, 100, 1 << 14, 1, 20_000}[i%7])
		n, err := s.Read(b)
		for j := range n {
			if want := byte((at + j) % 251); b[j] != want {
				t.Fatalf("byte %d is %d, want %d", at+j, b[j], want)
			}
		}
		if at += n; err != nil {
			if at != size || !errors.Is(err, io.EOF) {
				t.Fatalf("%d bytes, %v", at, err)
			}
			return
		}
	}
}
