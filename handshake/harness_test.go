package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// fixture is the PKI most tests share: making keys is slow under -race.
type fixture struct {
	ca, other *testpki.CA
	gateway   *testpki.Cert // for gateway.test, 127.0.0.1
	client    *testpki.Cert
}

var fixtures = sync.OnceValue(func() *fixture {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Staff CA"}))
	return &fixture{
		ca:      ca,
		other:   testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA"})),
		gateway: testpki.Must(ca.Issue(testpki.Leaf{CN: "gateway", DNS: []string{"gateway.test"}, IPs: []string{"127.0.0.1"}})),
		client:  testpki.Must(ca.Issue(testpki.Leaf{CN: "alice"})),
	}
})

// able is what the engine can do.
func able() *Capabilities { return NewStdEngine().Capabilities() }

func testProfile() Profile {
	return Profile{
		Name: "test", MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13,
		Suites12: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		},
		Groups: []uint16{uint16(tls.X25519MLKEM768), uint16(tls.X25519), uint16(tls.CurveP256), uint16(tls.CurveP384)},
	}
}

func authority(name string, cas ...*testpki.CA) *Authority {
	a := &Authority{Name: name}
	for _, ca := range cas {
		a.Roots = append(a.Roots, ca.Root)
	}
	return a
}

// serverParams demand a certificate of Staff CA.
func serverParams(change ...func(*ServerParams)) *ServerParams {
	f := fixtures()
	p := &ServerParams{Params: Params{
		Profile:      testProfile(),
		Certificates: []tls.Certificate{f.gateway.TLS()},
		Authorities:  []*Authority{authority("staff", f.ca)},
	}}
	for _, c := range change {
		c(p)
	}
	return p
}

// clientConfig is a Go client that trusts Staff CA.
func clientConfig(version uint16, certs ...tls.Certificate) *tls.Config {
	return &tls.Config{
		RootCAs: fixtures().ca.Pool(), ServerName: "gateway.test",
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
	s   *Session
	err *Error
	l   *Ledger
}

// serve runs Peek and Server on a connection. After success it writes "ok" and
// closes in order; after a refusal it lets the alert arrive.
func serve(ctx context.Context, raw *net.TCPConn, p *ServerParams, check CheckPeer) outcome {
	return serveBy(ctx, NewStdEngine(), raw, p, check)
}

func serveBy(ctx context.Context, engine Engine, raw *net.TCPConn, p *ServerParams, check CheckPeer) outcome {
	l := NewLedger(time.Now())
	defer func() { _ = raw.Close() }()
	hello, conn, err := Peek(ctx, raw, 0)
	if err != nil {
		return outcome{err: AsError(err), l: l}
	}
	s, err := engine.Server(ctx, conn, hello, p, check, l)
	if err != nil {
		_ = raw.CloseWrite()
		_ = raw.SetReadDeadline(testenv.Deadline())
		_, _ = io.Copy(io.Discard, raw)
		return outcome{err: AsError(err), l: l}
	}
	s.Grant()
	_, _ = s.Conn.Write([]byte("ok"))
	_ = s.Conn.CloseWrite()
	_, _ = io.Copy(io.Discard, s.Conn)
	return outcome{s: s, l: l}
}

// handshakeWith runs the engine as a server against what client does with the
// other end.
func handshakeWith(t *testing.T, p *ServerParams, check CheckPeer, client func(*net.TCPConn)) outcome {
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
func withEngine(t *testing.T, engine Engine, p *ServerParams, config *tls.Config) (o outcome, err error) {
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
func withGo(t *testing.T, p *ServerParams, config *tls.Config) (outcome, tls.ConnectionState, error) {
	t.Helper()
	var cs tls.ConnectionState
	var err error
	o := handshakeWith(t, p, nil, func(c *net.TCPConn) { err = goClient(config, &cs)(c) })
	return o, cs, err
}

// alertSeen is the alert a Go client was sent.
func alertSeen(t *testing.T, err error) Alert {
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
