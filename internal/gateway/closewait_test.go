package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack"
)

// narrow is a connection without buffers: what its peer does not read waits.
type narrow struct {
	net.Conn
	waiting, taken atomic.Int64
	finished       atomic.Bool
}

func (c *narrow) Write(b []byte) (int, error) {
	c.waiting.Add(int64(len(b)))
	n, err := c.Conn.Write(b)
	c.waiting.Add(-int64(len(b)))
	c.taken.Add(int64(n))
	return n, err
}

func (c *narrow) CloseWrite() error {
	c.finished.Store(true)
	return nil
}

func (c *narrow) progress() (stack.Progress, bool) {
	return stack.Progress{Waiting: int(c.waiting.Load()), Taken: uint64(c.taken.Load())}, true
}

// narrowSession is a session on a connection without buffers, and its peer.
func narrowSession(t *testing.T, server tls.Certificate, now time.Time) (*handshake.Session, *narrow, *tls.Conn) {
	t.Helper()
	below, far := net.Pipe()
	c := &narrow{Conn: below}
	clock := func() time.Time { return now }
	peer := tls.Client(far, &tls.Config{InsecureSkipVerify: true, Time: clock})
	shaken := make(chan error, 1)
	go func() { shaken <- peer.Handshake() }()
	hello, conn, err := handshake.Peek(t.Context(), c, 0)
	if err != nil {
		t.Fatal(err)
	}
	profiles, err := handshake.ResolveProfiles(nil, stdtls.New().Capabilities())
	if err != nil {
		t.Fatal(err)
	}
	p := &handshake.ServerParams{
		Params:     handshake.Params{Profile: profiles["intermediate"], Certificates: []tls.Certificate{server}, Now: clock},
		ClientAuth: handshake.ClientAuthNone,
	}
	s, err := stdtls.New().Server(t.Context(), conn, hello, p, nil, handshake.NewLedger(now))
	if err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	s.Grant()
	return s, c, peer
}

// The end of one side is told to the other, however long that side takes to make room for it,
// in the same bounds as data: half_closed does not end the flow, limits.stall does.
func TestOrderlyEndWaitsForRoom(t *testing.T) {
	now := time.Now() // within the bubble it is the year 2000
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	server := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
	const stall = 2 * time.Minute
	for _, c := range []struct {
		name  string
		reads time.Duration // the peer, after this; 0: never
		drain time.Duration // after this; 0: never
		end   map[bool]reason.Code
		least time.Duration
	}{
		{"after a minute", time.Minute, 0, map[bool]reason.Code{true: reason.EndClean, false: reason.EndClean}, time.Minute},
		{"after six seconds", 6 * time.Second, 0, map[bool]reason.Code{true: reason.EndClean, false: reason.EndClean}, 6 * time.Second},
		{"never", 0, 0, map[bool]reason.Code{true: reason.EndClientStalled, false: reason.EndDestinationStalled}, stall},
		{"the gateway is stopped", 0, time.Minute, map[bool]reason.Code{true: reason.EndDrain, false: reason.EndDrain}, time.Minute},
	} {
		for _, client := range []bool{true, false} {
			t.Run(c.name+map[bool]string{true: "/client", false: "/destination"}[client], func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s, below, peer := narrowSession(t, server, now)
					near, far := net.Pipe()
					plain := &narrow{Conn: near}
					with := relayEnd{Conn: s.Conn, reset: func() { _ = below.Close() }, name: "with TLS", onStall: c.end[client]}
					without := relayEnd{Conn: plain, reset: func() { _ = near.Close() }, name: "plain"}
					r := &relay{
						spawn: func(f func()) { go f() }, pool: newBufferPool(), memory: unmeasured{},
						over: make(chan struct{}), dead: make(chan struct{}),
						idle: time.Hour, stall: stall, halfClosed: 3 * time.Second,
						client: without, dest: with, destProgress: below.progress,
					}
					if client {
						r.client, r.dest, r.clientProgress, r.destProgress = with, without, below.progress, nil
					}
					r.client.done, r.dest.done = make(chan struct{}), make(chan struct{})
					ctx, cancel := context.WithCancel(t.Context())
					defer cancel()
					over := make(chan struct{})
					go func() { defer close(over); r.run(ctx) }()
					// All data arrives; what is next finds no room.
					go func() { _, _ = far.Write([]byte("all of it")); _ = far.Close() }()
					if got := make([]byte, 9); true {
						if _, err := io.ReadFull(peer, got); err != nil || string(got) != "all of it" {
							t.Fatalf("%q, %v", got, err)
						}
					}
					began := time.Now()
					if c.drain > 0 {
						time.AfterFunc(c.drain, cancel)
					}
					if c.reads > 0 {
						time.Sleep(c.reads)
						if n, err := peer.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
							t.Errorf("the peer read %d bytes, %v, want a close_notify", n, err)
						}
						if synctest.Wait(); !below.finished.Load() {
							t.Error("no FIN behind it")
						}
						_ = peer.CloseWrite()
					}
					<-over
					took := time.Since(began)
					if r.end != c.end[client] || took < c.least || took > 2*stall {
						t.Errorf("end %q (%s) after %v", r.end, r.detail, took)
					}
					_ = peer.NetConn().Close()
				})
			})
		}
	}
}
