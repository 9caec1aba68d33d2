package native

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/native/keys"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// params12 demand a certificate of Staff CA, and allow TLS 1.2 alone.
func params12(change ...func(*handshake.ServerParams)) *handshake.ServerParams {
	p := params()
	p.Profile.MinVersion, p.Profile.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	p.Profile.Suites12 = keys.Suites12()
	for _, c := range change {
		c(p)
	}
	return p
}

// config12 is clientConfig of a client that has TLS 1.2 alone.
func config12(certs ...tls.Certificate) *tls.Config {
	c := clientConfig(certs...)
	c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	return c
}

func TestAgreement12(t *testing.T) {
	for _, suite := range keys.Suites12() {
		kind := testpki.P256
		if keys.Suite12Of(suite).RSA {
			kind = testpki.RSA2048
		}
		gateway := issued(t, kind, "gateway")
		for _, group := range keys.Groups12() {
			t.Run(fmt.Sprintf("%s %s", handshake.SuiteName(suite), handshake.GroupName(group)), func(t *testing.T) {
				p := params12(func(p *handshake.ServerParams) {
					p.Profile.Suites12, p.Profile.Groups, p.ALPN = []uint16{suite}, []uint16{group}, []string{"h2", "http/1.1"}
					p.Certificates = []tls.Certificate{gateway}
				})
				config := config12(alice())
				config.NextProtos = []string{"http/1.1", "h2"}
				config.CurvePreferences = []tls.CurveID{tls.CurveP256, tls.CurveID(group)} // P-256 is the curve of the key
				o, cs, err := newRig(p).withGo(t, config)
				switch {
				case err != nil || o.err != nil:
					t.Fatal(err, o.err)
				case cs.CipherSuite != suite || cs.CurveID != tls.CurveID(group) || cs.NegotiatedProtocol != "h2" || cs.Version != tls.VersionTLS12:
					t.Errorf("the client has %+v", cs)
				case o.s.Suite != suite || o.s.Group != group || o.s.ALPN != "h2" || o.s.ServerName != "gateway.test" || o.s.Resumed || !o.s.ExtendedMasterSecret:
					t.Errorf("the server has %+v", o.s.State)
				case !o.s.Peer.Proven || o.s.Peer.Authority != "staff" || o.s.Peer.SignatureScheme != uint16(tls.ECDSAWithP256AndSHA256):
					t.Errorf("the client is %+v", o.s.Peer)
				case o.asked != 1 || !o.proven:
					t.Errorf("asked %d times, proven %v", o.asked, o.proven)
				case o.l.Reached() != handshake.StepApplicationData || o.l.AlertSent() != handshake.AlertNone:
					t.Errorf("reached %v, sent %s", o.l.Reached(), o.l.AlertSent())
				}
			})
		}
	}
}

// Every kind of key on either side, with and without a certificate of the client, whatever
// is asked for.
func TestKeysAndModes12(t *testing.T) {
	for kind, scheme := range map[testpki.KeyKind]uint16{
		testpki.P256: uint16(tls.ECDSAWithP256AndSHA256), testpki.P384: uint16(tls.ECDSAWithP256AndSHA256), testpki.P521: uint16(tls.ECDSAWithP256AndSHA256),
		testpki.RSA2048: uint16(tls.PSSWithSHA256), testpki.Ed25519: uint16(tls.Ed25519),
	} {
		gateway, client := issued(t, kind, "gateway"), issued(t, kind, "bob")
		for _, auth := range []handshake.ClientAuth{handshake.ClientAuthRequired, handshake.ClientAuthOptional, handshake.ClientAuthNone} {
			for _, shows := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s %s %v", kind, auth, shows), func(t *testing.T) {
					p := params12(func(p *handshake.ServerParams) { p.Certificates, p.ClientAuth = []tls.Certificate{gateway}, auth })
					config := config12()
					if shows {
						config = config12(client)
					}
					o, cs, err := newRig(p).withGo(t, config)
					if auth == handshake.ClientAuthRequired && !shows {
						if alertSeen(err) != handshake.AlertHandshakeFailure || o.err == nil || o.err.Reason != reason.NoCertificate || o.asked != 0 {
							t.Errorf("%v, %v, asked %d times", err, o.err, o.asked)
						}
						return
					}
					if err != nil || o.err != nil {
						t.Fatal(err, o.err)
					}
					if got := cs.PeerCertificates[0]; !got.Equal(gateway.Leaf) {
						t.Errorf("%s was shown", got.Subject)
					}
					if shown := shows && auth != handshake.ClientAuthNone; (o.s.Peer != nil) != shown || shown && o.s.Peer.SignatureScheme != scheme || o.proven != shown || o.asked != 1 {
						t.Errorf("peer %+v, asked %d times, proven %v", o.s.Peer, o.asked, o.proven)
					}
				})
			}
		}
	}
}
