package native

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A renegotiation ends the reading with the same word in both engines, and what is none
// does not.
func TestRenegotiationIsTold(t *testing.T) {
	for name, engine := range map[string]handshake.Engine{"native": New(stdtls.New()), "std": stdtls.New()} {
		for what, c := range map[string]struct {
			client func(c *rawClient12)
			want   bool
		}{
			"a ClientHello": {func(c *rawClient12) { c.send(handshake.RecordHandshake, c.hello.Raw...) }, true},
			"a Finished":    {func(c *rawClient12) { c.send(handshake.RecordHandshake, c.finished()...) }, false},
			"an alert":      {func(c *rawClient12) { c.send(handshake.RecordAlert, 2, byte(handshake.AlertNoRenegotiation)) }, false},
		} {
			r := newRig(params12())
			r.engine = engine
			var err error
			r.after = func(s *handshake.Session) {
				s.Grant()
				_, err = io.ReadAll(s.Conn)
				_ = s.Conn.Close()
			}
			r.with(t, func(conn *net.TCPConn) {
				raw := newRaw12(t, conn)
				h := raw.hi()
				raw.established(h)
				c.client(raw)
				raw.end()
			})
			if err == nil || errors.Is(err, handshake.ErrRenegotiation) != c.want {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// So does one that a destination asks for, of crypto/tls as the client.
func TestRenegotiationOfADestination(t *testing.T) {
	dir := t.TempDir()
	cert, key, err := handshaketest.Fixtures().Gateway.WritePEM(dir, "gateway")
	if err != nil {
		t.Fatal(err)
	}
	addr, _, tell := toldServer(t, testenv.Tool(t, "openssl"), "s_server", "-accept", "127.0.0.1:0", "-tls1_2", "-cert", cert, "-key", key)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	p := clientPlan(func(p *handshake.ClientParams) {
		p.Profile.MinVersion, p.Profile.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	})
	s, err := New(stdtls.New()).Client(testenv.Context(t), c, p, nil, handshake.NewLedger(testenv.Deadline()))
	if err != nil {
		t.Fatal(err)
	}
	tell("R") // s_server(1): renegotiate
	_ = s.Conn.SetReadDeadline(testenv.Deadline())
	if _, err := io.ReadAll(s.Conn); !errors.Is(err, handshake.ErrRenegotiation) {
		t.Error(err)
	}
	_ = s.Conn.Close()
}
