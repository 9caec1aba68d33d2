package native

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
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
