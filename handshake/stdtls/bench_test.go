package stdtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/ticket"
)

// A full mTLS handshake on P-256 and X25519, both ends in this process, over
// loopback: what the engine adds to plain crypto/tls ("go") is the difference.
// The client is crypto/tls in each but "native-both", where it is the native engine's too.
func BenchmarkHandshake(b *testing.B) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		name := map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}[version]
		goServer := &tls.Config{
			Certificates: []tls.Certificate{f.Gateway.TLS()}, ClientCAs: f.CA.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
			SessionTicketsDisabled: true, CurvePreferences: []tls.CurveID{tls.X25519},
		}
		b.Run(name+"/go", func(b *testing.B) {
			benchServer(b, version, func(c net.Conn) error {
				tc := tls.Server(c, goServer)
				if err := tc.Handshake(); err != nil {
					return err
				}
				_, err := tc.Write([]byte("ok"))
				return err
			})
		})
		x25519 := func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.X25519)} }
		ours := native.New(New())
		b.Run(name+"/native", func(b *testing.B) {
			p := handshaketest.ServerParams(x25519)
			benchServer(b, version, func(c net.Conn) error { return serveOnce(ours, c, p) })
		})
		if version == tls.VersionTLS13 { // the version that it has towards destinations
			b.Run(name+"/native-both", func(b *testing.B) {
				p, own := handshaketest.ServerParams(x25519), dialParams()
				benchEnds(b, func(c net.Conn) error { return serveOnce(ours, c, p) }, func(c net.Conn) error { return dialOnce(ours, c, own) })
			})
		}
		for name2, p := range map[string]*handshake.ServerParams{
			"engine": handshaketest.ServerParams(x25519),
			"steps":  handshaketest.ServerParams(x25519, func(p *handshake.ServerParams) { p.Ledger = handshake.LedgerSteps }),
		} {
			engine := New()
			b.Run(name+"/"+name2, func(b *testing.B) {
				benchServer(b, version, func(c net.Conn) error { return serveOnce(engine, c, p) })
			})
		}
	}
}

// BenchmarkResume is a resumed handshake: no certificate is looked at by
// crypto/tls, but chain and policy are asked all the same.
func BenchmarkResume(b *testing.B) {
	for _, version := range bothVersions {
		name := map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"}[version]
		goServer := &tls.Config{
			Certificates: []tls.Certificate{handshaketest.Fixtures().Gateway.TLS()}, ClientCAs: handshaketest.Fixtures().CA.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
			CurvePreferences: []tls.CurveID{tls.X25519},
		}
		b.Run(name+"/go", func(b *testing.B) {
			benchResume(b, version, func(c net.Conn) error {
				tc := tls.Server(c, goServer)
				if err := tc.Handshake(); err != nil {
					return err
				}
				_, err := tc.Write([]byte("ok"))
				return err
			})
		})
		engine := New()
		p := ticketParams(ticket.NewKeys(0), func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.X25519)} })
		own := native.New(New())
		b.Run(name+"/native", func(b *testing.B) {
			benchResume(b, version, func(c net.Conn) error { return serveOnce(own, c, p) })
		})
		b.Run(name+"/engine", func(b *testing.B) {
			benchResume(b, version, func(c net.Conn) error { return serveOnce(engine, c, p) })
		})
	}
}

func serveOnce(engine handshake.Engine, c net.Conn, p *handshake.ServerParams) error {
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	hello, conn, err := handshake.Peek(ctx, c, 0)
	if err != nil {
		return err
	}
	s, err := engine.Server(ctx, conn, hello, p, nil, handshake.NewLedger(time.Now()))
	if err != nil {
		return err
	}
	s.Grant()
	_, err = s.Conn.Write([]byte("ok"))
	return err
}

func benchResume(b *testing.B, version uint16, serve func(net.Conn) error) {
	benchWith(b, version, tls.NewLRUClientSessionCache(4), serve)
}

// cpuTime of this process, which other load on the machine does not change.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchServer(b *testing.B, version uint16, serve func(net.Conn) error) {
	benchWith(b, version, nil, serve)
}

func benchWith(b *testing.B, version uint16, cache tls.ClientSessionCache, serve func(net.Conn) error) {
	cert := handshaketest.Fixtures().Client.TLS()
	roots := x509.NewCertPool()
	roots.AddCert(handshaketest.Fixtures().CA.Root)
	config := &tls.Config{
		RootCAs: roots, ServerName: "gateway.test", MinVersion: version, MaxVersion: version,
		Certificates: []tls.Certificate{cert}, CurvePreferences: []tls.CurveID{tls.X25519}, ClientSessionCache: cache,
	}
	benchEnds(b, serve, func(c net.Conn) error {
		tc := tls.Client(c, config)
		if err := tc.Handshake(); err != nil {
			return err
		}
		_, err := io.ReadFull(tc, make([]byte, 2))
		return err
	})
}

// dialParams are for TLS 1.3 with X25519.
func dialParams() *handshake.ClientParams {
	p := &handshake.ClientParams{Params: handshaketest.ServerParams().Params, ServerName: "gateway.test", VerifyName: "gateway.test"}
	p.Certificates = []tls.Certificate{handshaketest.Fixtures().Client.TLS()}
	p.Profile.MinVersion, p.Profile.Groups = tls.VersionTLS13, []uint16{uint16(tls.X25519)}
	return p
}

// dialOnce is an engine's client.
func dialOnce(engine handshake.Engine, c net.Conn, p *handshake.ClientParams) error {
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	s, err := engine.Client(ctx, c, p, nil, handshake.NewLedger(time.Now()))
	if err != nil {
		return err
	}
	_, err = io.ReadFull(s.Conn, make([]byte, 2))
	return err
}

// benchEnds makes connections over loopback, one after the other.
func benchEnds(b *testing.B, serve, dial func(net.Conn) error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	b.ReportAllocs()
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op") }()
	for b.Loop() {
		done := make(chan error, 1)
		go func() {
			c, err := l.Accept()
			if err == nil {
				err = serve(c)
				_ = c.Close()
			}
			done <- err
		}()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		if err := dial(c); err != nil {
			b.Fatal(err)
		}
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}
