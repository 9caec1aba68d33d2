package stdtls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// An orderly end waits for a peer that makes no room for it, as data does; a deadline
// or the end of the connection below ends the waiting.
func TestCloseWriteWaits(t *testing.T) {
	for _, c := range []struct {
		name string
		// meanwhile happens after a minute; the peer reads only after it.
		meanwhile func(s *handshake.Session, below net.Conn)
		whole     bool // the peer gets the close_notify
		err       error
	}{
		{"the peer reads at last", func(*handshake.Session, net.Conn) {}, true, nil},
		{"a deadline that comes", func(s *handshake.Session, _ net.Conn) { _ = s.Conn.SetWriteDeadline(time.Now()) }, false, os.ErrDeadlineExceeded},
		{"all deadlines come", func(s *handshake.Session, _ net.Conn) { _ = s.Conn.SetDeadline(time.Now()) }, false, os.ErrDeadlineExceeded},
		{"a deadline that is far off", func(s *handshake.Session, _ net.Conn) { _ = s.Conn.SetWriteDeadline(time.Now().Add(time.Hour)) }, true, nil},
		{"the connection below is closed", func(_ *handshake.Session, below net.Conn) { _ = below.Close() }, false, io.ErrClosedPipe},
	} {
		for _, version := range bothVersions {
			t.Run(c.name+"/"+handshake.VersionName(version), func(t *testing.T) {
				handshaketest.Fixtures() // outside of the bubble,
				now := time.Now()        // in which it is the year 2000
				synctest.Test(t, func(t *testing.T) {
					below, peer := net.Pipe() // has no buffer: what is not read waits
					cfg := clientConfig(version, handshaketest.Fixtures().Client.TLS())
					cfg.Time = func() time.Time { return now }
					tc := tls.Client(peer, cfg)
					shaken := make(chan error, 1)
					go func() { shaken <- tc.Handshake() }()
					hello, conn, err := handshake.Peek(t.Context(), below, 0)
					if err != nil {
						t.Fatal(err)
					}
					s, err := New().Server(context.Background(), conn, hello, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Now = cfg.Time }), nil, handshake.NewLedger(time.Now()))
					if err != nil {
						t.Fatal(err)
					}
					if err := <-shaken; err != nil {
						t.Fatal(err)
					}
					s.Grant()
					ended := make(chan error, 1)
					go func() { ended <- s.Conn.CloseWrite() }()
					time.Sleep(time.Minute)
					select {
					case err := <-ended:
						t.Errorf("it did not wait: %v", err)
					default:
					}
					c.meanwhile(s, below)
					synctest.Wait()
					if c.whole {
						if n, err := tc.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
							t.Errorf("the peer read %d bytes, %v", n, err)
						}
					}
					if err := <-ended; !errors.Is(err, c.err) {
						t.Errorf("it ended with %v, want %v", err, c.err)
					}
					_, _ = below.Close(), peer.Close()
				})
			})
		}
	}
}
