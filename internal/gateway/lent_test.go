package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/sslgate/sslgate/handshake/native"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// atOnce sends the client's last flight together with its first data.
type atOnce struct {
	net.Conn
	hello bool // it has left
	held  bytes.Buffer
}

func (c *atOnce) Write(b []byte) (int, error) {
	if !c.hello {
		c.hello = true
		return c.Conn.Write(b)
	}
	return c.held.Write(b)
}

// A session that ends before there is a relay gives back what its engine has lent for data
// that came with the client's Finished.
func TestLentBeforeRelay(t *testing.T) {
	engine := native.New(stdtls.New())
	h := newHouse(t, mtls(), nil, func(c *Config) {
		c.Engine = engine
		c.Dial = func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errors.New("nobody there") }
	})
	for range 3 {
		cert := h.alice()
		c := &atOnce{Conn: h.dial(server4)}
		tc := tls.Client(c, &tls.Config{
			RootCAs: h.ca.Pool(), ServerName: "pay.example", MinVersion: tls.VersionTLS13,
			GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
		})
		if err := tc.Handshake(); err != nil {
			t.Fatal(err)
		}
		_, _ = tc.Write([]byte("GET"))
		_, _ = c.Conn.Write(c.held.Bytes())
		_, _ = io.Copy(io.Discard, c.Conn)
		_ = c.Conn.Close()
	}
	testenv.Eventually(t, "all is given back", func() bool { return h.gw.Flows() == 0 && engine.RecordBuffers() == 0 })
}
