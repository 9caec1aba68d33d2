package probe

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// The probe says what the gateway would: a certificate that may not sign fits no
// profile in which the server signs, and one that may neither sign nor decrypt
// fits none.
func TestJudgeKeyUsage(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	p := &prober{name: "a.test", trust: &handshake.Authority{Name: "given", Roots: []*x509.Certificate{ca.Root}}}
	signing := handshake.Profile{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13, Suites12: []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}}
	transport := handshake.Profile{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS12, Suites12: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}
	for _, c := range []struct {
		usage           x509.KeyUsage
		signs, decrypts bool
	}{
		{0, true, true},
		{x509.KeyUsageDigitalSignature, true, true}, // which CipherSuite is chosen is not known here
		{x509.KeyUsageKeyEncipherment, false, true},
		{x509.KeyUsageKeyAgreement, false, false},
		{x509.KeyUsageContentCommitment, false, false},
	} {
		leaf := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"a.test"}, Key: testpki.RSA2048, Mutate: func(x *x509.Certificate) { x.KeyUsage = c.usage }}))
		for _, with := range []struct {
			profile handshake.Profile
			want    bool
		}{{signing, c.signs}, {transport, c.decrypts}, {handshake.Profile{}, c.signs || c.decrypts}} {
			if ok, verdict := p.judge(leaf.Chain, with.profile); ok != with.want || !ok && !strings.Contains(verdict, "key usage lacks") {
				t.Errorf("%d: %v, %s", c.usage, ok, verdict)
			}
		}
	}
}
