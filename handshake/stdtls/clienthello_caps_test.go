package stdtls

import (
	"io"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// After a HelloRetryRequest crypto/tls reads the second hello itself: the caps
// hold before it does.
func TestSecondHelloHasCaps(t *testing.T) {
	first := handshaketest.InRecords(handshaketest.GoodHello().With(handshake.ExtKeyShare, []byte{0, 0}).Bytes(), 1<<14)
	for _, c := range handshaketest.CappedLists() {
		o := handshakeWith(t, handshaketest.ServerParams(), nil, func(conn *net.TCPConn) {
			_ = conn.SetDeadline(testenv.Deadline())
			_, _ = conn.Write(first)
			if n, err := conn.Read(make([]byte, 4096)); n == 0 {
				t.Errorf("no HelloRetryRequest: %v", err)
			}
			second := handshaketest.InRecords(c.Make(c.Most).Bytes(), 1<<14)
			for i := 0; i < len(second); i += handshake.RecordHeader + handshake.RecordLen(second[i:]) {
				second[i+1], second[i+2] = 3, 3 // the version is agreed on by now
			}
			_, _ = conn.Write(second)
			_, _ = io.Copy(io.Discard, conn)
		})
		if o.err == nil || o.err.Reason != reason.HelloTooMany || o.l.AlertSent() != handshake.AlertIllegalParameter {
			t.Errorf("%s: %v, alert %s", c.Name, o.err, o.l.AlertSent())
		}
	}
}
