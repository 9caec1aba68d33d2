package native

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// clientPlan trusts Staff CA, wants gateway.test and has TLS 1.3 alone.
func clientPlan(change ...func(*handshake.ClientParams)) *handshake.ClientParams {
	p := &handshake.ClientParams{
		Params:     handshake.Params{Profile: handshaketest.Profile(), Authorities: []*handshake.Authority{handshaketest.Authority("staff", handshaketest.Fixtures().CA)}},
		ServerName: "gateway.test", VerifyName: "gateway.test",
	}
	p.Profile.MinVersion = tls.VersionTLS13
	for _, c := range change {
		c(p)
	}
	return p
}

// dialed is the client's side: it reads to the end of a session, and closes it in order.
func dialed(t testing.TB, conn net.Conn, p *handshake.ClientParams) outcome {
	t.Helper()
	return dialedBy(t, New(stdtls.New()), conn, p, nil)
}

// dialedBy is dialed by another engine, with something that is said first.
func dialedBy(t testing.TB, engine handshake.Engine, conn net.Conn, p *handshake.ClientParams, first []byte) (o outcome) {
	t.Helper()
	o.l = handshake.NewLedger(time.Now())
	s, err := engine.Client(testenv.Context(t), conn, p, func(peer *handshake.Peer, _ *handshake.State) error {
		o.asked++
		o.proven = peer != nil && peer.Proven
		return nil
	}, o.l)
	if err != nil {
		o.err = handshake.AsError(err)
	} else {
		o.s = s
		_, _ = s.Conn.Write(first)
		data, err := io.ReadAll(s.Conn)
		o.data, o.end = string(data), err
		_ = s.Conn.Close()
	}
	if n := engine.RecordBuffers(); n != 0 {
		t.Errorf("%d bytes are lent", n)
	}
	return o
}

// reach runs the client against a server engine.
func (r *rig) reach(t *testing.T, p *handshake.ClientParams) (server, client outcome) {
	t.Helper()
	server = r.with(t, func(c *net.TCPConn) { client = dialed(t, c, p) })
	return server, client
}

// both are the servers that the client is held against.
func both(p *handshake.ServerParams) map[string]*rig {
	std := newRig(p)
	std.engine = stdtls.New()
	return map[string]*rig{"native": newRig(p), "std": std}
}

// The hello has the profile to the letter, and what is agreed on is what both sides say.
func TestDestinations(t *testing.T) {
	kinds := []testpki.KeyKind{testpki.P256, testpki.P384, testpki.P521, testpki.RSA2048, testpki.Ed25519}
	var shown []tls.Certificate
	for _, kind := range kinds {
		shown = append(shown, issued(t, kind, "gateway"))
	}
	n := 0
	for _, suite := range handshake.Suites13() {
		for _, group := range keys.Groups() {
			for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone} {
				n++
				cert := shown[n%len(shown)]
				p := params(func(p *handshake.ServerParams) {
					p.ClientAuth, p.Certificates, p.ALPN = auth, []tls.Certificate{cert}, []string{"h2"}
					p.Profile.Groups = keys.Groups()
				})
				for name, r := range both(p) {
					name = fmt.Sprintf("%s, %s, %s, %s, %d", name, handshake.SuiteName(suite), handshake.GroupName(group), auth, n%len(shown))
					server, client := r.reach(t, clientPlan(func(p *handshake.ClientParams) {
						p.Profile.Suites13, p.Profile.Groups, p.ALPN = []uint16{suite}, []uint16{group}, []string{"http/1.1", "h2"}
						if auth == handshake.ClientAuthRequired {
							p.Certificates = []tls.Certificate{alice()}
						}
					}))
					if server.err != nil || client.err != nil || client.data != "ok" || client.end != nil {
						t.Errorf("%s: %v, the server %v", name, client.err, server.err)
						continue
					}
					c := client.s
					switch {
					case c.Suite != suite || c.Group != group || c.Version != tls.VersionTLS13 || c.ALPN != "h2" || c.HelloRetry || c.Resumed || c.ServerName != "gateway.test":
						t.Errorf("%s: the client has %+v", name, c.State)
					case server.s.Suite != suite || server.s.Group != group || server.s.ALPN != "h2" || server.s.ServerName != "gateway.test":
						t.Errorf("%s: the server has %+v", name, server.s.State)
					case !c.Peer.Proven || c.Peer.Authority != "staff" || c.Peer.SignatureScheme == 0 || client.asked != 1 || !client.proven:
						t.Errorf("%s: %+v, asked %d times", name, c.Peer, client.asked)
					case (server.s.Peer != nil) != (auth == handshake.ClientAuthRequired):
						t.Errorf("%s: shown %+v", name, server.s.Peer)
					case client.l.Reached() != handshake.StepApplicationData:
						t.Errorf("%s: reached %s", name, client.l.Reached())
					}
				}
			}
		}
	}
}

// Every kind of key on either side.
func TestDestinationKeys(t *testing.T) {
	for _, kind := range []testpki.KeyKind{testpki.P256, testpki.P384, testpki.P521, testpki.RSA2048, testpki.RSA3072, testpki.Ed25519, testpki.MLDSA44, testpki.MLDSA65, testpki.MLDSA87} {
		server, client := issued(t, kind, "gateway"), issued(t, kind, "alice")
		for name, r := range both(params(func(p *handshake.ServerParams) { p.Certificates = []tls.Certificate{server} })) {
			s, c := r.reach(t, clientPlan(func(p *handshake.ClientParams) { p.Certificates = []tls.Certificate{client} }))
			if s.err != nil || c.err != nil || c.data != "ok" || !s.s.Peer.Proven || s.s.Peer.SignatureScheme != c.s.Peer.SignatureScheme {
				t.Errorf("%v, %s: %v, the server %v", kind, name, c.err, s.err)
			}
		}
	}
}

// A HelloRetryRequest is obeyed, and the groups without a share are asked for by one.
func TestDestinationRetries(t *testing.T) {
	for _, group := range keys.Groups() {
		first := uint16(tls.CurveP256)
		if group == first {
			first = uint16(tls.X25519)
		}
		for name, r := range both(params(func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{group} })) {
			s, c := r.reach(t, clientPlan(func(p *handshake.ClientParams) {
				p.Profile.Groups, p.Certificates = []uint16{first, group}, []tls.Certificate{alice()}
			}))
			if s.err != nil || c.err != nil || !c.s.HelloRetry || !s.s.HelloRetry || c.s.Group != group {
				t.Errorf("%s, %s: %v, the server %v", name, handshake.GroupName(group), c.err, s.err)
			}
		}
	}
}

// What the hello has, to the letter.
func TestOffer(t *testing.T) {
	for name, c := range map[string]struct {
		plan   func(*handshake.ClientParams)
		shares []uint16
		certs  []uint16
		sni    string
	}{
		"a hybrid first": {func(p *handshake.ClientParams) {
			p.Profile.Groups = []uint16{uint16(tls.SecP384r1MLKEM1024), uint16(tls.CurveP384), uint16(tls.X25519)}
		}, []uint16{uint16(tls.SecP384r1MLKEM1024), uint16(tls.CurveP384)}, nil, "gateway.test"},
		"none besides": {func(p *handshake.ClientParams) {
			p.Profile.Groups = []uint16{uint16(tls.MLKEM1024), uint16(tls.X25519MLKEM768)}
		}, []uint16{uint16(tls.MLKEM1024)}, nil, "gateway.test"},
		"a curve first": {func(p *handshake.ClientParams) {
			p.Profile.Groups = []uint16{uint16(tls.CurveP521), uint16(tls.CurveP256)}
		}, []uint16{uint16(tls.CurveP521)}, nil, "gateway.test"},
		"an address": {func(p *handshake.ClientParams) { p.ServerName = "127.0.0.1" }, []uint16{uint16(tls.X25519MLKEM768), uint16(tls.X25519)}, nil, ""},
		"a dot":      {func(p *handshake.ClientParams) { p.ServerName = "gateway.test." }, []uint16{uint16(tls.X25519MLKEM768), uint16(tls.X25519)}, nil, "gateway.test"},
		"PKCS1 on certificates": {func(p *handshake.ClientParams) {
			p.Profile.Signatures = []uint16{uint16(tls.PSSWithSHA384), uint16(tls.PKCS1WithSHA384), uint16(tls.ECDSAWithP384AndSHA384)}
		}, []uint16{uint16(tls.X25519MLKEM768), uint16(tls.X25519)}, []uint16{uint16(tls.PSSWithSHA384), uint16(tls.PKCS1WithSHA384), uint16(tls.ECDSAWithP384AndSHA384)}, "gateway.test"},
	} {
		p := clientPlan(c.plan, func(p *handshake.ClientParams) {
			p.Profile.Suites13, p.ALPN = []uint16{tls.TLS_CHACHA20_POLY1305_SHA256, tls.TLS_AES_256_GCM_SHA384}, []string{"h2", "http/1.1"}
		})
		cc, sc := testenv.TCPPair(t)
		done := make(chan outcome, 1)
		go func() {
			o := dialed(t, cc, p)
			_ = cc.Close()
			done <- o
		}()
		s := newRawServer(t, sc)
		s.readHello()
		_ = sc.Close()
		if o := testenv.Receive(t, "the client's end", done); o.err == nil || o.err.Reason != reason.UpstreamFailed || o.err.Step != handshake.StepServerHello {
			t.Errorf("%s: %v", name, o.err)
		}
		h := s.hello
		want := p.Profile.Signatures
		if c.certs != nil {
			want = []uint16{want[0], want[2]}
		}
		switch {
		case !slices.Equal(h.CipherSuites, p.Profile.Suites13), !slices.Equal(h.Groups, p.Profile.Groups), !slices.Equal(h.KeyShares, c.shares), !slices.Equal(h.ALPN, p.ALPN):
			t.Errorf("%s: suites %x, groups %x, shares %x, ALPN %q", name, h.CipherSuites, h.Groups, h.KeyShares, h.ALPN)
		case want != nil && !slices.Equal(h.SignatureSchemes, want), c.certs != nil && !slices.Equal(h.SignatureSchemesCert, c.certs):
			t.Errorf("%s: signature schemes %x, %x on certificates", name, h.SignatureSchemes, h.SignatureSchemesCert)
		case !slices.Equal(h.SupportedVersions, []uint16{tls.VersionTLS13}), len(h.SessionID) != 32, h.ServerName != c.sni, !h.StatusRequest, h.PreSharedKey, h.EarlyData, h.SessionTicket:
			t.Errorf("%s: %+v", name, h)
		}
	}
}
