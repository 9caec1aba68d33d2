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
)

// withOpenSSL runs the engine against `openssl s_client`.
func (r *rig) withOpenSSL(t *testing.T, args ...string) (outcome, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan outcome, 1)
	ctx := testenv.Context(t)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- outcome{err: handshake.AsError(err)}
			return
		}
		done <- r.serve(ctx, c.(*net.TCPConn))
	}()
	out := openSSL(t, append([]string{"s_client", "-quiet", "-connect", l.Addr().String(), "-servername", "gateway.test"}, args...)...)
	_ = l.Close()
	return testenv.Receive(t, "the server's end", done), out
}

// openSSL runs it to its end; what it printed and what we saw says all.
func openSSL(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(testenv.Context(t), testenv.Tool(t, "openssl"), args...)
	cmd.WaitDelay = testenv.Patience()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	_ = cmd.Run()
	return out.String()
}

func TestOpenSSLClients(t *testing.T) {
	f, dir := handshaketest.Fixtures(), t.TempDir()
	ca, _, err := f.CA.WritePEM(dir, "ca")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := f.Client.WritePEM(dir, "alice")
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"-CAfile", ca, "-verify_return_error", "-cert", cert, "-key", key}
	for name, c := range map[string]struct {
		args  []string
		suite uint16
		group tls.CurveID
		retry bool
	}{
		"AES-128":  {[]string{"-ciphersuites", "TLS_AES_128_GCM_SHA256"}, tls.TLS_AES_128_GCM_SHA256, tls.X25519, false},
		"AES-256":  {[]string{"-ciphersuites", "TLS_AES_256_GCM_SHA384"}, tls.TLS_AES_256_GCM_SHA384, tls.X25519, false},
		"ChaCha20": {[]string{"-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"}, tls.TLS_CHACHA20_POLY1305_SHA256, tls.X25519, false},
		"retry":    {[]string{"-groups", "P-521:P-384", "-ciphersuites", "TLS_AES_256_GCM_SHA384"}, tls.TLS_AES_256_GCM_SHA384, tls.CurveP384, true},
	} {
		o, out := newRig(params()).withOpenSSL(t, append(good, c.args...)...)
		if o.err != nil || o.s.Suite != c.suite || o.s.Group != uint16(c.group) || o.s.HelloRetry != c.retry || o.s.Peer.Authority != "staff" || !strings.Contains(out, "ok") {
			t.Errorf("%s: %v\n%s", name, o.err, out)
		}
	}
	// It refuses our certificate, and we know why it went.
	o, _ := newRig(params()).withOpenSSL(t, "-CAfile", cert, "-verify_return_error")
	if o.err == nil || o.err.Received != handshake.AlertUnknownCA {
		t.Errorf("%v", o.err)
	}
	file := filepath.Join(dir, "session")
	r := newRig(ticketed())
	for _, arg := range []string{"-sess_out", "-sess_in"} {
		o, out := r.withOpenSSL(t, append(good, arg, file)...)
		if o.err != nil || o.s.Resumed != (arg == "-sess_in") || !o.s.Peer.Proven {
			t.Errorf("%s: %v\n%s", arg, o.err, out)
		}
	}
}
