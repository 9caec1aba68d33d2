package stdtls

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/ticket"
)

// Chains and proofs of ML-DSA, of both sides, with a key exchange of ML-KEM alone; and
// under a profile that demands just that, nothing else gets in.
func TestMLDSA(t *testing.T) {
	for _, c := range []struct {
		kind   testpki.KeyKind
		scheme tls.SignatureScheme
	}{{testpki.MLDSA44, tls.MLDSA44}, {testpki.MLDSA65, tls.MLDSA65}, {testpki.MLDSA87, tls.MLDSA87}} {
		ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "PQ", Key: c.kind}))
		inter := testpki.Must(ca.Intermediate(testpki.Options{Key: c.kind}))
		leaf := func(kind testpki.KeyKind) *testpki.Cert {
			return testpki.Must(inter.Issue(testpki.Leaf{CN: "alice", DNS: []string{"gateway.test"}, Key: kind}))
		}
		good, weak := leaf(c.kind), leaf(testpki.P384)
		params := func(keys handshake.TicketSealer) *handshake.ServerParams {
			return handshaketest.ServerParams(func(p *handshake.ServerParams) {
				p.Certificates = []tls.Certificate{good.TLS()}
				p.Authorities = []*handshake.Authority{handshaketest.Authority("pq", ca)}
				p.Profile.Groups, p.Profile.Signatures = []uint16{uint16(tls.MLKEM1024)}, []uint16{uint16(c.scheme)}
				p.Profile.MinVersion = tls.VersionTLS12
				if keys != nil {
					p.Ticket = &handshake.TicketRule{Keys: keys, Binding: []byte("x")}
				}
			})
		}
		config := func(certs ...tls.Certificate) *tls.Config {
			config := clientConfig(tls.VersionTLS13, certs...)
			config.RootCAs, config.CurvePreferences = ca.Pool(), []tls.CurveID{tls.MLKEM1024}
			return config
		}
		o, cs, err := withGo(t, params(nil), config(good.TLS()))
		if err != nil || o.err != nil {
			t.Fatalf("%s: %v, %v", c.kind, err, o.err)
		}
		if cs.CurveID != tls.MLKEM1024 || o.s.Peer.SignatureScheme != uint16(c.scheme) || len(o.s.Peer.Chain) != 3 {
			t.Errorf("%s: %v, %s, chain of %d", c.kind, cs.CurveID, handshake.SchemeName(o.s.Peer.SignatureScheme), len(o.s.Peer.Chain))
		}
		if o, _, err := withGo(t, params(nil), config(weak.TLS())); o.err == nil || o.err.Reason != reason.WeakSignature || alertSeen(t, err) != handshake.AlertUnsupportedCertificate {
			t.Errorf("%s: a proof of ECDSA: %v, %v", c.kind, o.err, err)
		}
		foreign := handshaketest.Fixtures().Client
		if o, _, err := withGo(t, params(nil), config(foreign.TLS())); o.err == nil || err == nil {
			t.Errorf("%s: a chain of ECDSA: %v, %v", c.kind, o.err, err)
		}
		old := config(good.TLS())
		old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
		if o, _, err := withGo(t, params(nil), old); o.err == nil || err == nil || o.l.AlertSent() == handshake.AlertInternalError {
			t.Errorf("%s: TLS 1.2: %v, %v, alert %s", c.kind, o.err, err, o.l.AlertSent())
		}
		thief := good.TLS()
		thief.PrivateKey = testpki.Must(testpki.NewKey(c.kind))
		if o, _, err := withGo(t, params(nil), config(thief)); o.err == nil || o.err.Reason != reason.NoPossession || err == nil {
			t.Errorf("%s: a thief: %v, %v", c.kind, o.err, err)
		}

		// Such a session is resumed: there is room for its chain.
		r := newResumer(tls.VersionTLS13, good)
		r.config.RootCAs, r.config.CurvePreferences = ca.Pool(), []tls.CurveID{tls.MLKEM1024}
		p := params(ticket.NewKeys(0))
		r.good(t, "first", p, false)
		r.good(t, "again", p, true)
	}
}

// ML-DSA is not for TLS 1.2: an identity of it alone leaves nothing to a client that has
// only that, and one with an ECDSA certificate besides shows it the other.
func TestMLDSAIdentityOf12(t *testing.T) {
	f := handshaketest.Fixtures()
	pq := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "pq", DNS: []string{"gateway.test"}, Key: testpki.MLDSA65})).TLS()
	for _, c := range []struct {
		certs   []tls.Certificate
		version uint16
		shown   string
	}{
		{[]tls.Certificate{pq}, tls.VersionTLS12, ""},
		{[]tls.Certificate{pq}, tls.VersionTLS13, "pq"},
		{[]tls.Certificate{pq, f.Gateway.TLS()}, tls.VersionTLS12, "gateway"},
		{[]tls.Certificate{pq, f.Gateway.TLS()}, tls.VersionTLS13, "pq"},
	} {
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Certificates = c.certs })
		o, cs, err := withGo(t, p, clientConfig(c.version, f.Client.TLS()))
		if c.shown == "" {
			if o.err == nil || o.err.Wanted == handshake.AlertInternalError || o.l.AlertSent() != o.err.Wanted || o.err.Reason == reason.Internal {
				t.Errorf("TLS 1.2 and an ML-DSA key: %v, alert %s", o.err, o.l.AlertSent())
			}
			continue
		}
		if err != nil || o.err != nil || !strings.Contains(cs.PeerCertificates[0].Subject.CommonName, c.shown) {
			t.Errorf("%s: %v, %v, shown %v", handshake.VersionName(c.version), err, o.err, cs.PeerCertificates)
		}
	}
}

// Towards a destination too: its chain and ours are of ML-DSA-87, and one of ECDSA is
// refused where the profile has nothing else.
func TestMLDSAOfDestination(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "PQ", Key: testpki.MLDSA87}))
	leaf := func(kind testpki.KeyKind) *testpki.Cert {
		return testpki.Must(ca.Issue(testpki.Leaf{CN: "destination", DNS: []string{"gateway.test"}, Key: kind}))
	}
	p := clientParams(func(p *handshake.ClientParams) {
		p.Authorities = []*handshake.Authority{handshaketest.Authority("pq", ca)}
		p.Certificates = []tls.Certificate{leaf(testpki.MLDSA87).TLS()}
		p.Profile.Groups, p.Profile.Signatures = []uint16{uint16(tls.MLKEM1024)}, []uint16{uint16(tls.MLDSA87)}
	})
	config := serverConfig(0, leaf(testpki.MLDSA87))
	config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	config.CurvePreferences = []tls.CurveID{tls.MLKEM1024}
	s, e, _, err := dialed(t, p, config)
	if e != nil || err != nil || s.Peer.SignatureScheme != uint16(tls.MLDSA87) || s.Group != uint16(tls.MLKEM1024) {
		t.Fatalf("%v, server %v", e, err)
	}
	config.Certificates = []tls.Certificate{leaf(testpki.P384).TLS()}
	if _, e, _, _ := dialed(t, p, config); e == nil || e.Reason != reason.UpstreamCrypto {
		t.Errorf("a destination's proof of ECDSA: %v", e)
	}
}
