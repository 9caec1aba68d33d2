package gateway

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/stack"
)

// flood writes until the other side is gone.
func flood(c net.Conn) {
	block := make([]byte, 64<<10)
	for {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// silent keeps the connection until the other side resets it.
func silent(c net.Conn) {
	_, _ = io.ReadFull(c, make([]byte, 2))
	for {
		if _, err := c.Write(nil); err != nil {
			return
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A peer that holds a flow open and takes nothing, or that sends nothing after the other side has
// closed, is ended with a reason of its own. A peer that is only slow is not.
func TestHoldersAreEnded(t *testing.T) {
	testenv.Slow(t)
	// More than the client's receive buffer, less than that and our send
	// buffer together: no write of the relay ever waits.
	fit := make([]byte, 900<<10)
	for _, c := range []struct {
		name   string
		limits Limits
		origin func(net.Conn)
		client func(*tls.Conn)
		end    reason.Code
	}{
		{"client reads nothing", Limits{Stall: 400 * time.Millisecond}, flood, nil, reason.EndClientStalled},
		{
			"client reads nothing, and all fits into the send buffer", Limits{Stall: 2 * time.Second},
			func(c net.Conn) { _, _ = c.Write(fit); silent(c) }, nil, reason.EndClientStalled,
		},
		{
			"client drips", Limits{Stall: 600 * time.Millisecond}, flood,
			func(c *tls.Conn) {
				for range 60 {
					if _, err := c.NetConn().Read(make([]byte, 100)); err != nil {
						return
					}
					time.Sleep(30 * time.Millisecond)
				}
			}, reason.EndClientStalled,
		},
		{
			"client is slow", Limits{Stall: 1500 * time.Millisecond},
			func(c net.Conn) { _, _ = c.Write(make([]byte, 3<<20)) },
			func(c *tls.Conn) {
				buf := make([]byte, 64<<10)
				for {
					if _, err := io.ReadFull(c, buf); err != nil {
						return
					}
					time.Sleep(40 * time.Millisecond)
				}
			}, reason.EndClean,
		},
		{
			"destination reads nothing", Limits{Stall: 400 * time.Millisecond},
			nil, // until the test is over
			func(c *tls.Conn) { flood(c) }, reason.EndDestinationStalled,
		},
		{
			"client has closed, destination is silent", Limits{HalfClosed: 300 * time.Millisecond}, silent,
			func(c *tls.Conn) { _ = c.CloseWrite() }, reason.EndHalfClosed,
		},
		{
			"destination has closed, client is silent", Limits{HalfClosed: 300 * time.Millisecond},
			func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite(); silent(c) }, nil, reason.EndHalfClosed,
		},
		{
			"client has closed, destination still sends", Limits{HalfClosed: 1200 * time.Millisecond},
			func(c net.Conn) {
				_, _ = io.Copy(io.Discard, c)
				for range 25 {
					_, _ = c.Write([]byte("more"))
					time.Sleep(60 * time.Millisecond)
				}
			},
			func(c *tls.Conn) {
				_ = c.CloseWrite()
				_, _ = io.Copy(io.Discard, c)
			}, reason.EndClean,
		},
		{"nobody sends", Limits{Idle: 300 * time.Millisecond}, silent, nil, reason.EndIdle},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			h := newHouse(t, mtls(), func(conn net.Conn) {
				_, _ = io.ReadFull(conn, make([]byte, 2))
				if c.origin == nil {
					<-over
					return
				}
				c.origin(conn)
			}, func(cfg *Config) { c.limits.Handshake = cfg.Limits.Handshake; cfg.Limits = c.limits })
			t.Cleanup(func() { close(over) })
			conn, err := h.tlsClient(server4, h.alice(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write([]byte("hi")); err != nil {
				t.Fatal(err)
			}
			if c.client != nil {
				c.client(conn)
			}
			if c.end == reason.EndClean {
				_ = conn.Close()
			}
			r := h.record(1)
			if r.str("end") != string(c.end) || r.str("verdict") != "allowed" {
				t.Errorf("end %s (%s), want %s", r.str("end"), r.str("end_detail"), c.end)
			}
		})
	}
}

// A wait is over when all data that waited at its beginning is taken, or 16 KiB of it. A peer
// that is not heard of is lost and not stalled.
func TestStall(t *testing.T) {
	const limit = time.Minute
	at := time.Unix(0, 0)
	type step struct {
		after       time.Duration
		p           stack.Progress
		alive, over bool
	}
	const much = 1 << 20
	for name, steps := range map[string][]step{
		"nothing waits":                     {{0, stack.Progress{}, false, false}, {2 * limit, stack.Progress{Heard: 5}, false, false}},
		"closed window":                     {{0, stack.Progress{Waiting: 9, Heard: 1}, false, false}, {limit - 1, stack.Progress{Waiting: 9, Heard: 4}, true, false}, {1, stack.Progress{Waiting: 9, Heard: 5}, true, true}},
		"gone":                              {{0, stack.Progress{Waiting: 9, Heard: 4, Sent: 2}, false, false}, {limit, stack.Progress{Waiting: 9, Heard: 4, Sent: 9}, false, true}},
		"window too small to send anything": {{0, stack.Progress{Waiting: 9, Heard: 4, Sent: 2}, false, false}, {limit, stack.Progress{Waiting: 9, Heard: 4, Sent: 2}, true, true}},
		"all was taken":                     {{0, stack.Progress{Waiting: 9}, false, false}, {limit, stack.Progress{Waiting: 700, Taken: 9, Heard: 1}, false, false}, {limit, stack.Progress{Waiting: 700, Taken: 10, Heard: 2}, true, true}},
		"drips":                             {{0, stack.Progress{Waiting: much}, false, false}, {limit, stack.Progress{Waiting: much, Taken: stallBytes - 1, Heard: 1}, true, true}},
		"slow":                              {{0, stack.Progress{Waiting: much}, false, false}, {limit, stack.Progress{Waiting: much, Taken: stallBytes, Heard: 1}, false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			var now stack.Progress
			s, clock := newStall(func() (stack.Progress, bool) { return now, true }, at), at
			for i, st := range steps {
				clock, now = clock.Add(st.after), st.p
				alive, over := s.look(clock, limit)
				if over != st.over || over && alive != st.alive {
					t.Errorf("step %d: alive %v, over %v, want %v, %v", i, alive, over, st.alive, st.over)
				}
			}
		})
	}
}
