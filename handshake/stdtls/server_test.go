package stdtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

var bothVersions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func TestServerGood(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, version := range bothVersions {
		for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone} {
			for _, shown := range []bool{true, false} {
				if auth == handshake.ClientAuthRequired && !shown {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/shown=%v", handshake.VersionName(version), auth, shown), func(t *testing.T) {
					config := clientConfig(version)
					if shown {
						config = clientConfig(version, f.Client.TLS())
					}
					o, cs, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.ClientAuth = auth }), config)
					if err != nil || o.err != nil {
						t.Fatalf("client: %v, server: %v", err, o.err)
					}
					if o.s.Version != version || o.s.Suite != cs.CipherSuite || o.s.Group != uint16(cs.CurveID) || o.s.ServerName != "gateway.test" {
						t.Errorf("state %+v, the client has %s %s", o.s.State, tls.CipherSuiteName(cs.CipherSuite), cs.CurveID)
					}
					if o.l.Reached() != handshake.StepApplicationData {
						t.Errorf("reached %s", o.l.Reached())
					}
					if !shown || auth == handshake.ClientAuthNone {
						if o.s.Peer != nil {
							t.Errorf("peer %v without a certificate", o.s.Peer)
						}
						return
					}
					p := o.s.Peer
					if p == nil || !p.Proven || p.Authority != "staff" || !p.Leaf().Equal(f.Client.Cert) || len(p.Chain) != 2 {
						t.Fatalf("peer %+v", p)
					}
					if p.SignatureScheme != uint16(tls.ECDSAWithP256AndSHA256) {
						t.Errorf("signature scheme %#x", p.SignatureScheme)
					}
				})
			}
		}
	}
}

func TestServerMLKEMAndRetry(t *testing.T) {
	f := handshaketest.Fixtures()
	config := clientConfig(tls.VersionTLS13, f.Client.TLS())
	config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768}
	o, _, err := withGo(t, handshaketest.ServerParams(), config)
	if err != nil || o.s == nil || o.s.Group != uint16(tls.X25519MLKEM768) || o.s.HelloRetry {
		t.Errorf("ML-KEM: client %v, %+v", err, o)
	}
	config.CurvePreferences = []tls.CurveID{tls.X25519, tls.CurveP384}
	o, _, err = withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP384)} }), config)
	if err != nil || o.s == nil || o.s.Group != uint16(tls.CurveP384) || !o.s.HelloRetry {
		t.Errorf("retry: client %v, %+v", err, o)
	}
}

// What cannot become a handshake is refused with the exact alert before
// anything else is sent.
func TestServerRefusesHello(t *testing.T) {
	rsa := testpki.Must(handshaketest.Fixtures().CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	tests := []struct {
		name   string
		params func(*handshake.ServerParams)
		client func(*tls.Config)
		want   reason.Code
	}{
		{"version", func(p *handshake.ServerParams) { p.Profile.MinVersion = tls.VersionTLS13 }, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, reason.ProtocolVersion},
		{"old version", nil, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, reason.ProtocolVersion},
		{"suite", nil, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
		}, reason.NoCommonSuite},
		{"suite for the other kind of certificate", nil, func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
		}, reason.NoCommonSuite},
		{"suites 1.3", func(p *handshake.ServerParams) { p.Profile.Suites13 = []uint16{0x1304} }, nil, reason.NoCommonSuite},
		{"group", func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP521)} }, func(c *tls.Config) {
			c.CurvePreferences = []tls.CurveID{tls.X25519}
		}, reason.NoCommonGroup},
		{"group 1.2", func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP521)} }, func(c *tls.Config) {
			c.MaxVersion, c.CurvePreferences = tls.VersionTLS12, []tls.CurveID{tls.X25519}
		}, reason.NoCommonGroup},
		{"alpn", func(p *handshake.ServerParams) { p.ALPN = []string{"h2"} }, func(c *tls.Config) { c.NextProtos = []string{"acme-tls/1"} }, reason.NoALPN},
		// crypto/tls alone lets this one pass, without a protocol.
		{"alpn http/1.1 where only h2", func(p *handshake.ServerParams) { p.ALPN = []string{"h2"} }, func(c *tls.Config) { c.NextProtos = []string{"http/1.1"} }, reason.NoALPN},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := handshaketest.ServerParams()
			if tt.params != nil {
				tt.params(p)
			}
			config := clientConfig(0, handshaketest.Fixtures().Client.TLS())
			if tt.client != nil {
				tt.client(config)
			}
			o, _, err := withGo(t, p, config)
			if o.err == nil || o.err.Reason != tt.want || o.err.Step != handshake.StepClientHello || o.err.Wanted != handshake.AlertOf(tt.want) {
				t.Fatalf("server: %v", o.err)
			}
			if got := alertSeen(t, err); got != o.err.Wanted || got != o.l.AlertSent() {
				t.Errorf("client saw %s, wanted %s, ledger %s", got, o.err.Wanted, o.l.AlertSent())
			}
		})
	}
	// The control: with an RSA certificate the RSA suite is used.
	config := clientConfig(tls.VersionTLS12, handshaketest.Fixtures().Client.TLS())
	config.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	o, _, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Certificates = []tls.Certificate{rsa.TLS()} }), config)
	if err != nil || o.s == nil || o.s.Suite != tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 {
		t.Errorf("client %v, server %v", err, o.err)
	}
}

func TestServerALPN(t *testing.T) {
	config := clientConfig(0, handshaketest.Fixtures().Client.TLS())
	config.NextProtos = []string{"http/1.1", "h2"}
	o, cs, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.ALPN = []string{"h2", "http/1.1"} }), config)
	if err != nil || o.s == nil || o.s.ALPN != "h2" || cs.NegotiatedProtocol != "h2" {
		t.Errorf("ours first: client %v, %+v", err, o)
	}
	o, cs, err = withGo(t, handshaketest.ServerParams(), config)
	if err != nil || o.s == nil || o.s.ALPN != "" || cs.NegotiatedProtocol != "" {
		t.Errorf("none wanted: client %v, %+v", err, o)
	}
}

func TestServerNoCertificate(t *testing.T) {
	for version, want := range map[uint16]handshake.Alert{tls.VersionTLS12: handshake.AlertHandshakeFailure, tls.VersionTLS13: handshake.AlertCertificateRequired} {
		o, _, err := withGo(t, handshaketest.ServerParams(), clientConfig(version))
		if o.err == nil || o.err.Reason != reason.NoCertificate || o.err.Step != handshake.StepClientCertificate || o.err.Wanted != want {
			t.Fatalf("%s: %v, wanted %s", handshake.VersionName(version), o.err, o.err.Wanted)
		}
		if got := alertSeen(t, err); got != want || o.l.AlertSent() != want {
			t.Errorf("%s: client saw %s, ledger %s", handshake.VersionName(version), got, o.l.AlertSent())
		}
	}
}

// A profile that allows nothing, or a plan without a certificate, is never
// widened to crypto/tls's defaults.
func TestServerEmptyParams(t *testing.T) {
	for name, change := range map[string]func(*handshake.ServerParams){
		"zero profile":   func(p *handshake.ServerParams) { p.Profile = handshake.Profile{} },
		"no groups":      func(p *handshake.ServerParams) { p.Profile.Groups = nil },
		"no suites":      func(p *handshake.ServerParams) { p.Profile.Suites12, p.Profile.MaxVersion = nil, tls.VersionTLS12 },
		"no certificate": func(p *handshake.ServerParams) { p.Certificates = nil },
		"TLS 1.0":        func(p *handshake.ServerParams) { p.Profile.MinVersion = tls.VersionTLS10 },
	} {
		o, _, err := withGo(t, handshaketest.ServerParams(change), clientConfig(0, handshaketest.Fixtures().Client.TLS()))
		if o.err == nil || err == nil {
			t.Errorf("%s: client %v, server %v", name, err, o.err)
		}
	}
}

// No authorities trust nobody.
func TestServerNoAuthorities(t *testing.T) {
	o, _, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Authorities = nil }), clientConfig(0, handshaketest.Fixtures().Client.TLS()))
	if o.err == nil || o.err.Reason != reason.UnknownCA || err == nil {
		t.Errorf("client %v, server %v", err, o.err)
	}
}

// CheckPeer may refuse and then the very same error comes back; what it is
// shown is not proven.
func TestServerCheck(t *testing.T) {
	for _, version := range bothVersions {
		no := handshake.Refuse(handshake.StepClientVerified, reason.NotAllowed, "not on the list")
		var asked *handshake.Peer
		var state *handshake.State
		var err error
		o := handshakeWith(t, handshaketest.ServerParams(), func(p *handshake.Peer, s *handshake.State) error { asked, state = p, s; return no }, func(c *net.TCPConn) {
			err = goClient(clientConfig(version, handshaketest.Fixtures().Client.TLS()), nil)(c)
		})
		if o.err != no || !errors.Is(o.err, no) || o.err.Wanted != handshake.AlertAccessDenied {
			t.Fatalf("got %v", o.err)
		}
		if asked == nil || asked.Proven || asked.Authority != "staff" || state.Version != version || no.Peer != asked {
			t.Errorf("asked about %+v, %+v", asked, state)
		}
		if got := alertSeen(t, err); got != handshake.AlertAccessDenied || o.l.AlertSent() != got {
			t.Errorf("client saw %s, ledger %s", got, o.l.AlertSent())
		}
		if o.l.Reached() >= handshake.StepClientVerified {
			t.Errorf("reached %s", o.l.Reached())
		}
	}
	// Without a certificate it is asked about nobody.
	called := false
	o := handshakeWith(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }), func(p *handshake.Peer, _ *handshake.State) error {
		called = p == nil
		return nil
	}, func(c *net.TCPConn) { _ = goClient(clientConfig(0), nil)(c) })
	if o.err != nil || !called {
		t.Errorf("not asked: %v, called %v", o.err, called)
	}
}

func TestCannot(t *testing.T) {
	p := handshaketest.ServerParams()
	if l := New().Cannot(&p.Params); l != nil {
		t.Errorf("the whole set: %v", l)
	}
	p.Profile.Suites13 = []uint16{tls.TLS_CHACHA20_POLY1305_SHA256, tls.TLS_AES_128_GCM_SHA256, tls.TLS_AES_256_GCM_SHA384}
	if l := New().Cannot(&p.Params); l != nil {
		t.Errorf("all three: %v", l)
	}
	p.Profile.Suites13 = []uint16{tls.TLS_AES_256_GCM_SHA384}
	if l := New().Cannot(&p.Params); len(l) != 1 {
		t.Errorf("AES-256 alone: %v", l)
	}
	// And what cannot be kept is refused, not widened: crypto/tls picks AES-128.
	o, _, err := withGo(t, p, clientConfig(tls.VersionTLS13, handshaketest.Fixtures().Client.TLS()))
	if o.err == nil || o.err.Reason != reason.NoCommonSuite || err == nil {
		t.Errorf("client %v, server %v", err, o.err)
	}
	p.Profile.MaxVersion = tls.VersionTLS12
	if l := New().Cannot(&p.Params); l != nil {
		t.Errorf("without TLS 1.3: %v", l)
	}
}
