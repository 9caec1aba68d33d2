package stdtls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/work"
)

// A Certificate message that is larger than the chain may be is not decoded.
func TestCertificateMessageIsBounded(t *testing.T) {
	m := handshaketest.NewMaker(t, 2)
	for _, names := range []int{6000, 12000} {
		leaf := m.Cert(handshaketest.Made{Subject: "leaf", Issuer: "root", Key: 1, Signer: 0, Leaf: true, Mutate: func(c *x509.Certificate) {
			c.DNSNames = nil
			for i := range names {
				c.DNSNames = append(c.DNSNames, fmt.Sprintf("name%d.example", i))
			}
		}})
		client := tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: m.Keys[1]}
		for _, version := range bothVersions {
			o, _, _ := withGo(t, handshaketest.ServerParams(), clientConfig(version, client))
			if o.err == nil || o.err.Reason != reason.ChainTooLong || o.err.Step != handshake.StepClientVerified || o.l.AlertSent() != handshake.AlertBadCertificate {
				t.Errorf("%d bytes, %s: %v, alert %s", len(leaf.Raw), handshake.VersionName(version), o.err, o.l.AlertSent())
			}
			if o.l.Spent() <= 0 || o.l.Spent() > 2*work.Ordinary {
				t.Errorf("%d bytes, %s: %d units charged, an ordinary handshake has %d", len(leaf.Raw), handshake.VersionName(version), o.l.Spent(), work.Ordinary)
			}
		}
	}
}

// What a handshake has cost is counted: the dearer the client's key and chain,
// the more, a refused one too; what is resumed or remembered costs less.
func TestWorkIsCounted(t *testing.T) {
	f := handshaketest.Fixtures()
	spent := func(p *handshake.ServerParams, client tls.Certificate, version uint16) work.Units {
		t.Helper()
		o, _, _ := withGo(t, p, clientConfig(version, client))
		return o.l.Spent()
	}
	p521 := testpki.Must(f.CA.Issue(testpki.Leaf{Key: testpki.P521}))
	dear := testpki.Must(testpki.Must(f.CA.Intermediate(testpki.Options{Key: testpki.P521})).Issue(testpki.Leaf{Key: testpki.P521}))
	stranger := testpki.Must(f.Other.Issue(testpki.Leaf{}))
	for _, version := range bothVersions {
		usual := spent(handshaketest.ServerParams(), f.Client.TLS(), version)
		if usual < work.Ordinary/4 || usual > 2*work.Ordinary {
			t.Errorf("%s: an ordinary handshake is counted as %d, its unit is %d", handshake.VersionName(version), usual, work.Ordinary)
		}
		if none := spent(handshaketest.ServerParams(func(p *handshake.ServerParams) { p.ClientAuth = handshake.ClientAuthNone }), tls.Certificate{}, version); none >= usual {
			t.Errorf("%s: without a certificate %d, with one %d", handshake.VersionName(version), none, usual)
		}
		leaf := spent(handshaketest.ServerParams(), p521.TLS(), version)
		chain := spent(handshaketest.ServerParams(), dear.TLS(), version)
		if leaf < usual+1500 || chain < leaf+1500 {
			t.Errorf("%s: P-256 %d, P-521 %d, below a CA with P-521 %d", handshake.VersionName(version), usual, leaf, chain)
		}
		if no := spent(handshaketest.ServerParams(), stranger.TLS(), version); no <= 0 || no > usual {
			t.Errorf("%s: a stranger's certificate %d", handshake.VersionName(version), no)
		}
	}
}
