package native

import (
	"crypto/tls"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// house87 is a house of ML-DSA-87: an authority, the gateway, and a client.
type house87 struct {
	ca              *testpki.CA
	gateway, client tls.Certificate
}

func newHouse87() *house87 {
	h := &house87{ca: testpki.Must(testpki.NewCA(testpki.Options{CN: "CNSA CA", Key: testpki.MLDSA87}))}
	h.gateway = h.leaf(testpki.MLDSA87, "gateway.test")
	h.client = h.leaf(testpki.MLDSA87, "alice.example")
	return h
}

func (h *house87) leaf(kind testpki.KeyKind, name string) tls.Certificate {
	return testpki.Must(h.ca.Issue(testpki.Leaf{Key: kind, DNS: []string{name}})).TLS()
}

// plan is the profile cnsa2 as it is named.
func (h *house87) plan(t *testing.T, change ...func(*handshake.ServerParams)) *handshake.ServerParams {
	return handshaketest.ServerParams(append([]func(*handshake.ServerParams){func(p *handshake.ServerParams) {
		p.Profile = handshaketest.Named(t, "cnsa2")
		p.Profile.Engine = handshake.EngineNative
		p.Certificates = []tls.Certificate{h.gateway}
		p.Authorities = []*handshake.Authority{handshaketest.Authority("staff", h.ca)}
	}}, change...)...)
}

// config is a client that can all of it.
func (h *house87) config(certs ...tls.Certificate) *tls.Config {
	config := clientConfig(certs...)
	config.RootCAs = h.ca.Pool()
	config.CurvePreferences = []tls.CurveID{tls.MLKEM1024}
	return config
}

// What draft-becker-cnsa2-tls-profile demands of a server, one by one: the version, the
// CipherSuite, the key establishment, signatures of either side and of every
// certificate, resumption with a key exchange alone, and no early data. TestEarlyData and
// TestTicketLifetime have what is the same in every profile: early data is skipped, no ticket
// allows any, and a client that has PSKs without a key exchange alone gets none.
func TestCNSA2Server(t *testing.T) {
	h := newHouse87()
	if limits := newRig(nil).engine.Cannot(&h.plan(t).Params); len(limits) != 0 {
		t.Fatalf("cannot keep %v", limits)
	}

	t.Run("a client that has all of it", func(t *testing.T) {
		o, cs, err := newRig(h.plan(t)).withGo(t, h.config(h.client))
		if err != nil || o.err != nil {
			t.Fatal(err, o.err)
		}
		if cs.Version != tls.VersionTLS13 || cs.CipherSuite != tls.TLS_AES_256_GCM_SHA384 || cs.CurveID != tls.MLKEM1024 || o.s.Peer.SignatureScheme != uint16(tls.MLDSA87) {
			t.Errorf("%s, %s, %s", tls.CipherSuiteName(cs.CipherSuite), cs.CurveID, handshake.SchemeName(o.s.Peer.SignatureScheme))
		}
	})
	t.Run("its share comes second", func(t *testing.T) {
		config := h.config(h.client)
		config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.MLKEM1024}
		o, cs, err := newRig(h.plan(t)).withGo(t, config)
		if err != nil || o.err != nil || cs.CurveID != tls.MLKEM1024 || !o.s.HelloRetry {
			t.Errorf("%v, %v, %s", err, o.err, cs.CurveID)
		}
	})
	t.Run("what it may sign with", func(t *testing.T) {
		var asked []tls.SignatureScheme
		config := h.config()
		config.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = r.SignatureSchemes
			return &h.client, nil
		}
		if o, _, err := newRig(h.plan(t)).withGo(t, config); err != nil || o.err != nil || !slices.Equal(asked, []tls.SignatureScheme{tls.MLDSA87}) {
			t.Errorf("%v, %v, asked for %v", err, o.err, asked)
		}
	})
	t.Run("it comes back", func(t *testing.T) {
		p := h.plan(t, func(p *handshake.ServerParams) { p.Ticket = ticketed().Ticket })
		config := h.config(h.client)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		engine := newRig(p).engine
		for i := range 2 {
			o, cs, err := (&rig{engine: engine, plan: p}).withGo(t, config)
			if err != nil || o.err != nil || cs.DidResume != (i > 0) || cs.CurveID != tls.MLKEM1024 || o.s.Peer.SignatureScheme != uint16(tls.MLDSA87) {
				t.Fatalf("%d: %v, %v, resumed %v, %s", i, err, o.err, cs.DidResume, cs.CurveID)
			}
		}
	})

	show := func(c tls.Certificate) func(*tls.Config) {
		return func(config *tls.Config) {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
		}
	}
	// below is a client of ML-DSA-87 whose authority has another key, which the plan trusts.
	below := func(kind testpki.KeyKind) (tls.Certificate, func(*handshake.ServerParams)) {
		ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "Other CA", Key: kind}))
		return testpki.Must(ca.Issue(testpki.Leaf{Key: testpki.MLDSA87, DNS: []string{"alice.example"}})).TLS(), func(p *handshake.ServerParams) {
			p.Authorities = []*handshake.Authority{handshaketest.Authority("staff", ca)}
		}
	}
	ofP384, trustP384 := below(testpki.P384)
	ofMLDSA65, trustMLDSA65 := below(testpki.MLDSA65)
	for name, c := range map[string]struct {
		config func(*tls.Config)
		plan   func(*handshake.ServerParams)
		want   reason.Code
	}{
		"TLS 1.2 alone":        {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }, nil, reason.ProtocolVersion},
		"a hybrid group alone": {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.SecP384r1MLKEM1024, tls.X25519MLKEM768} }, nil, reason.NoCommonGroup},
		"a classical group":    {func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} }, nil, reason.NoCommonGroup},
		"no certificate":       {func(c *tls.Config) { c.GetClientCertificate = nil }, nil, reason.NoCertificate},
		// The client itself finds that no key of its own is asked for.
		"a key of ML-DSA-65":    {show(h.leaf(testpki.MLDSA65, "alice.example")), nil, reason.HandshakeFailed},
		"a key of P-384":        {show(h.leaf(testpki.P384, "alice.example")), nil, reason.HandshakeFailed},
		"a classical authority": {show(ofP384), trustP384, reason.WeakSignature},
		"an authority of ML-65": {show(ofMLDSA65), trustMLDSA65, reason.WeakSignature},
		"our certificate of RSA": {nil, func(p *handshake.ServerParams) {
			p.Certificates = []tls.Certificate{h.leaf(testpki.RSA2048, "gateway.test")}
		}, reason.NoCommonSigAlg},
	} {
		t.Run(name, func(t *testing.T) {
			config, p := h.config(h.client), h.plan(t)
			if c.config != nil {
				c.config(config)
			}
			if c.plan != nil {
				c.plan(p)
			}
			o, _, err := newRig(p).withGo(t, config)
			if err == nil || o.err == nil || o.err.Reason != c.want || o.asked != 0 {
				t.Errorf("%v, %v, asked %d times: want %s", err, o.err, o.asked, c.want)
			}
		})
	}
}
