package native

import (
	"bytes"
	"crypto/tls"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/handshaketest"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// OpenSSL speaks TLS 1.2 with the engine: each suite, its tickets, and what it is refused.
func TestOpenSSLClients12(t *testing.T) {
	f, dir := handshaketest.Fixtures(), t.TempDir()
	ca, _, err := f.CA.WritePEM(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"-tls1_2", "-CAfile", ca, "-verify_return_error", "-cert", cert, "-key", key}
	rsa := []tls.Certificate{issued(t, testpki.RSA2048, "gateway")}
	for name, suite := range map[string]uint16{
		"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "ECDHE-RSA-AES128-GCM-SHA256": tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "ECDHE-RSA-AES256-GCM-SHA384": tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, "ECDHE-RSA-CHACHA20-POLY1305": tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	} {
		p := params12(func(p *handshake.ServerParams) {
			if strings.Contains(name, "RSA-") && !strings.Contains(name, "ECDSA") {
				p.Certificates = rsa
			}
		})
		o, out := newRig(p).withOpenSSL(t, append(good, "-cipher", name)...)
		if o.err != nil || o.s.Suite != suite || o.s.Peer.Authority != "staff" || !o.s.ExtendedMasterSecret || !strings.Contains(out, "ok") {
			t.Errorf("%s: %v\n%s", name, o.err, out)
		}
	}
	o, out := newRig(params12()).withOpenSSL(t, "-tls1_2", "-CAfile", ca)
	if o.err == nil || o.err.Wanted != handshake.AlertHandshakeFailure || !strings.Contains(out, "alert number 40") {
		t.Errorf("without a certificate: %v\n%s", o.err, out)
	}
	o, out = newRig(ticketed12(func(p *handshake.ServerParams) { p.Profile.MaxVersion = tls.VersionTLS13 })).withOpenSSL(t, append(good, "-fallback_scsv")...)
	if o.err == nil || o.err.Wanted != handshake.AlertInappropriateFallback || !strings.Contains(out, "alert number 86") {
		t.Errorf("fallback: %v\n%s", o.err, out)
	}
	r, file := newRig(ticketed12()), filepath.Join(dir, "session")
	for _, arg := range []string{"-sess_out", "-sess_in", "-sess_in"} {
		o, out := r.withOpenSSL(t, append(good, arg, file)...)
		if o.err != nil || o.s.Resumed != (arg == "-sess_in") || !o.s.Peer.Proven || !strings.Contains(out, "ok") {
			t.Errorf("%s: %v\n%s", arg, o.err, out)
		}
	}
}

// GnuTLS speaks TLS 1.2 with the engine, and resumes.
func TestGnuTLSClients12(t *testing.T) {
	tool := testenv.Tool(t, "gnutls-cli")
	f, dir := handshaketest.Fixtures(), t.TempDir()
	ca, _, err := f.CA.WritePEM(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(ticketed12())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	const connections = 2 // --resume makes a second one
	done := make(chan outcome, connections)
	ctx := testenv.Context(t)
	go func() {
		for range connections {
			c, err := l.Accept()
			if err != nil {
				done <- outcome{err: handshake.AsError(err)}
				return
			}
			done <- r.serve(ctx, c.(*net.TCPConn))
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	cmd := exec.CommandContext(ctx, tool, "--resume", "--priority", "NORMAL:-VERS-ALL:+VERS-TLS1.2", "--x509cafile", ca, "--x509certfile", cert, "--x509keyfile", key,
		"--sni-hostname", "gateway.test", "--verify-hostname", "gateway.test", "--port", port, "127.0.0.1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &out, &out, testenv.Patience()
	_ = cmd.Run()
	for i := range connections {
		o := testenv.Receive(t, "the server's end", done)
		if o.err != nil || o.s.Version != tls.VersionTLS12 || !o.s.Peer.Proven || o.s.Resumed != (i > 0) {
			t.Errorf("%d: %v\n%s", i, o.err, out.String())
		}
	}
}
