package stdtls

import (
	"crypto/tls"
	"fmt"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/work"
)

// inBytes writes each handshake message in the clear in records of one byte.
type inBytes struct{ *net.TCPConn }

func (c inBytes) Write(b []byte) (int, error) {
	var out []byte
	for rest := b; len(rest) >= handshake.RecordHeader; {
		n := handshake.RecordHeader + handshake.RecordLen(rest)
		if rest[0] == handshake.RecordHandshake {
			out = append(out, handshaketest.InRecords(rest[handshake.RecordHeader:n], 1)...)
		} else {
			out = append(out, rest[:n]...)
		}
		rest = rest[n:]
	}
	if _, err := c.TCPConn.Write(out); err != nil {
		return 0, err
	}
	return len(b), nil
}

// largeHello is a client whose hello has about n bytes; 0 is the usual one.
func largeHello(n int) *tls.Config {
	config := clientConfig(tls.VersionTLS13, handshaketest.Fixtures().Client.TLS())
	for ; n > 0; n -= 250 {
		config.NextProtos = append(config.NextProtos, fmt.Sprintf("%03d%246d", n/250, n))
	}
	return config
}

// A hello with one byte in each record is served, and each record is charged: the
// usual one, with ML-KEM, and some as large as tickets of ours make them.
func TestByteByByte(t *testing.T) {
	for _, n := range []int{0, 4000, 15000} {
		var whole, cut outcome
		var err error
		whole = handshakeWith(t, handshaketest.ServerParams(), nil, goClientOn(largeHello(n), &err))
		if whole.err != nil || err != nil {
			t.Fatal(whole.err, err)
		}
		cut = handshakeWith(t, handshaketest.ServerParams(), nil, func(c *net.TCPConn) { err = goClient(largeHello(n), nil)(inBytes{c}) })
		if cut.err != nil || err != nil {
			t.Fatal(cut.err, err)
		}
		if more := cut.l.Spent() - whole.l.Spent(); more < work.Records(n+1200) {
			t.Errorf("%d bytes: cut into records of a byte it cost %d more", n, more)
		}
	}
}

// BenchmarkByteByByte is what each record of one byte costs (perRecord of
// internal/work): the difference of the two, divided by the records.
func BenchmarkByteByByte(b *testing.B) {
	engine := New()
	for name, wrap := range map[string]func(*net.TCPConn) net.Conn{
		"whole": func(c *net.TCPConn) net.Conn { return c }, "cut": func(c *net.TCPConn) net.Conn { return inBytes{c} },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				client, server := testenv.TCPPair(b)
				done := make(chan error, 1)
				go func() { done <- tls.Client(wrap(client), largeHello(15000)).Handshake() }()
				if err := serveOnce(engine, server, handshaketest.ServerParams()); err != nil {
					b.Fatal(err)
				}
				_ = client.Close()
				if err := <-done; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
