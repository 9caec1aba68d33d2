package native

import (
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/native/record"
)

// A client that is gone before the end of its handshake leaves, whatever room there is
// for buffers, is written nothing more, and its connection is closed.
func TestGrantThatFails12(t *testing.T) {
	for name, room := range map[string]int64{"no room": 1, "room": 1 << 20} {
		for _, ticket := range []int{0, 100, 40000} {
			near, far := net.Pipe()
			_ = far.Close()
			var buffers record.Buffers
			buffers.SetRoom(room)
			suite := keys.Suite12Of(tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)
			var random [32]byte
			_, server := keys.NewMaster12(suite, make([]byte, 32), &random, &random).Expand(&random, &random)
			c := &conn{
				Conn: near, ledger: handshake.NewLedger(time.Now()), in: record.NewReader(near, &buffers), out: record.NewWriter(near, &buffers),
				last: &ending12{ticket: make([]byte, ticket), traffic: server, finished: make([]byte, 16)},
			}
			c.grant()
			if n, err := c.Write([]byte("answer of the destination")); err == nil || n != 0 {
				t.Errorf("%s, a ticket of %d bytes: %d, %v", name, ticket, n, err)
			}
			if _, err := near.Read(make([]byte, 1)); err == nil || !errors.Is(err, net.ErrClosed) && err.Error() != "io: read/write on closed pipe" {
				t.Errorf("%s, a ticket of %d bytes: it is open, %v", name, ticket, err)
			}
			_ = c.Close()
			if n := buffers.Lent(); n != 0 {
				t.Errorf("%s, a ticket of %d bytes: %d bytes are lent", name, ticket, n)
			}
		}
	}
}
