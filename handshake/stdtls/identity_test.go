package stdtls

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/identity"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// Of several certificates the one is shown that fits the client, in both
// versions, with its OCSP staple.
func TestIdentityOfTwoKinds(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "the RSA one", DNS: []string{"gateway.test"}, Key: testpki.RSA2048})).TLS()
	p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
		p.ClientAuth = handshake.ClientAuthOptional // OpenSSL holds its own certificate to -sigalgs too
		p.Certificates = []tls.Certificate{f.Gateway.TLS(), rsa}
		p.Profile.Suites12 = append(p.Profile.Suites12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
		p.Certificates[0].OCSPStaple = []byte("the staple")
	})
	for _, tt := range []struct{ version, sigalgs, want string }{
		{"-tls1_2", "RSA+SHA256:RSA-PSS+SHA256", "the RSA one"},
		{"-tls1_2", "ECDSA+SHA256", "gateway"},
		{"-tls1_3", "RSA-PSS+SHA256", "the RSA one"},
		{"-tls1_3", "ECDSA+SHA256:RSA-PSS+SHA256", "gateway"},
	} {
		o, out := withOpenSSL(t, p, tt.version, "-sigalgs", tt.sigalgs, "-cert", cert, "-key", key)
		if o.err != nil || !strings.Contains(out, "CN = "+tt.want) {
			t.Errorf("%v: %v\n%s", tt, o.err, out)
		}
	}
	for _, version := range bothVersions {
		_, cs, err := withGo(t, p, clientConfig(version, f.Client.TLS()))
		if err != nil || string(cs.OCSPResponse) != "the staple" {
			t.Errorf("staple %q, %v", cs.OCSPResponse, err)
		}
	}
}

// Whatever name a client asks for, it is shown a certificate that it can use; one
// for that name where there is one.
func TestIdentityWhateverTheName(t *testing.T) {
	f := handshaketest.Fixtures()
	issue := func(cn string, kind testpki.KeyKind, names ...string) tls.Certificate {
		return testpki.Must(f.CA.Issue(testpki.Leaf{CN: cn, DNS: names, Key: kind})).TLS()
	}
	ec, rsa := issue("EC", testpki.P256, "gateway.test"), issue("RSA", testpki.RSA2048, "gateway.test")
	ecA, rsaB := issue("EC a", testpki.P256, "a.test"), issue("RSA b", testpki.RSA2048, "b.test")
	ec384 := issue("EC 384", testpki.P384, "gateway.test")
	both := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	for _, c := range []struct {
		name         string
		certs        []tls.Certificate
		order        handshake.Order
		sni, sigalgs string
		suites       []uint16 // of the client in TLS 1.2; nil is TLS 1.3
		want         string
	}{
		{"another name, RSA alone", []tls.Certificate{ec, rsa}, handshake.OrderFast, "other.test", "", both[1:], "RSA"},
		{"another name, EC alone", []tls.Certificate{rsa, ec}, handshake.OrderFast, "other.test", "", both[:1], "EC"},
		{"another name, RSA alone, server's order", []tls.Certificate{ec, rsa}, handshake.OrderServer, "other.test", "", both[1:], "RSA"},
		{"another name, client's order", []tls.Certificate{rsa, ec}, handshake.OrderClient, "other.test", "", both, "EC"},
		{"another name, RSA alone, 1.3", []tls.Certificate{ec, rsa}, handshake.OrderFast, "other.test", "RSA-PSS+SHA256", nil, "RSA"},
		{"another name, EC alone, 1.3", []tls.Certificate{rsa, ec}, handshake.OrderServer, "other.test", "ECDSA+SHA256", nil, "EC"},
		{"an address", []tls.Certificate{ec, rsa}, handshake.OrderFast, "", "", both[1:], "RSA"},
		{"a wildcard does not cover it", []tls.Certificate{issue("EC *", testpki.P256, "*.gateway.test"), rsa}, handshake.OrderFast, "x.y.gateway.test", "", both[1:], "RSA"},
		{"its name, the curve is not that of the key exchange", []tls.Certificate{rsa, ec}, handshake.OrderServer, "gateway.test", "", both[:1], "EC"},
		{"its name, RSA first, the server prefers EC", []tls.Certificate{rsa, ec}, handshake.OrderServer, "gateway.test", "", both, "EC"},
		{"the second's name", []tls.Certificate{ecA, rsaB}, handshake.OrderServer, "b.test", "", both, "RSA b"},
		{"the second's name, 1.3", []tls.Certificate{ecA, rsaB}, handshake.OrderFast, "b.test", "ECDSA+SHA256:RSA-PSS+SHA256", nil, "RSA b"},
		{"the first's name, but the second's kind", []tls.Certificate{ecA, rsaB}, handshake.OrderFast, "a.test", "", both[1:], "RSA b"},
		{"nobody's name", []tls.Certificate{ecA, rsaB}, handshake.OrderFast, "c.test", "", both[1:], "RSA b"},
		{"two curves, 1.3", []tls.Certificate{ec384, ec}, handshake.OrderFast, "other.test", "ECDSA+SHA256", nil, "EC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
				p.ClientAuth, p.Certificates, p.Profile.Order, p.Profile.Suites12 = handshake.ClientAuthNone, c.certs, c.order, both
			})
			if c.suites == nil {
				o, out := withOpenSSL(t, p, "-tls1_3", "-servername", c.sni, "-sigalgs", c.sigalgs)
				if o.err != nil || !strings.Contains(out, "CN = "+c.want+"\n") {
					t.Errorf("%v\n%s", o.err, out)
				}
				return
			}
			config := clientConfig(tls.VersionTLS12)
			config.ServerName, config.CipherSuites = c.sni, c.suites
			config.InsecureSkipVerify = true //nolint:gosec // which certificate is shown is the question
			o, cs, err := withGo(t, p, config)
			if err != nil || o.err != nil || cs.PeerCertificates[0].Subject.CommonName != c.want {
				t.Errorf("client %v, server %v, shown %v", err, o.err, cs.PeerCertificates)
			}
		})
	}
}

// Staples belong to their certificates, whichever is chosen.
func TestStapleOfTheChosenOne(t *testing.T) {
	f := handshaketest.Fixtures()
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "RSA", DNS: []string{"gateway.test"}, Key: testpki.RSA2048})).TLS()
	staples := []*handshake.Staple{{}, {}}
	for i, s := range staples {
		s.Set([]byte{'0' + byte(i)}, time.Now().Add(time.Hour))
	}
	for i, suite := range []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256} {
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
			p.ClientAuth, p.Certificates = handshake.ClientAuthNone, []tls.Certificate{f.Gateway.TLS(), rsa}
			p.Identity = identity.NewFile(p.Certificates, staples)
			p.Profile.Suites12 = append(p.Profile.Suites12, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)
		})
		config := clientConfig(tls.VersionTLS12)
		config.CipherSuites = []uint16{suite}
		o, cs, err := withGo(t, p, config)
		if err != nil || o.err != nil || string(cs.OCSPResponse) != string('0'+byte(i)) {
			t.Errorf("client %v, server %v, staple %q", err, o.err, cs.OCSPResponse)
		}
	}
}

// signerOnly is a key in hardware: it does nothing but sign.
type signerOnly struct{ k crypto.Signer }

func (s signerOnly) Public() crypto.PublicKey { return s.k.Public() }

func (s signerOnly) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	return s.k.Sign(r, digest, o)
}

func TestSignerAlone(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, kind := range []testpki.KeyKind{testpki.P256, testpki.RSA2048, testpki.Ed25519} {
		c := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: kind}))
		cert := c.TLS()
		cert.PrivateKey = signerOnly{c.Key}
		for _, version := range bothVersions {
			if o, _, err := withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Certificates = []tls.Certificate{cert} }), clientConfig(version, f.Client.TLS())); err != nil || o.err != nil {
				t.Errorf("%s %s: client %v, server %v", kind, handshake.VersionName(version), err, o.err)
			}
		}
	}
}

// making is an identity whose certificates are made by a function, for each hello.
type making func(h *handshake.ClientHello) ([]tls.Certificate, error)

func (making) OnDemand() bool { return true }

func (m making) For(_ context.Context, h *handshake.ClientHello, _ time.Time) ([]tls.Certificate, error) {
	return m(h)
}

// A certificate that is made for the hello; its errors keep reason and alert.
func TestIdentityOnDemand(t *testing.T) {
	f := handshaketest.Fixtures()
	made := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "made", DNS: []string{"gateway.test"}}))
	for _, version := range bothVersions {
		asked := ""
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
			p.Ticket = &handshake.TicketRule{Keys: ticket.NewKeys(0)}
			p.Identity = making(func(h *handshake.ClientHello) ([]tls.Certificate, error) {
				asked = h.ServerName
				return []tls.Certificate{made.TLS()}, nil
			})
		})
		o, cs, err := withGo(t, p, clientConfig(version, f.Client.TLS()))
		if err != nil || o.err != nil || asked != "gateway.test" || !cs.PeerCertificates[0].Equal(made.Cert) {
			t.Errorf("client %v, server %v, asked for %q", err, o.err, asked)
		}
		p.Identity = making(func(*handshake.ClientHello) ([]tls.Certificate, error) {
			return nil, handshake.Refuse(handshake.StepClientHello, reason.SNIUnknown, "")
		})
		o, _, err = withGo(t, p, clientConfig(version, f.Client.TLS()))
		if o.err == nil || o.err.Reason != reason.SNIUnknown || alertSeen(t, err) != handshake.AlertUnrecognizedName {
			t.Errorf("client %v, server %v", err, o.err)
		}
		p.Identity = making(func(*handshake.ClientHello) ([]tls.Certificate, error) { return nil, errors.New("no") })
		if o, _, err = withGo(t, p, clientConfig(version, f.Client.TLS())); o.err == nil || o.err.Reason != reason.Internal || alertSeen(t, err) != handshake.AlertInternalError {
			t.Errorf("client %v, server %v", err, o.err)
		}
		p.Identity = making(func(*handshake.ClientHello) ([]tls.Certificate, error) { return nil, nil })
		if o, _, err = withGo(t, p, clientConfig(version, f.Client.TLS())); o.err == nil || err == nil {
			t.Errorf("none: client %v, server %v", err, o.err)
		}
	}
}

// Pins hold beside all else; insecure verifies nothing but possession and pins.
func TestPinsAndInsecure(t *testing.T) {
	f := handshaketest.Fixtures()
	foreign := testpki.Must(f.Other.Issue(testpki.Leaf{DNS: []string{"elsewhere.test"}}))
	pin := func(c *testpki.Cert) [][32]byte {
		return [][32]byte{{1}, sha256.Sum256(c.Cert.RawSubjectPublicKeyInfo)}
	}
	insecure := func(p *handshake.ClientParams) { p.Insecure, p.VerifyName, p.Authorities = true, "", nil }
	for name, tt := range map[string]struct {
		cert   *testpki.Cert
		change func(*handshake.ClientParams)
		want   reason.Code
	}{
		"pinned":              {f.Gateway, func(p *handshake.ClientParams) { p.Pins = pin(f.Gateway) }, ""},
		"other key":           {f.Gateway, func(p *handshake.ClientParams) { p.Pins = pin(foreign) }, reason.UpstreamPin},
		"pinned, other CA":    {foreign, func(p *handshake.ClientParams) { p.Pins = pin(foreign) }, reason.UpstreamUnknownCA},
		"insecure":            {foreign, insecure, ""},
		"insecure, pinned":    {foreign, func(p *handshake.ClientParams) { insecure(p); p.Pins = pin(foreign) }, ""},
		"insecure, other key": {foreign, func(p *handshake.ClientParams) { insecure(p); p.Pins = pin(f.Gateway) }, reason.UpstreamPin},
		"insecure, too long":  {foreign, func(p *handshake.ClientParams) { insecure(p); p.MaxChainBytes = 10 }, reason.UpstreamBadCert},
	} {
		for _, version := range bothVersions {
			s, e, _, err := dialed(t, clientParams(tt.change), serverConfig(version, tt.cert))
			if tt.want != "" {
				if e == nil || e.Reason != tt.want || err == nil {
					t.Errorf("%s %s: %v, server %v", handshake.VersionName(version), name, e, err)
				}
				continue
			}
			if e != nil || err != nil || !s.Peer.Proven || (s.Peer.Chain == nil) != (name != "pinned") {
				t.Errorf("%s %s: %v, server %v, %+v", handshake.VersionName(version), name, e, err, s)
			}
		}
	}
	thief := serverConfig(tls.VersionTLS13, f.Gateway)
	thief.Certificates[0].PrivateKey = testpki.Must(testpki.NewKey(testpki.P256))
	thief.Certificates[0].Leaf = nil
	if _, e, _, err := dialed(t, clientParams(insecure), thief); e == nil || e.Reason != reason.UpstreamBadCert {
		t.Errorf("a server without the key: %v, %v", e, err)
	}
}
