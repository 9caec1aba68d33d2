package stdtls

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// cutter ends the connection when so many bytes were written, in the middle of
// whatever it is: with a FIN, or with a RST.
type cutter struct {
	*net.TCPConn
	left  int
	reset bool
}

func (c *cutter) Write(b []byte) (int, error) {
	if len(b) < c.left {
		c.left -= len(b)
		return c.TCPConn.Write(b)
	}
	_, _ = c.TCPConn.Write(b[:c.left])
	c.left = 0
	if c.reset {
		_ = c.SetLinger(0)
	}
	_ = c.TCPConn.Close()
	return 0, net.ErrClosed
}

// A peer that goes anywhere within its handshake, at whatever byte, is told of as
// gone: never as a defect of ours, never after the deadline, and it has no ticket.
func TestCutAnywhere(t *testing.T) {
	f := handshaketest.Fixtures()
	gone := map[reason.Code]bool{
		reason.HelloEOF: true, reason.HelloReset: true, reason.HandshakeEOF: true, reason.HandshakeReset: true, reason.UpstreamFailed: true,
	}
	for _, version := range bothVersions {
		for _, reset := range []bool{false, true} {
			const step = 131 // a prime, so that every place of a record comes by
			for at, whole := 0, false; !whole; at += step {
				cache := newCounted()
				config := clientConfig(version, f.Client.TLS())
				config.ClientSessionCache = cache
				o := handshakeWith(t, ticketParams(ticket.NewKeys(0)), nil, func(conn *net.TCPConn) {
					_ = tls.Client(&cutter{conn, at, reset}, config).Handshake()
				})
				if whole = o.err == nil; !whole && (!gone[o.err.Reason] || cache.count() != 0) {
					t.Errorf("%s, client cut after %d bytes, reset %v: %v, %d tickets", handshake.VersionName(version), at, reset, o.err, cache.count())
				}
				if at > 1<<16 {
					t.Fatal("no handshake is ever whole")
				}
			}
			for at, whole := 0, false; !whole; at += step {
				cc, sc := testenv.TCPPair(t)
				ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
				done := make(chan struct{})
				go func() {
					defer close(done)
					_ = tls.Server(&cutter{sc, at, reset}, serverConfig(version, f.Gateway)).Handshake()
				}()
				_, err := New().Client(ctx, cc, clientParams(), nil, handshake.NewLedger(time.Now()))
				cancel()
				_ = cc.Close()
				_ = sc.Close()
				<-done
				if whole = err == nil; !whole && !gone[handshake.AsError(err).Reason] {
					t.Errorf("%s, destination cut after %d bytes, reset %v: %v", handshake.VersionName(version), at, reset, err)
				}
				if at > 1<<16 {
					t.Fatal("no handshake is ever whole")
				}
			}
		}
	}
}
