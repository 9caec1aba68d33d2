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
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// clientParams trust Staff CA and want gateway.test.
func clientParams(change ...func(*handshake.ClientParams)) *handshake.ClientParams {
	p := &handshake.ClientParams{
		Params:     handshake.Params{Profile: handshaketest.Profile(), Authorities: []*handshake.Authority{handshaketest.Authority("staff", handshaketest.Fixtures().CA)}},
		ServerName: "gateway.test", VerifyName: "gateway.test",
	}
	for _, c := range change {
		c(p)
	}
	return p
}

// dialed runs the engine as a client against a crypto/tls server; the server's
// Handshake error comes back too.
func dialed(t *testing.T, p *handshake.ClientParams, config *tls.Config) (s *handshake.Session, e *handshake.Error, l *handshake.Ledger, serverErr error) {
	t.Helper()
	return dialedTo(t, p, func(c net.Conn) error {
		tc := tls.Server(c, config)
		if err := tc.Handshake(); err != nil {
			return err
		}
		if _, err := tc.Write([]byte("ok")); err != nil {
			return err
		}
		if err := tc.CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, tc)
		return err
	})
}

func dialedTo(t *testing.T, p *handshake.ClientParams, server func(net.Conn) error) (s *handshake.Session, e *handshake.Error, l *handshake.Ledger, serverErr error) {
	t.Helper()
	return dialedUnder(testenv.Context(t), t, p, server)
}

func dialedUnder(ctx context.Context, t *testing.T, p *handshake.ClientParams, server func(net.Conn) error) (s *handshake.Session, e *handshake.Error, l *handshake.Ledger, serverErr error) {
	t.Helper()
	cc, sc := testenv.TCPPair(t)
	_ = sc.SetDeadline(testenv.Deadline())
	done := make(chan error, 1)
	go func() {
		err := server(sc)
		_ = sc.Close()
		done <- err
	}()
	_ = cc.SetReadDeadline(testenv.Deadline())
	l = handshake.NewLedger(time.Now())
	s, err := New().Client(ctx, cc, p, nil, l)
	if err == nil {
		data, rerr := io.ReadAll(s.Conn)
		var ae *handshake.AlertError
		if errors.As(rerr, &ae) {
			e = &handshake.Error{Received: ae.Alert, Err: ae}
		} else if rerr != nil || string(data) != "ok" {
			t.Errorf("read %q, %v", data, rerr)
		}
		_ = s.Conn.CloseWrite()
	} else {
		e = handshake.AsError(err)
		_ = cc.CloseWrite()
		_, _ = io.Copy(io.Discard, cc)
	}
	return s, e, l, <-done
}

func serverConfig(version uint16, c *testpki.Cert) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.TLS()}, MinVersion: version, MaxVersion: version}
}

func TestClientGood(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		config := serverConfig(version, f.Gateway)
		config.NextProtos = []string{"h2"}
		s, e, l, err := dialed(t, clientParams(func(p *handshake.ClientParams) { p.ALPN = []string{"h2"} }), config)
		if e != nil || err != nil {
			t.Fatalf("%s: %v, server %v", handshake.VersionName(version), e, err)
		}
		if s.Version != version || s.ALPN != "h2" || s.ServerName != "gateway.test" || s.Suite == 0 || s.Group == 0 {
			t.Errorf("state %+v", s.State)
		}
		if s.Peer == nil || !s.Peer.Proven || s.Peer.Authority != "staff" || s.Peer.SignatureScheme != uint16(tls.ECDSAWithP256AndSHA256) {
			t.Errorf("peer %+v", s.Peer)
		}
		if l.Reached() != handshake.StepApplicationData {
			t.Errorf("reached %s", l.Reached())
		}
	}
	// By address, without SNI.
	s, e, _, err := dialed(t, clientParams(func(p *handshake.ClientParams) { p.ServerName, p.VerifyName = "", "127.0.0.1" }), serverConfig(0, f.Gateway))
	if e != nil || err != nil || s.ServerName != "" {
		t.Errorf("by address: %v, server %v", e, err)
	}
}

func TestClientRefusesDestination(t *testing.T) {
	f := handshaketest.Fixtures()
	leaf := testpki.Leaf{CN: "dest", DNS: []string{"gateway.test"}}
	faulty := func(make func(*testpki.CA, testpki.Leaf) (*testpki.Cert, error)) *testpki.Cert {
		return testpki.Must(make(f.CA, leaf))
	}
	tests := []struct {
		name   string
		params func(*handshake.ClientParams)
		cert   *testpki.Cert
		want   reason.Code
	}{
		{"unknown CA", nil, testpki.Must(f.Other.Issue(leaf)), reason.UpstreamUnknownCA},
		{"no authorities", func(p *handshake.ClientParams) { p.Authorities = nil }, f.Gateway, reason.UpstreamUnknownCA},
		{"expired", nil, faulty((*testpki.CA).Expired), reason.UpstreamExpired},
		{"not yet valid", nil, faulty((*testpki.CA).NotYetValid), reason.UpstreamExpired},
		{"client certificate", nil, faulty((*testpki.CA).ClientOnlyEKU), reason.UpstreamBadCert},
		{"weak key", nil, faulty((*testpki.CA).RSA1024), reason.UpstreamBadCert},
		{"wrong name", func(p *handshake.ClientParams) { p.VerifyName = "elsewhere.test" }, f.Gateway, reason.UpstreamName},
		{"wrong address", func(p *handshake.ClientParams) { p.VerifyName = "127.0.0.2" }, f.Gateway, reason.UpstreamName},
		{"name in CN only", nil, testpki.Must(f.CA.Issue(testpki.Leaf{CN: "gateway.test"})), reason.UpstreamName},
	}
	for _, tt := range tests {
		for _, version := range bothVersions {
			p := clientParams()
			if tt.params != nil {
				tt.params(p)
			}
			_, e, l, err := dialed(t, p, serverConfig(version, tt.cert))
			if e == nil || e.Reason != tt.want || e.Step != handshake.StepServerVerified || e.Side != handshake.SidePeer {
				t.Fatalf("%s, %s: %v", tt.name, handshake.VersionName(version), e)
			}
			if e.Peer == nil || e.Peer.Proven || e.Wanted == handshake.AlertNone {
				t.Errorf("%s: peer %+v, wanted %s", tt.name, e.Peer, e.Wanted)
			}
			if got := alertSeen(t, err); got != l.AlertSent() {
				t.Errorf("%s: destination saw %s, ledger %s", tt.name, got, l.AlertSent())
			}
			if l.Reached() >= handshake.StepServerVerified {
				t.Errorf("%s: reached %s", tt.name, l.Reached())
			}
		}
	}
}

// A destination that does not hold the key of its certificate. crypto/tls's
// server refuses to start with such a pair unless the key only says that it
// fits.
func TestClientThief(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		config := serverConfig(version, f.Gateway)
		config.Certificates[0].PrivateKey = testpki.Must(testpki.NewKey(testpki.P256))
		_, e, _, err := dialed(t, clientParams(), config)
		if e == nil || e.Reason != reason.UpstreamBadCert || e.Detail != string(reason.NoPossession) || e.Peer == nil || e.Peer.Proven || err == nil {
			t.Errorf("%s: %v, server %v", handshake.VersionName(version), e, err)
		}
	}
}

// What the destination chooses must lie within the profile.
func TestClientWeakDestination(t *testing.T) {
	f := handshaketest.Fixtures()
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	config := serverConfig(tls.VersionTLS12, rsa)
	config.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA}
	_, e, _, _ := dialed(t, clientParams(), config)
	if e == nil || e.Reason != reason.UpstreamRefusedUs || e.Received != handshake.AlertHandshakeFailure {
		t.Errorf("only a suite we do not offer: %v", e)
	}
	config = serverConfig(0, f.Gateway)
	config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	_, e, _, _ = dialed(t, clientParams(), config)
	if e == nil || e.Reason != reason.UpstreamCrypto || e.Received != handshake.AlertProtocolVersion {
		t.Errorf("only TLS 1.1: %v", e)
	}
	// crypto/tls offers all TLS 1.3 suites whatever the profile says.
	_, e, _, err := dialed(t, clientParams(func(p *handshake.ClientParams) { p.Profile.Suites13 = []uint16{tls.TLS_AES_256_GCM_SHA384} }), serverConfig(tls.VersionTLS13, f.Gateway))
	if e == nil || e.Reason != reason.UpstreamCrypto || e.Wanted != handshake.AlertInsufficientSecurity || err == nil {
		t.Errorf("suite outside Suites13: %v, server %v", e, err)
	}
}

func TestClientALPNRefused(t *testing.T) {
	config := serverConfig(0, handshaketest.Fixtures().Gateway)
	config.NextProtos = []string{"h2"}
	_, e, _, _ := dialed(t, clientParams(func(p *handshake.ClientParams) { p.ALPN = []string{"acme-tls/1"} }), config)
	if e == nil || e.Reason != reason.UpstreamALPN || e.Received != handshake.AlertNoApplicationProtocol {
		t.Errorf("got %v", e)
	}
}

// The destination asks for a certificate.
func TestClientIdentity(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		config := serverConfig(version, f.Gateway)
		config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, f.CA.Pool()
		_, e, l, err := dialed(t, clientParams(func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{f.Client.TLS()} }), config)
		if e != nil || err != nil {
			t.Errorf("%s: %v, server %v", handshake.VersionName(version), e, err)
		}
		if names := l.CANames(); len(names) != 1 || names[0] != "CN=Staff CA,O=sslgate test" {
			t.Errorf("CA names %q", names)
		}
		// Without one the destination refuses: in TLS 1.2 inside our handshake,
		// in TLS 1.3 at the first read.
		_, e, l, err = dialed(t, clientParams(), config)
		if e == nil || err == nil || e.Received == handshake.AlertNone || l.AlertReceived() != e.Received {
			t.Fatalf("%s: %v, server %v", handshake.VersionName(version), e, err)
		}
		if version == tls.VersionTLS12 && (e.Reason != reason.UpstreamRefusedUs || e.Step != handshake.StepClientVerified || e.Received != handshake.AlertHandshakeFailure) {
			t.Errorf("TLS 1.2: %v", e)
		}
		if version == tls.VersionTLS13 && e.Received != handshake.AlertCertificateRequired {
			t.Errorf("TLS 1.3: %v", e)
		}
	}
}

func TestClientInterrupted(t *testing.T) {
	for name, tt := range map[string]struct {
		server func(net.Conn, *expiring) error
		want   reason.Code
	}{
		"silent": {func(c net.Conn, ctx *expiring) error {
			_, _ = c.Read(make([]byte, 10))
			close(ctx.over)
			_, err := io.Copy(io.Discard, c)
			return err
		}, reason.UpstreamTimeout},
		"FIN": {func(c net.Conn, _ *expiring) error {
			_, _ = c.Read(make([]byte, 4096))
			return c.Close()
		}, reason.UpstreamFailed},
		"RST": {func(c net.Conn, _ *expiring) error {
			_, _ = c.Read(make([]byte, 10))
			_ = c.(*net.TCPConn).SetLinger(0)
			return c.Close()
		}, reason.UpstreamFailed},
		"no TLS": {func(c net.Conn, _ *expiring) error {
			_, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
			_, err := io.Copy(io.Discard, c)
			return err
		}, reason.UpstreamFailed},
		"garbage in TLS": {func(c net.Conn, _ *expiring) error {
			_, _ = c.Write([]byte{handshake.RecordHandshake, 3, 3, 0, 5, handshake.TypeServerHello, 0, 0, 1, 9})
			_, err := io.Copy(io.Discard, c)
			return err
		}, reason.UpstreamFailed},
	} {
		ctx := &expiring{t.Context(), make(chan struct{})}
		_, e, _, _ := dialedUnder(ctx, t, clientParams(), func(c net.Conn) error { return tt.server(c, ctx) })
		if e == nil || e.Reason != tt.want {
			t.Errorf("%s: %v", name, e)
		}
	}
}

func TestClientNeedsName(t *testing.T) {
	_, e, _, _ := dialedTo(t, clientParams(func(p *handshake.ClientParams) { p.VerifyName = "" }), func(c net.Conn) error {
		_, err := io.Copy(io.Discard, c)
		return err
	})
	if e == nil || e.Reason != reason.Internal || e.Side != handshake.SideUs {
		t.Errorf("got %v", e)
	}
}
