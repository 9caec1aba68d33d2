package handshake

import (
	"bytes"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// OpenSSL's hellos, which differ from Go's, are read, and its client shows the
// alert that was sent before ServerHello.
func TestOpenSSLHellos(t *testing.T) {
	openssl := testenv.Tool(t, "openssl")
	intermediate := NamedProfiles()[1]
	for _, c := range []struct {
		args    string
		summary string
		code    reason.Code // of Acceptable for intermediate
	}{
		{"-tls1_3 -servername shop.example", "TLS 1.3; 3 CipherSuites; X25519 share; sni shop.example", ""},
		{"-tls1_3 -noservername -groups X448:P-521", "TLS 1.3; 3 CipherSuites; X448 share; no sni", reason.NoCommonGroup},
		{"-tls1_3 -noservername -groups P-256 -alpn h2,http/1.1", "TLS 1.3; 3 CipherSuites; secp256r1 share; no sni; alpn h2 http/1.1", ""},
		{"-tls1_3 -noservername -groups P-256 -ciphersuites TLS_AES_128_CCM_SHA256", "TLS 1.3; 1 CipherSuite; secp256r1 share; no sni", reason.NoCommonSuite},
		{"-tls1_3 -noservername -groups P-256 -psk 0102 -ciphersuites TLS_AES_128_GCM_SHA256", "TLS 1.3; 1 CipherSuite; secp256r1 share; no sni", ""},
		{"-tls1_2 -noservername -cipher ECDHE-RSA-AES128-GCM-SHA256", "TLS 1.2, 1.1, 1.0; 1 CipherSuite; no sni", ""},
		{"-tls1_2 -noservername -cipher AES128-SHA", "TLS 1.2, 1.1, 1.0; 1 CipherSuite; no sni", reason.NoCommonSuite},
		{"-tls1_2 -noservername -cipher ECDHE-RSA-AES128-GCM-SHA256 -groups X448", "TLS 1.2, 1.1, 1.0; 1 CipherSuite; no sni", reason.NoCommonGroup},
		{"-tls1_1 -noservername -cipher AES128-SHA:@SECLEVEL=0", "TLS 1.1, 1.0; 1 CipherSuite; no sni", reason.ProtocolVersion},
		{"-tls1_3 -servername shop.example.", "TLS 1.3; 3 CipherSuites; X25519 share; sni shop.example", reason.SNIInvalid},
	} {
		t.Run(c.args, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
			if err := l.(*net.TCPListener).SetDeadline(testenv.Deadline()); err != nil {
				t.Fatal(err)
			}
			args := append([]string{"s_client", "-connect", l.Addr().String()}, strings.Fields(c.args)...)
			var out bytes.Buffer
			cmd := exec.CommandContext(t.Context(), openssl, args...)
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			conn, err := l.Accept()
			if err != nil {
				_ = cmd.Wait()
				t.Fatalf("no connection: %v, openssl said %s", err, out.String())
			}
			h, conn, err := Peek(t.Context(), conn, 0)
			alert := AlertAccessDenied
			if err != nil {
				t.Error(err)
			} else {
				if got := h.Summary(); got != c.summary {
					t.Errorf("got\n%s, want\n%s", got, c.summary)
				}
				switch e := h.Acceptable(intermediate); {
				case e != nil && e.Reason != c.code:
					t.Errorf("got %v, want %q", e, c.code)
				case e == nil && c.code != "":
					t.Errorf("accepted, want %s", c.code)
				case e != nil:
					alert = e.Wanted
				}
				if err := SendAlert(conn, alert, h.RecordVersion); err != nil {
					t.Error(err)
				}
			}
			_ = conn.Close()
			_ = cmd.Wait() // fails, for the handshake does
			if want := "SSL alert number " + strings.Trim(alert.String()[strings.IndexByte(alert.String(), '('):], "()"); !strings.Contains(out.String(), want) {
				t.Errorf("openssl does not show %q: %s", want, out.String())
			}
		})
	}
}
