package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

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
	{"no bit set", noBit, false, false},
}

// noBit stands for an extension in which no bit is set.
const noBit = x509.KeyUsage(-1)

func withUsage(u x509.KeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		if c.KeyUsage = u; u == noBit {
			c.KeyUsage = 0
			c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 15}, Critical: true, Value: []byte{3, 1, 0}}}
		}
	}
}

// Whoever proves a key by signing needs a certificate that allows to sign: a
// client, in both versions, on resumption and where it is only observed.
func TestKeyUsageOfClients(t *testing.T) {
	f := fixtures()
	for _, u := range usages {
		for _, kind := range []testpki.KeyKind{testpki.P256, testpki.RSA2048} {
			leaf := testpki.Must(f.ca.Issue(testpki.Leaf{CN: "bob", Key: kind, Mutate: withUsage(u.usage)}))
			for _, version := range bothVersions {
				o, _, err := withGo(t, serverParams(), clientConfig(version, leaf.TLS()))
				switch {
				case u.signs && (err != nil || o.err != nil):
					t.Errorf("%s %s: client %v, server %v", u.name, VersionName(version), err, o.err)
				case !u.signs && (o.err == nil || o.err.Reason != reason.WrongUsage || !strings.Contains(o.err.Detail, "lacks digitalSignature")):
					t.Errorf("%s %s: server %v", u.name, VersionName(version), o.err)
				case !u.signs && alertSeen(t, err) != AlertUnsupportedCertificate:
					t.Errorf("%s %s: client %v", u.name, VersionName(version), err)
				}
				o, _, err = withGo(t, serverParams(func(p *ServerParams) { p.Observe = true }), clientConfig(version, leaf.TLS()))
				if err != nil || o.err != nil || (o.s.Peer.Refusal == nil) != u.signs {
					t.Errorf("%s %s, observed: client %v, server %v", u.name, VersionName(version), err, o.err)
				}
			}
		}
	}
}

// A destination's certificate must allow what its CipherSuite asks of it:
// signing, or decrypting for RSA key transport.
func TestKeyUsageOfDestinations(t *testing.T) {
	f := fixtures()
	const transport, signing = tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
	for _, u := range usages {
		leaf := testpki.Must(f.ca.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048, Mutate: withUsage(u.usage)}))
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
			var shown *Peer
			for _, insecure := range []bool{false, true} {
				s, e, _, _ := dialed(t, clientParams(func(p *ClientParams) {
					p.Profile.Suites12, p.Insecure = []uint16{signing, transport}, insecure
				}), config)
				if insecure {
					if e != nil {
						t.Errorf("%s, %s, insecure: %v", u.name, SuiteName(c.suite), e)
					}
					continue
				}
				switch {
				case c.good && e != nil:
					t.Errorf("%s, %s: %v", u.name, SuiteName(c.suite), e)
				case !c.good && (e == nil || e.Reason != reason.UpstreamBadCert || !strings.Contains(e.Detail, "key usage lacks")):
					t.Errorf("%s, %s: %v", u.name, SuiteName(c.suite), e)
				case c.good:
					shown = s.Peer
				default:
					shown = &Peer{Shown: leaf.Chain}
				}
			}
			// A reload judges it in the same way.
			suite := c.suite
			if c.version == tls.VersionTLS13 {
				suite = tls.TLS_AES_128_GCM_SHA256
			}
			again := clientParams().Again(shown, &State{Version: c.version, Suite: suite})
			if (again.Refusal == nil) != c.good {
				t.Errorf("%s, %s, again: %v", u.name, SuiteName(suite), again.Refusal)
			}
		}
	}
}

// An issuer without keyCertSign is none, also where its key usage has no bit at
// all; and its path length counts.
func TestUsageOfIssuers(t *testing.T) {
	f := fixtures()
	for name, change := range map[string]func(*x509.Certificate){
		"cRLSign alone":     func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign },
		"digitalSignature":  func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature },
		"no bit set":        withUsage(noBit),
		"no constraints":    func(c *x509.Certificate) { c.BasicConstraintsValid, c.IsCA = false, false },
		"not a CA":          func(c *x509.Certificate) { c.IsCA = false },
		"for servers alone": func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} },
	} {
		inter := testpki.Must(f.ca.Intermediate(testpki.Options{Mutate: change}))
		leaf := testpki.Must(inter.Issue(testpki.Leaf{CN: "bob"}))
		want := reason.NotACA
		if name == "for servers alone" {
			want = reason.WrongUsage
		}
		if _, e := Verify(leaf.Chain, []*Authority{authority("staff", f.ca)}, x509.ExtKeyUsageClientAuth, &serverParams().Params); e == nil || e.Reason != want {
			t.Errorf("%s: %v", name, e)
		}
	}
	short := testpki.Must(f.ca.Intermediate(testpki.Options{Mutate: func(c *x509.Certificate) { c.MaxPathLenZero = true }}))
	below := testpki.Must(testpki.Must(short.Intermediate(testpki.Options{CN: "below"})).Issue(testpki.Leaf{CN: "bob"}))
	if _, e := Verify(below.Chain, []*Authority{authority("staff", f.ca)}, x509.ExtKeyUsageClientAuth, &serverParams().Params); e == nil || e.Reason != reason.NotACA {
		t.Errorf("path length: %v", e)
	}
}
