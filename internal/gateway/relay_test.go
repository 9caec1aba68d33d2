package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

// How one side ends is how the other sees it end, and what the record says.
func TestEndsArePassedOn(t *testing.T) {
	reset := func(c net.Conn) {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	for _, c := range []struct {
		name, end string
		origin    func(net.Conn)
		client    func(*tls.Conn, interface{ Reset() })
		clientErr error // of the client's read
		originErr error // of the origin's read
	}{
		{"origin resets", "destination_reset", reset, nil, syscall.ECONNRESET, nil},
		{"origin closes", "closed", func(c net.Conn) { _ = c.Close() }, nil, io.EOF, nil},
		{"client resets", "client_reset", nil, func(_ *tls.Conn, raw interface{ Reset() }) { raw.Reset() }, nil, syscall.ECONNRESET},
		{"client ends without close_notify", "closed_without_notify", nil, func(c *tls.Conn, _ interface{ Reset() }) {
			_ = c.NetConn().(interface{ CloseWrite() error }).CloseWrite()
		}, syscall.ECONNRESET, syscall.ECONNRESET},
		{"client closes", "closed", nil, func(c *tls.Conn, _ interface{ Reset() }) { _ = c.CloseWrite() }, io.EOF, io.EOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			seen := make(chan error, 1)
			serve := c.origin
			if serve == nil {
				serve = func(conn net.Conn) {
					_, err := io.ReadFull(conn, make([]byte, 1<<20))
					if errors.Is(err, io.ErrUnexpectedEOF) {
						err = io.EOF
					}
					seen <- err
				}
			}
			h := newHouse(t, mtls(), func(conn net.Conn) {
				_, _ = io.ReadFull(conn, make([]byte, 2))
				serve(conn)
			})
			conn, err := h.tlsClient(server4, h.alice(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Write([]byte("hi")); err != nil {
				t.Fatal(err)
			}
			if c.client != nil {
				c.client(conn, conn.NetConn().(interface{ Reset() }))
			}
			if c.clientErr != nil {
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, c.clientErr) {
					t.Errorf("client: %v, want %v", err, c.clientErr)
				}
			}
			if c.originErr != nil {
				if err := <-seen; !errors.Is(err, c.originErr) {
					t.Errorf("origin: %v, want %v", err, c.originErr)
				}
			}
			_ = conn.Close()
			if r := h.record(1); r.str("end") != c.end || r.str("verdict") != "allowed" {
				t.Errorf("end %s (%s), want %s", r.str("end"), r.str("end_detail"), c.end)
			}
		})
	}
}

func TestIdleAndDrain(t *testing.T) {
	t.Parallel()
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Limits.Idle = 1500 * time.Millisecond })
	conn, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Traffic keeps it alive beyond the idle time.
	for range 20 {
		echo(t, conn)
		time.Sleep(100 * time.Millisecond)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("idle client: %v", err)
	}
	if r := h.record(1); r.str("end") != "idle_timeout" {
		t.Errorf("end %s", r.str("end"))
	}

	h = newHouse(t, mtls(), nil)
	if conn, err = h.tlsClient(server4, h.alice(), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := h.gw.Drain(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drain with a live flow: %v", err)
	}
	if _, err := h.client.Dial(t.Context(), server4); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a new flow while draining: %v", err)
	}
	h.stop()
	var ends []string
	for _, r := range h.records.all(t) {
		ends = append(ends, r.str("reason")+"/"+r.str("end"))
	}
	if got := strings.Join(ends, " "); !strings.Contains(got, "verified/drain_deadline") || !strings.Contains(got, "draining/") {
		t.Errorf("records: %s", got)
	}
	_ = conn.Close()
}

// A defect ends its own flow and nothing else.
type panicEngine struct{ handshake.Engine }

func (e panicEngine) Server(ctx context.Context, c net.Conn, h *handshake.ClientHello, p *handshake.ServerParams, check handshake.CheckPeer, l *handshake.Ledger) (*handshake.Session, error) {
	if h.ServerName == "boom.shop.example" {
		panic("boom")
	}
	return e.Engine.Server(ctx, c, h, p, check, l)
}

func TestDefectEndsOneFlow(t *testing.T) {
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Engine = panicEngine{c.Engine} })
	good, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.tlsClient(server4, h.alice(), func(c *tls.Config) { c.ServerName = "boom.shop.example" }); err == nil {
		t.Error("the flow of the defect went on")
	}
	if r := h.record(1); r.str("reason") != "internal_error" || r.str("detail") != "boom" || r.str("verdict") != "failed" {
		t.Errorf("record %v", r)
	}
	if _, err := good.Write([]byte("x")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(good, make([]byte, 1)); err != nil {
		t.Errorf("the other flow: %v", err)
	}
	_ = good.Close()
}

func TestForbiddenDestinations(t *testing.T) {
	spec := mtls()
	spec.Rules[0].To = []string{"0.0.0.0/0:443", "[::]/0:443"}
	spec.Rules = append([]policy.RuleSpec{{Name: "named", To: []string{"203.0.113.1:443"}, Action: "bypass"}}, spec.Rules...)
	h := newHouse(t, spec, nil, func(c *Config) {
		c.Own = func() ([]netip.Prefix, error) {
			return []netip.Prefix{netip.MustParsePrefix("203.0.113.1/24"), netip.MustParsePrefix("203.0.113.9/24")}, nil
		}
		c.Refused = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	})
	for i, c := range []struct{ dst, reason string }{
		{"169.254.1.1:443", "destination_forbidden"},
		{"[fe80::1]:443", "destination_forbidden"},
		{"203.0.113.9:443", "destination_forbidden"},  // the gateway's own
		{"198.51.100.3:443", "destination_forbidden"}, // the TUN's
		{"203.0.113.5:443", "verified"},               // in its network, not its own
	} {
		conn, err := h.tlsClient(netip.MustParseAddrPort(c.dst), h.alice(), nil)
		if err == nil {
			_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			_, _ = conn.Read(make([]byte, 1)) // RST, or nothing
			_ = conn.Close()
		}
		if r := h.record(i + 1); r.str("reason") != c.reason {
			t.Errorf("%s: reason %s (%s), want %s", c.dst, r.str("reason"), r.str("detail"), c.reason)
		}
	}
	if d := h.dials.Load(); d != 1 {
		t.Errorf("%d dials, want 1", d)
	}
	// A rule that names the gateway's own address exactly lifts the ban.
	raw := h.dial(netip.MustParseAddrPort("203.0.113.1:443"))
	if _, err := raw.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(raw, make([]byte, 1)); err != nil {
		t.Errorf("the named address: %v", err)
	}
	_ = raw.Close()
	// Loopback cannot even arrive as a packet; the check stands all the same.
	for _, a := range []string{"127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:127.0.0.1"} {
		if why, err := h.gw.forbidden(netip.MustParseAddr(a), false, true); why == "" || err != nil {
			t.Errorf("%s may be dialled (%v)", a, err)
		}
	}
}

func TestDialErrorsHaveReasons(t *testing.T) {
	for _, c := range []struct {
		err    error
		reason string
	}{
		{syscall.ECONNREFUSED, "destination_refused"}, {syscall.EHOSTUNREACH, "destination_unreachable"},
		{context.DeadlineExceeded, "destination_timeout"}, {errors.New("what"), "destination_unreachable"},
	} {
		h := newHouse(t, mtls(), nil, func(cfg *Config) {
			cfg.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Err: c.err}
			}
		})
		conn, err := h.tlsClient(server4, h.alice(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("client: %v, want a reset and no close_notify", err)
		}
		if r := h.record(1); r.str("reason") != c.reason || r.str("verdict") != "failed" {
			t.Errorf("%v: reason %s, want %s", c.err, r.str("reason"), c.reason)
		}
	}
}

// TLS to the destination: its name and chain are verified, and each fault ends the flow with
// its own reason.
func TestDestinationTLS(t *testing.T) {
	spec := mtls()
	spec.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}}
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other"}))
	for _, c := range []struct {
		name, reason string
		leaf         testpki.Leaf
		other        bool
		max          uint16
	}{
		{"good", "verified", testpki.Leaf{DNS: []string{"pay.example"}}, false, tls.VersionTLS13},
		{"good 1.2", "verified", testpki.Leaf{DNS: []string{"pay.example"}}, false, tls.VersionTLS12},
		{"wrong name", "destination_wrong_name", testpki.Leaf{DNS: []string{"evil.example"}}, false, tls.VersionTLS13},
		{"other CA", "destination_unknown_ca", testpki.Leaf{DNS: []string{"pay.example"}}, true, tls.VersionTLS13},
		{"expired", "destination_certificate_expired", testpki.Leaf{DNS: []string{"pay.example"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}, false, tls.VersionTLS13},
		{"TLS 1.1", "destination_weak_cryptography", testpki.Leaf{DNS: []string{"pay.example"}}, false, tls.VersionTLS11},
	} {
		t.Run(c.name, func(t *testing.T) {
			var cert tls.Certificate
			var mu sync.Mutex
			h := newHouse(t, spec, func(conn net.Conn) {
				mu.Lock()
				cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS10, MaxVersion: c.max}
				mu.Unlock()
				s := tls.Server(conn, cfg)
				_, _ = io.Copy(s, s)
				_ = s.Close()
			})
			ca := h.ca
			if c.other {
				ca = other
			}
			mu.Lock()
			cert = testpki.Must(ca.Issue(c.leaf)).TLS()
			mu.Unlock()
			conn, err := h.tlsClient(server4, h.alice(), nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write([]byte("x"))
			_, err = io.ReadFull(conn, make([]byte, 1))
			if good := c.reason == "verified"; good != (err == nil) {
				t.Errorf("the client read: %v", err)
			}
			_ = conn.Close()
			r := h.record(1)
			if r.str("reason") != c.reason {
				t.Errorf("reason %s (%s), want %s", r.str("reason"), r.str("detail"), c.reason)
			}
			if leg, ok := r["destination_leg"].(map[string]any); ok != (c.reason == "verified") || ok && leg["server_name"] != "pay.example" {
				t.Errorf("destination_leg %v", r["destination_leg"])
			}
			if l, _ := r["destination_ledger"].([]any); len(l) == 0 {
				t.Error("no ledger of the destination's leg")
			}
		})
	}
}
