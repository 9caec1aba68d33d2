package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// usages are key usages of a leaf: whether it may sign, and whether RSA key
// transport may use it.
var usages = []struct {
	name           string
	usage          x509.KeyUsage
	signs, decrypt bool
}{
	{"no extension", 0, true, true},
	{"digitalSignature", x509.KeyUsageDigitalSignature, true, false},
	{"both", x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, true, true},
	{"keyEncipherment", x509.KeyUsageKeyEncipherment, false, true},
	{"keyAgreement", x509.KeyUsageKeyAgreement, false, false},
	{"contentCommitment", x509.KeyUsageContentCommitment, false, false},
	{"dataEncipherment", x509.KeyUsageDataEncipherment, false, false},
	{"cRLSign", x509.KeyUsageCRLSign, false, false},
	{"encipherOnly", x509.KeyUsageKeyAgreement | x509.KeyUsageEncipherOnly, false, false},
	{"no bit set", handshaketest.NoBit, false, false},
}

// Whoever proves a key by signing needs a certificate that allows to sign: a
// client, in both versions, on resumption and where it is only observed.
func TestKeyUsageOfClients(t *testing.T) {
	f := handshaketest.Fixtures()
	for _, u := range usages {
		for _, kind := range []testpki.KeyKind{testpki.P256, testpki.RSA2048} {
			leaf := testpki.Must(f.CA.Issue(testpki.Leaf{CN: "bob", Key: kind, Mutate: handshaketest.WithUsage(u.usage)}))
			for _, version := range bothVersions {
				o, _, err := withGo(t, handshaketest.ServerParams(), clientConfig(version, leaf.TLS()))
				switch {
				case u.signs && (err != nil || o.err != nil):
					t.Errorf("%s %s: client %v, server %v", u.name, handshake.VersionName(version), err, o.err)
				case !u.signs && (o.err == nil || o.err.Reason != reason.WrongUsage || !strings.Contains(o.err.Detail, "lacks digitalSignature")):
					t.Errorf("%s %s: server %v", u.name, handshake.VersionName(version), o.err)
				case !u.signs && alertSeen(t, err) != handshake.AlertUnsupportedCertificate:
					t.Errorf("%s %s: client %v", u.name, handshake.VersionName(version), err)
				}
				o, _, err = withGo(t, handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Observe = true }), clientConfig(version, leaf.TLS()))
				if err != nil || o.err != nil || (o.s.Peer.Refusal == nil) != u.signs {
					t.Errorf("%s %s, observed: client %v, server %v", u.name, handshake.VersionName(version), err, o.err)
				}
			}
		}
	}
}

// A destination's certificate must allow what its CipherSuite asks of it:
// signing, or decrypting for RSA key transport.
func TestKeyUsageOfDestinations(t *testing.T) {
	f := handshaketest.Fixtures()
	const transport, signing = tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	for _, u := range usages {
		leaf := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048, Mutate: handshaketest.WithUsage(u.usage)}))
		for _, c := range []struct {
			version, suite uint16
			good           bool
		}{
			{tls.VersionTLS13, 0, u.signs},
			{tls.VersionTLS12, signing, u.signs},
			{tls.VersionTLS12, transport, u.decrypt},
		} {
			config := serverConfig(c.version, leaf)
			config.ClientAuth, config.CipherSuites = tls.NoClientCert, []uint16{c.suite}
			var shown *handshake.Peer
			for _, insecure := range []bool{false, true} {
				s, e, _, _ := dialed(t, clientParams(func(p *handshake.ClientParams) {
					p.Profile.Suites12, p.Insecure = []uint16{signing, transport}, insecure
				}), config)
				if insecure {
					if e != nil {
						t.Errorf("%s, %s, insecure: %v", u.name, handshake.SuiteName(c.suite), e)
					}
					continue
				}
				switch {
				case c.good && e != nil:
					t.Errorf("%s, %s: %v", u.name, handshake.SuiteName(c.suite), e)
				case !c.good && (e == nil || e.Reason != reason.UpstreamBadCert || !strings.Contains(e.Detail, "key usage lacks")):
					t.Errorf("%s, %s: %v", u.name, handshake.SuiteName(c.suite), e)
				case c.good:
					shown = s.Peer
				default:
					shown = &handshake.Peer{Shown: leaf.Chain}
				}
			}
			// A reload judges it in the same way.
			suite := c.suite
			if c.version == tls.VersionTLS13 {
				suite = tls.TLS_AES_128_GCM_SHA256
			}
			again := clientParams().Again(shown, &handshake.State{Version: c.version, Suite: suite})
			if (again.Refusal == nil) != c.good {
				t.Errorf("%s, %s, again: %v", u.name, handshake.SuiteName(suite), again.Refusal)
			}
		}
	}
}
