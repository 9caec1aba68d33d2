package native

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// params demand a certificate of Staff CA, in TLS 1.3.
func params(change ...func(*handshake.ServerParams)) *handshake.ServerParams {
	p := handshaketest.ServerParams(change...)
	p.Profile.MinVersion = tls.VersionTLS13
	return p
}

// clientConfig is a Go client that trusts Staff CA and shows what it is given, whatever
// the server asks for.
func clientConfig(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: handshaketest.Fixtures().CA.Pool(), ServerName: "gateway.test", MinVersion: tls.VersionTLS13,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if len(certs) == 0 {
				return &tls.Certificate{}, nil
			}
			return &certs[0], nil
		},
	}
}

func alice() tls.Certificate { return handshaketest.Fixtures().Client.TLS() }

// outcome is what the server's side of a test saw.
type outcome struct {
	s      *handshake.Session
	err    *handshake.Error
	l      *handshake.Ledger
	asked  int // how often check was
	proven bool
	data   string // what a client read of its session, and how that ended
	end    error
}

// server is one to be tested.
type rig struct {
	engine handshake.Engine
	plan   *handshake.ServerParams
	check  handshake.CheckPeer
	// after replaces what is done with the session: "ok" is written, and it is closed in
	// order.
	after func(*handshake.Session)
}

func newRig(p *handshake.ServerParams) *rig { return &rig{engine: New(stdtls.New()), plan: p} }

// serve is the server's side.
func (r *rig) serve(ctx context.Context, raw *net.TCPConn) (o outcome) {
	o.l = handshake.NewLedger(time.Now())
	defer func() { _ = raw.Close() }()
	hello, conn, err := handshake.Peek(ctx, raw, 0)
	if err != nil {
		o.err = handshake.AsError(err)
		return o
	}
	check := func(p *handshake.Peer, s *handshake.State) error {
		o.asked++
		o.proven = p != nil && p.Proven
		if r.check != nil {
			return r.check(p, s)
		}
		return nil
	}
	s, err := r.engine.Server(ctx, conn, hello, r.plan, check, o.l)
	if err != nil {
		o.err = handshake.AsError(err)
		_ = raw.CloseWrite()
		_ = raw.SetReadDeadline(testenv.Deadline())
		_, _ = io.Copy(io.Discard, raw)
		return o
	}
	o.s = s
	if r.after != nil {
		r.after(s)
		return o
	}
	s.Grant()
	_, _ = s.Conn.Write([]byte("ok"))
	_ = s.Conn.CloseWrite()
	_, _ = io.Copy(io.Discard, s.Conn)
	_ = s.Conn.Close()
	return o
}

// with runs the server against what client does with the other end.
func (r *rig) with(t *testing.T, client func(*net.TCPConn)) outcome {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	done := make(chan outcome, 1)
	ctx := testenv.Context(t)
	go func() { done <- r.serve(ctx, sc) }()
	client(cc)
	_ = cc.Close()
	return testenv.Receive(t, "the server's end", done)
}

// withGo runs it against a crypto/tls client that reads to the end.
func (r *rig) withGo(t *testing.T, config *tls.Config) (o outcome, cs tls.ConnectionState, err error) {
	t.Helper()
	o = r.with(t, func(c *net.TCPConn) { cs, err = goClient(c, config) })
	return o, cs, err
}

func goClient(c net.Conn, config *tls.Config) (cs tls.ConnectionState, err error) {
	_ = c.SetDeadline(testenv.Deadline())
	tc := tls.Client(c, config)
	if err := tc.Handshake(); err != nil {
		return cs, err
	}
	cs = tc.ConnectionState()
	data, err := io.ReadAll(tc)
	if err == nil && string(data) != "ok" {
		err = errors.New("no data arrived: " + string(data))
	}
	_ = tc.Close()
	return cs, err
}

// alertSeen is the alert that a Go client was sent; AlertNone if its error is none.
func alertSeen(err error) handshake.Alert {
	var e *net.OpError
	if errors.As(err, &e) && e.Op == "remote error" {
		if v := reflect.ValueOf(e.Err); v.Kind() == reflect.Uint8 {
			return handshake.Alert(v.Uint())
		}
	}
	return handshake.AlertNone
}
