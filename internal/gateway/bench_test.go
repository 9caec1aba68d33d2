package gateway

import (
	"crypto/tls"
	"io"
	"net"
	"testing"

	"go.uber.org/zap"
)

// BenchmarkFlow is one short flow after the other, in memory: connect, mutual
// TLS 1.3, 64 bytes there and back, close. Client and origin are in it; for what
// the gateway allocates, look at a profile.
func BenchmarkFlow(b *testing.B) {
	h := newHouse(b, mtls(), func(c net.Conn) {
		_, _ = io.Copy(c, c)
		_ = c.(*net.TCPConn).CloseWrite()
	}, func(c *Config) { c.Log = zap.NewNop() })
	alice := h.alice()
	once := func() {
		conn, err := h.tlsClient(server4, alice, func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.X25519} })
		if err != nil {
			b.Fatal(err)
		}
		buf := make([]byte, 64)
		if _, err := conn.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			b.Fatal(err)
		}
		_ = conn.Close()
	}
	once()
	b.ReportAllocs()
	for b.Loop() {
		once()
	}
}
