package stdtls

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// clientConfig is a Go client that trusts Staff CA.
func clientConfig(version uint16, certs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: handshaketest.Fixtures().CA.Pool(), ServerName: "gateway.test",
		MinVersion: version, MaxVersion: version,
		// Not Certificates: that one leaves out what the server has not asked for.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil
		},
	}
}

// outcome is what the server side of a test saw.
type outcome struct {
	s   *handshake.Session
	err *handshake.Error
	l   *handshake.Ledger
}

// serve runs Peek and Server on a connection. After success it writes "ok" and
// closes in order; after a refusal it lets the alert arrive.
func serve(ctx context.Context, raw *net.TCPConn, p *handshake.ServerParams, check handshake.CheckPeer) outcome {
	return serveBy(ctx, New(), raw, p, check)
}

func serveBy(ctx context.Context, engine handshake.Engine, raw *net.TCPConn, p *handshake.ServerParams, check handshake.CheckPeer) outcome {
	l := handshake.NewLedger(time.Now())
	defer func() { _ = raw.Close() }()
	hello, conn, err := handshake.Peek(ctx, raw, 0)
	if err != nil {
		return outcome{err: handshake.AsError(err), l: l}
	}
	s, err := engine.Server(ctx, conn, hello, p, check, l)
	if err != nil {
		_ = raw.CloseWrite()
		_ = raw.SetReadDeadline(testenv.Deadline())
		_, _ = io.Copy(io.Discard, raw)
		return outcome{err: handshake.AsError(err), l: l}
	}
	s.Grant()
	_, _ = s.Conn.Write([]byte("ok"))
	_ = s.Conn.CloseWrite()
	_, _ = io.Copy(io.Discard, s.Conn)
	return outcome{s: s, l: l}
}

// handshakeWith runs the engine as a server against what client does with the
// other end.
func handshakeWith(t *testing.T, p *handshake.ServerParams, check handshake.CheckPeer, client func(*net.TCPConn)) outcome {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	ctx := testenv.Context(t)
	done := make(chan outcome, 1)
	go func() { done <- serve(ctx, sc, p, check) }()
	client(cc)
	_ = cc.Close()
	return <-done
}

// withEngine runs one engine for many handshakes against a crypto/tls client.
func withEngine(t *testing.T, engine handshake.Engine, p *handshake.ServerParams, config *tls.Config) (o outcome, err error) {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	ctx := testenv.Context(t)
	done := make(chan outcome, 1)
	go func() { done <- serveBy(ctx, engine, sc, p, nil) }()
	err = goClient(config, nil)(cc)
	_ = cc.Close()
	return <-done, err
}

// goClient is a crypto/tls client that reads to the end. It returns the alert
// it was sent, as an error.
func goClient(config *tls.Config, got *tls.ConnectionState) func(net.Conn) error {
	return func(c net.Conn) error {
		tc := tls.Client(c, config)
		if err := tc.Handshake(); err != nil {
			return err
		}
		if got != nil {
			*got = tc.ConnectionState()
		}
		data, err := io.ReadAll(tc)
		if err == nil && string(data) != "ok" {
			err = errors.New("no data arrived: " + string(data))
		}
		_ = tc.Close()
		return err
	}
}

// withGo runs the engine against a crypto/tls client.
func withGo(t *testing.T, p *handshake.ServerParams, config *tls.Config) (outcome, tls.ConnectionState, error) {
	t.Helper()
	var cs tls.ConnectionState
	var err error
	o := handshakeWith(t, p, nil, func(c *net.TCPConn) { err = goClient(config, &cs)(c) })
	return o, cs, err
}

// alertSeen is the alert a Go client was sent.
func alertSeen(t *testing.T, err error) handshake.Alert {
	t.Helper()
	a, ok := remoteAlert(err)
	if !ok {
		t.Fatalf("client got %v, want an alert", err)
	}
	return a
}

// goClientOn is goClient for handshakeWith.
func goClientOn(config *tls.Config, err *error) func(*net.TCPConn) {
	return func(c *net.TCPConn) { *err = goClient(config, nil)(c) }
}
