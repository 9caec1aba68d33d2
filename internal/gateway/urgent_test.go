package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/policy"
)

// urgently writes b, whose last byte is urgent (send(2), MSG_OOB).
func urgently(c *net.TCPConn, b []byte) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var n int
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		n, failed = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_OOB)
		return failed != unix.EAGAIN
	})
	if err == nil && failed == nil && n != len(b) {
		failed = io.ErrShortWrite
	}
	if err == nil {
		err = failed
	}
	return err
}

// urgentConn sends the last byte of each write as urgent data: with TLS that is in
// the middle of nothing but records.
type urgentConn struct{ *net.TCPConn }

func (c urgentConn) Write(b []byte) (int, error) {
	if err := urgently(c.TCPConn, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// part is one write of a server.
type part struct {
	text   string
	urgent bool
}

var urgentStreams = map[string][]part{
	"one byte between":        {{"before", false}, {"!", true}, {"after", false}},
	"the first byte":          {{"!", true}, {"after", false}},
	"the last byte":           {{"before", false}, {"!", true}},
	"nothing but that":        {{"!", true}},
	"several, one by one":     {{"a", true}, {"b", true}, {"c", true}, {"d", true}},
	"the last byte of a word": {{"interrupt", true}, {"and go on", false}, {"again", true}},
}

// The urgent byte of a server stays in its place, by each way to dial it, whoever
// reads quickly or slowly.
func TestUrgentDataOfServers(t *testing.T) {
	for name, parts := range urgentStreams {
		for _, as := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/client's address=%t", name, as), func(t *testing.T) {
				if as {
					testenv.Root(t) // IP_TRANSPARENT
				}
				var h *house
				spec := policy.Spec{Rules: []policy.RuleSpec{{Name: "all", To: []string{"203.0.113.0/24:443"}, Action: "bypass"}}}
				h = newHouse(t, spec, func(c net.Conn) {
					for _, p := range parts {
						var err error
						if p.urgent {
							err = urgently(c.(*net.TCPConn), []byte(p.text))
						} else {
							_, err = c.Write([]byte(p.text))
						}
						if err != nil {
							t.Error(err)
						}
					}
					_ = c.(*net.TCPConn).CloseWrite()
					_, _ = io.Copy(io.Discard, c)
				}, func(c *Config) {
					c.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
						dst := netip.MustParseAddrPort(h.origin)
						if as {
							return hostDialAs(0x5519)(ctx, netip.MustParseAddr("127.0.0.2"), dst)
						}
						return hostDial(0)(ctx, dst)
					}
				})
				conn := h.dial(server4)
				got, err := io.ReadAll(conn)
				_ = conn.CloseWrite()
				var want bytes.Buffer
				for _, p := range parts {
					want.WriteString(p.text)
				}
				if string(got) != want.String() || err != nil {
					t.Errorf("%q, %v, want %q", got, err, &want)
				}
				if r := h.record(1); r.str("end") != "closed" {
					t.Errorf("%v", r)
				}
			})
		}
	}
}

// Under TLS each record ends with an urgent byte: one that is missing would break it.
func TestUrgentDataUnderTLS(t *testing.T) {
	spec := mtls()
	spec.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}}
	var h *house
	made := make(chan struct{}) // closed once h is there
	h = newHouse(t, spec, func(c net.Conn) {
		<-made
		s := tls.Server(urgentConn{c.(*net.TCPConn)}, &tls.Config{Certificates: []tls.Certificate{h.server}})
		_, _ = io.Copy(s, s)
		_ = s.CloseWrite()
	}, func(c *Config) {
		c.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
			return hostDial(0)(ctx, netip.MustParseAddrPort(h.origin))
		}
	})
	close(made)
	conn, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		t.Fatal(err)
	}
	sent := bytes.Repeat([]byte("0123456789"), 5000)
	go func() {
		_, _ = conn.Write(sent)
		_ = conn.CloseWrite()
	}()
	if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d of %d bytes, %v", len(got), len(sent), err)
	}
	if r := h.record(1); r.str("end") != "closed" {
		t.Errorf("%v", r)
	}
}
