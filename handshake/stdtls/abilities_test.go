package stdtls

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
)

// A session keeps the abilities of the connection below, but for two of its own: it
// waits for records, and its end is close_notify and FIN.
func TestSessionKeepsAbilities(t *testing.T) {
	session := func(below net.Conn) *sessionConn {
		l := handshake.NewLedger(time.Now())
		raw := &tapConn{Conn: below, tap: newTap(l, true), buffers: &recordBuffers{}}
		raw.detach(true)
		return &sessionConn{Conn: tls.Server(raw, &tls.Config{}), raw: raw, ledger: l} //nolint:gosec // no handshake is made
	}
	handshaketest.KeepsAbilities(t, func(below net.Conn) net.Conn { return session(below) }, "HalfCloser", "ReadWaiter")
	able := &handshaketest.Able{}
	if s := session(able); s.CloseWriteBare() != nil || len(able.Used) == 0 || able.Used[len(able.Used)-1] != "HalfCloser" {
		t.Errorf("a FIN alone: %v", able.Used)
	}
	if err := session(&handshaketest.ScriptedConn{}).CloseWriteBare(); !errors.Is(err, handshake.ErrNoHalfClose) {
		t.Errorf("a FIN where there is none: %v", err)
	}
}
