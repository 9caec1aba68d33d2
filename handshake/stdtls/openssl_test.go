package stdtls

import (
	"bytes"
	"crypto/tls"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
)

// withOpenSSL runs the engine against `openssl s_client`.
func withOpenSSL(t *testing.T, p *handshake.ServerParams, args ...string) (outcome, string) {
	t.Helper()
	path := testenv.Tool(t, "openssl")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	done := make(chan outcome, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- outcome{err: handshake.AsError(err)}
			return
		}
		done <- serve(t.Context(), c.(*net.TCPConn), p, nil)
	}()
	if !slices.Contains(args, "-sess_in") && !slices.Contains(args, "-sess_out") {
		args = append(slices.Clone(args), "-no_ticket")
	}
	if !slices.Contains(args, "-servername") {
		args = append(slices.Clone(args), "-servername", "gateway.test")
	}
	cmd := exec.CommandContext(t.Context(), path, append([]string{"s_client", "-quiet", "-connect", l.Addr().String()}, args...)...)
	cmd.WaitDelay = testenv.Patience()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run() // its exit code says little; what it printed and what we saw says all
	_ = l.Close()
	return <-done, out.String()
}

func TestOpenSSLClients(t *testing.T) {
	f := handshaketest.Fixtures()
	dir := t.TempDir()
	caFile, _, err := f.CA.WritePEM(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	otherFile, _, err := f.Other.WritePEM(dir, "other")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	rsa := testpki.Must(f.CA.Issue(testpki.Leaf{DNS: []string{"gateway.test"}, Key: testpki.RSA2048}))
	good := []string{"-CAfile", caFile, "-verify_return_error", "-cert", cert, "-key", key}

	for name, tt := range map[string]struct {
		args   []string
		params func(*handshake.ServerParams)
		check  func(*testing.T, *handshake.Session)
	}{
		"AES-128":  {args: []string{"-tls1_3", "-ciphersuites", "TLS_AES_128_GCM_SHA256"}},
		"AES-256":  {args: []string{"-tls1_3", "-ciphersuites", "TLS_AES_256_GCM_SHA384"}},
		"ChaCha20": {args: []string{"-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}},
		"TLS 1.2":  {args: []string{"-tls1_2"}},
		"retry": {args: []string{"-groups", "P-256:P-384"}, params: func(p *handshake.ServerParams) { p.Profile.Groups = []uint16{uint16(tls.CurveP384)} }, check: func(t *testing.T, s *handshake.Session) {
			if !s.HelloRetry {
				t.Error("no HelloRetryRequest")
			}
		}},
		// Step 4 as the classic text has it.
		"RSA key transport": {args: []string{"-tls1_2", "-cipher", "AES128-GCM-SHA256"}, params: func(p *handshake.ServerParams) {
			p.Certificates = []tls.Certificate{rsa.TLS()}
			p.Profile.Suites12 = []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}
		}, check: func(t *testing.T, s *handshake.Session) {
			if s.Suite != tls.TLS_RSA_WITH_AES_128_GCM_SHA256 || s.Group != 0 {
				t.Errorf("state %+v", s.State)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			p := handshaketest.ServerParams()
			if tt.params != nil {
				tt.params(p)
			}
			o, out := withOpenSSL(t, p, append(tt.args, good...)...)
			if o.err != nil || !strings.Contains(out, "ok") {
				t.Fatalf("server %v, openssl:\n%s", o.err, out)
			}
			if o.s.Peer == nil || !o.s.Peer.Proven || o.s.Peer.SignatureScheme == 0 {
				t.Errorf("peer %+v", o.s.Peer)
			}
			if s := strings.Join(story(o.l), "; "); o.l.Reached() != handshake.StepApplicationData || !strings.Contains(s, "5 peer CertificateVerify; ") || strings.Contains(s, "incomplete") {
				t.Errorf("reached %s: %s", o.l.Reached(), s)
			}
			if tt.check != nil {
				tt.check(t, o.s)
			}
		})
	}

	expired := testpki.Must(f.CA.Expired(testpki.Leaf{DNS: []string{"gateway.test"}}))
	for name, tt := range map[string]struct {
		args   []string
		params func(*handshake.ServerParams)
		reason reason.Code
		step   handshake.Step
		alert  handshake.Alert // received; or sent, where openssl names it
		prints string
	}{
		"our CA is unknown to it": {args: []string{"-CAfile", otherFile, "-verify_return_error"}, reason: reason.ClientRefused, step: handshake.StepServerVerified, alert: handshake.AlertUnknownCA},
		"our certificate expired": {args: []string{"-CAfile", caFile, "-verify_return_error"}, params: func(p *handshake.ServerParams) { p.Certificates = []tls.Certificate{expired.TLS()} },
			reason: reason.ClientRefused, step: handshake.StepServerVerified, alert: handshake.AlertCertificateExpired},
		"no certificate": {args: []string{"-CAfile", caFile}, reason: reason.NoCertificate, step: handshake.StepClientCertificate, prints: "alert"},
	} {
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			t.Run(name+version, func(t *testing.T) {
				p := handshaketest.ServerParams()
				if tt.params != nil {
					tt.params(p)
				}
				o, out := withOpenSSL(t, p, append(tt.args, version)...)
				if o.err == nil || o.err.Reason != tt.reason || o.err.Step != tt.step {
					t.Fatalf("server %v, openssl:\n%s", o.err, out)
				}
				if tt.alert != 0 && (o.err.Received != tt.alert || o.l.AlertReceived() != tt.alert) {
					t.Errorf("received %s, ledger %s", o.err.Received, o.l.AlertReceived())
				}
				if !strings.Contains(out, tt.prints) {
					t.Errorf("openssl:\n%s", out)
				}
			})
		}
	}
}
