package engines

import (
	"context"
	"crypto/tls"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// serve makes one handshake with a crypto/tls client, which reads to the end.
func serve(t *testing.T, e *Engine, p *handshake.ServerParams, config *tls.Config) (*handshake.Session, error) {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = cc.Close() }()
		tc := tls.Client(cc, config)
		if tc.Handshake() == nil {
			_, _ = io.Copy(io.Discard, tc)
		}
	}()
	defer func() { _ = sc.Close(); <-done }()
	ctx, cancel := context.WithCancel(testenv.Context(t))
	defer cancel()
	hello, conn, err := handshake.Peek(ctx, sc, 0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := e.Server(ctx, conn, hello, p, func(*handshake.Peer, *handshake.State) error { return nil }, handshake.NewLedger(time.Now()))
	if err == nil {
		s.Grant()
		_ = s.Conn.Close()
	}
	return s, err
}

// The real engines: with native a list of one TLS 1.3 CipherSuite is kept that a client of
// crypto/tls would not get from crypto/tls, and its clients of TLS 1.2 are served. With std
// the same plan refuses such a client, and never goes on outside the list.
func TestEachSuiteAlone(t *testing.T) {
	f := handshaketest.Fixtures()
	client := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{ServerName: "gateway.test", RootCAs: f.CA.Pool(), Certificates: []tls.Certificate{f.Client.TLS()}, MinVersion: tls.VersionTLS12}
		change(c)
		return c
	}
	e := New()
	for _, suite := range handshake.Suites13() {
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
			p.Profile.Suites13, p.Profile.Engine = []uint16{suite}, handshake.EngineNative
		})
		if l := e.Cannot(&p.Params); l != nil {
			t.Fatalf("%s: cannot %v", handshake.SuiteName(suite), l)
		}
		s, err := serve(t, e, p, client(func(*tls.Config) {}))
		if err != nil || s.Suite != suite || s.Version != tls.VersionTLS13 || s.Peer == nil || !s.Peer.Proven {
			t.Errorf("%s: %+v, %v", handshake.SuiteName(suite), s, err)
		}
		s, err = serve(t, e, p, client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }))
		if err != nil || s.Version != tls.VersionTLS12 || !slices.Contains(p.Profile.Suites12, s.Suite) {
			t.Errorf("TLS 1.2: %+v, %v", s, err)
		}
		std := *p
		std.Profile.Engine = handshake.EngineStd
		if l := e.Cannot(&std.Params); len(l) != 1 {
			t.Errorf("crypto/tls: cannot %v", l)
		}
		if s, err := serve(t, e, &std, client(func(*tls.Config) {})); err == nil && s.Suite != suite {
			t.Errorf("crypto/tls goes on with %s", handshake.SuiteName(s.Suite))
		}
	}
}
