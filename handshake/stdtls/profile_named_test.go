package stdtls

import (
	"crypto/tls"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// The key transport of step 4 goes through under legacy-rsa, and nowhere else.
func TestLegacyRSA(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	for _, profile := range handshake.NamedProfiles() {
		name := profile.Name
		p := handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Profile, p.Certificates = profile, []tls.Certificate{rsa.TLS()} })
		o, out := withOpenSSL(t, p, "-tls1_2", "-cipher", "AES256-GCM-SHA384", "-cert", cert, "-key", key)
		if name == "legacy-rsa" {
			if o.err != nil || o.s.Suite != tls.TLS_RSA_WITH_AES_256_GCM_SHA384 || o.s.Group != 0 || o.s.Peer == nil || !o.s.Peer.Proven {
				t.Errorf("%s: %v %+v\n%s", name, o.err, o.s, out)
			}
			continue
		}
		if o.err == nil || o.err.Step != handshake.StepClientHello {
			t.Errorf("%s: %v %+v", name, o.err, o.s)
		}
	}
}

// A client that is up to it passes cnsa1, one that is not is refused.
func TestCNSA1(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	ca := testpki.Must(testpki.NewCA(testpki.Options{Key: testpki.P384}))
	strong := testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.P384}
	gateway, client := testpki.Must(ca.Issue(strong)), testpki.Must(ca.Issue(strong))
	cert, key, err := client.WritePEM(dir, "strong")
	if err != nil {
		t.Fatal(err)
	}
	weakCert, weakKey, err := f.Client.WritePEM(dir, "weak")
	if err != nil {
		t.Fatal(err)
	}
	profile := handshaketest.Named(t, "cnsa1")
	profile.Cap12 = true
	p := handshaketest.ServerParams(func(p *handshake.ServerParams) {
		p.Profile, p.Certificates = profile, []tls.Certificate{gateway.TLS()}
		p.Authorities = []*handshake.Authority{handshaketest.Authority("strong", ca), handshaketest.Authority("weak", f.CA)}
	})
	// In TLS 1.2 crypto/tls asks for SHA-256 first, with any curve: a client must
	// hold itself to SHA-384, or is refused.
	for _, args := range [][]string{{"-client_sigalgs", "ECDSA+SHA384"}, {"-tls1_2", "-client_sigalgs", "ECDSA+SHA384"}, {"-ciphersuites", "TLS_AES_256_GCM_SHA384"}} {
		o, out := withOpenSSL(t, p, append(args, "-groups", "X25519:P-384", "-cert", cert, "-key", key)...)
		if o.err != nil || o.s.Group != uint16(tls.CurveP384) || o.s.Peer.SignatureScheme != uint16(tls.ECDSAWithP384AndSHA384) ||
			o.s.Suite != tls.TLS_AES_256_GCM_SHA384 && o.s.Suite != tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 {
			t.Errorf("%v: %v %+v\n%s", args, o.err, o.s, out)
		}
	}
	o, _ := withOpenSSL(t, p, "-cert", weakCert, "-key", weakKey)
	if o.err == nil || o.err.Reason != reason.WeakKey && o.err.Reason != reason.WeakSignature {
		t.Errorf("P-256: %v", o.err)
	}
	// An identity that cannot sign as the profile has it is not used.
	p = handshaketest.ServerParams(func(p *handshake.ServerParams) { p.Profile = profile })
	if o, _ := withOpenSSL(t, p, "-ciphersuites", "TLS_AES_256_GCM_SHA384", "-cert", cert, "-key", key); o.err == nil || o.err.Reason != reason.NoCommonSigAlg {
		t.Errorf("P-256 of ours: %v", o.err)
	}
}
