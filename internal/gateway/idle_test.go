package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A flow that waits holds no buffer, whatever was last read of it: as much as
// fits, in any size of buffer, or the beginning of a record.
func TestIdleHoldsNothing(t *testing.T) {
	for _, way := range []string{"bypass", "terminated", "re-encrypted"} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			if way == "bypass" && version == tls.VersionTLS13 {
				continue
			}
			t.Run(fmt.Sprintf("%s/%s", way, tls.VersionName(version)), func(t *testing.T) {
				h := bulkHouse(t, 1500, true, way, func(c handshake.Conn) {
					_, _ = io.Copy(c, c)
					_ = c.CloseWrite()
				})
				conn := h.bulkDial(way, version, server4)
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(time.Minute))
				for _, n := range []int{bufferSmall, bufferSmall + bufferMiddle, bufferSmall + bufferMiddle + bufferLarge, 16 << 10, 1, bufferSmall - 1, bufferSmall + 1} {
					done := make(chan error, 1)
					go func() {
						_, err := conn.Write(make([]byte, n))
						done <- err
					}()
					if _, err := io.ReadFull(conn, make([]byte, n)); err != nil {
						t.Fatal(err)
					}
					if err := <-done; err != nil {
						t.Fatal(err)
					}
					h.wantNothingLent()
				}
				if c, ok := conn.(*tls.Conn); ok {
					if _, err := c.NetConn().Write([]byte{23, 3, 3, 16, 0, 1, 2, 3}); err != nil {
						t.Fatal(err)
					}
					time.Sleep(100 * time.Millisecond)
					testenv.Eventually(t, "the header of a record holds nothing", func() bool { return h.gw.RelayBuffers() == 0 }, func() any { return h.gw.RelayBuffers() })
				}
			})
		}
	}
}
