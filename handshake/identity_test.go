package handshake

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/testpki"
)

// Of several certificates the one is shown that fits the client, in both
// versions, with its OCSP staple.
func TestIdentityOfTwoKinds(t *testing.T) {
	f := fixtures()
	dir := t.TempDir()
	cert, key, err := f.client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	rsa := testpki.Must(f.ca.Issue(testpki.Leaf{CN: "the RSA one", DNS: []string{"gateway.test"}, Key: testpki.RSA2048})).TLS()
	p := serverParams(func(p *Params) {
		p.ClientAuth = ClientAuthOptional // OpenSSL holds its own certificate to -sigalgs too
		p.Certificates = []tls.Certificate{f.gateway.TLS(), rsa}
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
		_, cs, err := withGo(t, p, clientConfig(version, f.client.TLS()))
		if err != nil || string(cs.OCSPResponse) != "the staple" {
			t.Errorf("staple %q, %v", cs.OCSPResponse, err)
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
	f := fixtures()
	for _, kind := range []testpki.KeyKind{testpki.P256, testpki.RSA2048, testpki.Ed25519} {
		c := testpki.Must(f.ca.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: kind}))
		cert := c.TLS()
		cert.PrivateKey = signerOnly{c.Key}
		for _, version := range bothVersions {
			if o, _, err := withGo(t, serverParams(func(p *Params) { p.Certificates = []tls.Certificate{cert} }), clientConfig(version, f.client.TLS())); err != nil || o.err != nil {
				t.Errorf("%s %s: client %v, server %v", kind, VersionName(version), err, o.err)
			}
		}
	}
}

// A certificate that is made for the hello; its errors keep reason and alert.
func TestCertificateFor(t *testing.T) {
	f := fixtures()
	made := testpki.Must(f.ca.Issue(testpki.Leaf{CN: "made", DNS: []string{"gateway.test"}}))
	for _, version := range bothVersions {
		asked := ""
		p := serverParams(func(p *Params) {
			p.Ticket = &TicketRule{Keys: NewTicketKeys(0)}
			p.CertificateFor = func(_ context.Context, h *ClientHello) ([]tls.Certificate, error) {
				asked = h.ServerName
				return []tls.Certificate{made.TLS()}, nil
			}
		})
		o, cs, err := withGo(t, p, clientConfig(version, f.client.TLS()))
		if err != nil || o.err != nil || asked != "gateway.test" || !cs.PeerCertificates[0].Equal(made.Cert) {
			t.Errorf("client %v, server %v, asked for %q", err, o.err, asked)
		}
		p.CertificateFor = func(context.Context, *ClientHello) ([]tls.Certificate, error) {
			return nil, Refuse(StepClientHello, reason.SNIUnknown, "")
		}
		o, _, err = withGo(t, p, clientConfig(version, f.client.TLS()))
		if o.err == nil || o.err.Reason != reason.SNIUnknown || alertSeen(t, err) != AlertUnrecognizedName {
			t.Errorf("client %v, server %v", err, o.err)
		}
		p.CertificateFor = func(context.Context, *ClientHello) ([]tls.Certificate, error) { return nil, errors.New("no") }
		if o, _, err = withGo(t, p, clientConfig(version, f.client.TLS())); o.err == nil || o.err.Reason != reason.Internal || alertSeen(t, err) != AlertInternalError {
			t.Errorf("client %v, server %v", err, o.err)
		}
		p.CertificateFor = func(context.Context, *ClientHello) ([]tls.Certificate, error) { return nil, nil }
		if o, _, err = withGo(t, p, clientConfig(version, f.client.TLS())); o.err == nil || err == nil {
			t.Errorf("none: client %v, server %v", err, o.err)
		}
	}
}

// Pins hold beside all else; insecure verifies nothing but possession and pins.
func TestPinsAndInsecure(t *testing.T) {
	f := fixtures()
	foreign := testpki.Must(f.other.Issue(testpki.Leaf{DNS: []string{"elsewhere.test"}}))
	pin := func(c *testpki.Cert) [][32]byte {
		return [][32]byte{{1}, sha256.Sum256(c.Cert.RawSubjectPublicKeyInfo)}
	}
	insecure := func(p *Params) { p.Insecure, p.VerifyName, p.Authorities = true, "", nil }
	for name, tt := range map[string]struct {
		cert   *testpki.Cert
		change func(*Params)
		want   reason.Code
	}{
		"pinned":              {f.gateway, func(p *Params) { p.Pins = pin(f.gateway) }, ""},
		"other key":           {f.gateway, func(p *Params) { p.Pins = pin(foreign) }, reason.UpstreamPin},
		"pinned, other CA":    {foreign, func(p *Params) { p.Pins = pin(foreign) }, reason.UpstreamUnknownCA},
		"insecure":            {foreign, insecure, ""},
		"insecure, pinned":    {foreign, func(p *Params) { insecure(p); p.Pins = pin(foreign) }, ""},
		"insecure, other key": {foreign, func(p *Params) { insecure(p); p.Pins = pin(f.gateway) }, reason.UpstreamPin},
		"insecure, too long":  {foreign, func(p *Params) { insecure(p); p.MaxChainBytes = 10 }, reason.UpstreamBadCert},
	} {
		for _, version := range bothVersions {
			s, e, _, err := dialed(t, clientParams(tt.change), serverConfig(version, tt.cert))
			if tt.want != "" {
				if e == nil || e.Reason != tt.want || err == nil {
					t.Errorf("%s %s: %v, server %v", VersionName(version), name, e, err)
				}
				continue
			}
			if e != nil || err != nil || !s.Peer.Proven || (s.Peer.Chain == nil) != (name != "pinned") {
				t.Errorf("%s %s: %v, server %v, %+v", VersionName(version), name, e, err, s)
			}
		}
	}
	thief := serverConfig(tls.VersionTLS13, f.gateway)
	thief.Certificates[0].PrivateKey = testpki.Must(testpki.NewKey(testpki.P256))
	thief.Certificates[0].Leaf = nil
	if _, e, _, err := dialed(t, clientParams(insecure), thief); e == nil || e.Reason != reason.UpstreamBadCert {
		t.Errorf("a server without the key: %v, %v", e, err)
	}
}
