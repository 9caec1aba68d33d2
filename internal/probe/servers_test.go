package probe_test

import (
	"crypto/tls"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/probe"
)

// What OpenSSL was told to accept is what the probe finds, in its order.
func TestOpenSSLServers(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name                               string
		args                               []string
		versions, suites13, suites12, keys string
		order12, order13                   probe.Order
	}{
		{
			name:     "TLS 1.2, three CipherSuites, the server's order",
			args:     []string{"-cert", "rsa.pem", "-key", "rsa.key", "-tls1_2", "-serverpref", "-cipher", "AES256-GCM-SHA384:DHE-RSA-AES128-SHA:ECDHE-RSA-AES128-GCM-SHA256", "-curves", "P-384:X25519"},
			versions: "TLS 1.2", order12: probe.OrderServer, keys: "secp384r1 X25519",
			suites12: "TLS_RSA_WITH_AES_256_GCM_SHA384 TLS_DHE_RSA_WITH_AES_128_CBC_SHA TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
		},
		{
			name:     "TLS 1.2, the client's order",
			args:     []string{"-cert", "ecdsa.pem", "-key", "ecdsa.key", "-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256", "-curves", "P-256"},
			versions: "TLS 1.2", order12: probe.OrderClient, keys: "secp256r1",
			suites12: "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
		},
		{
			name:     "TLS 1.3, two CipherSuites and groups",
			args:     []string{"-cert", "ecdsa.pem", "-key", "ecdsa.key", "-tls1_3", "-serverpref", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_256_GCM_SHA384", "-groups", "P-521:X448"},
			versions: "TLS 1.3", order13: probe.OrderServer, keys: "secp521r1 X448",
			suites13: "TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256",
		},
		{
			name:     "one of CCM alone",
			args:     []string{"-cert", "ecdsa.pem", "-key", "ecdsa.key", "-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256", "-groups", "P-256"},
			versions: "TLS 1.3", keys: "secp256r1", suites13: "TLS_AES_128_CCM_SHA256",
		},
		{
			name:     "the old versions",
			args:     []string{"-cert", "rsa.pem", "-key", "rsa.key", "-no_tls1_3", "-no_tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"},
			versions: "TLS 1.1 TLS 1.0", suites12: "TLS_RSA_WITH_AES_128_CBC_SHA",
		},
		{
			name:     "no certificate at all",
			args:     []string{"-nocert", "-tls1_2", "-cipher", "AECDH-AES128-SHA:@SECLEVEL=0", "-curves", "P-256"},
			versions: "TLS 1.2", suites12: "TLS_ECDH_anon_WITH_AES_128_CBC_SHA",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := run(t, w.options(w.openssl(t, tt.args...)))
			for _, c := range []struct{ what, got, want string }{
				{"versions", accepted(r), tt.versions},
				{"TLS 1.3", list(r.Suites13), tt.suites13},
				{"TLS 1.2", list(r.Suites12), tt.suites12},
				{"order of TLS 1.2", string(r.Order12), string(tt.order12)},
				{"order of TLS 1.3", string(r.Order13), string(tt.order13)},
				{"groups", list(r.Groups), tt.keys},
			} {
				if c.got != c.want {
					t.Errorf("%s: %q, want %q", c.what, c.got, c.want)
				}
			}
			if t.Failed() {
				t.Log(r.Text())
			}
		})
	}
}

// The certificate request, the reaction to our certificate, tickets, the chain and the
// picture.
func TestRequestAndResumption(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options(w.openssl(t, "-cert", "ecdsa.pem", "-key", "ecdsa.key", "-CAfile", "ca.pem", "-Verify", "3", "-verify_return_error"))
	r := run(t, o)
	if len(r.Requests) != 2 {
		t.Fatalf("requests %+v", r.Requests)
	}
	for _, q := range r.Requests {
		if !slices.Equal(q.CANames, []string{"CN=Probe CA,O=sslgate test"}) || !strings.Contains(q.Answer, "without a certificate the server refused") {
			t.Errorf("%+v", q)
		}
		if (q.Version == "TLS 1.2") != slices.Contains(q.Types, "ecdsa_sign") {
			t.Errorf("types %v in %s", q.Types, q.Version)
		}
	}
	o.Certificate = pair(w.alice)
	r = run(t, o)
	for _, q := range r.Requests {
		if q.Answer != "with our certificate the server went on" {
			t.Errorf("%+v", q)
		}
	}
	for _, s := range r.Resumption {
		if !s.Resumed {
			t.Errorf("%+v", s)
		}
	}
	if len(r.Resumption) != 2 || len(r.Certificates) != 1 || !r.Certificates[0].Trusted || r.Agreed == nil || r.Agreed.Version != "TLS 1.3" {
		t.Errorf("%s", r.Text())
	}
	for _, word := range []string{"ClientHello", "CertificateRequest", "server verified", "client certificate", "application data"} {
		if !strings.Contains(r.Picture, word) {
			t.Errorf("the picture lacks %q:\n%s", word, r.Picture)
		}
	}
	if strings.Contains(r.Picture, "client    ") || len(r.Refusals) < 4 {
		t.Errorf("%s", r.Text())
	}
}

// A chain that the gateway would refuse is refused here in the same words.
func TestBadChains(t *testing.T) {
	w := newWorld(t)
	l := testpki.Leaf{DNS: []string{"pay.example"}}
	for name, tt := range map[string]struct {
		cert *testpki.Cert
		want string
	}{
		"expired":    {testpki.Must(w.ca.Expired(l)), "certificate_expired"},
		"other CA":   {testpki.Must(w.ca.OfOtherCA(l)), "unknown_ca"},
		"usage":      {testpki.Must(w.ca.ClientOnlyEKU(l)), "certificate_wrong_usage"},
		"wrong name": {testpki.Must(w.ca.Issue(testpki.Leaf{DNS: []string{"other.example"}})), "not pay.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := serveTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.cert.TLS()}})
			r := run(t, w.options(addr))
			if len(r.Certificates) != 1 || r.Certificates[0].Trusted || !strings.Contains(r.Certificates[0].Verdict, tt.want) {
				t.Errorf("%+v", r.Certificates)
			}
			// The rest is found out all the same.
			if list(r.Suites13) == "" || list(r.Groups) == "" || r.Ended == "" {
				t.Error(r.Text())
			}
		})
	}
}

// The hybrids, which the OpenSSL of the tests does not have, and what
// crypto/tls says to wrong questions.
func TestGoServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := run(t, w.options(serveTLS(t, &tls.Config{
		Certificates: []tls.Certificate{w.ecdsa.TLS()}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		CurvePreferences: []tls.CurveID{tls.X25519MLKEM768, tls.SecP384r1MLKEM1024, tls.MLKEM1024, tls.CurveP384},
	})))
	if got := list(r.Groups); got != "X25519MLKEM768 SecP384r1MLKEM1024 MLKEM1024 secp384r1" {
		t.Errorf("groups %s", got)
	}
	want := []probe.Refusal{
		{Question: "no CipherSuite in common", Said: "handshake_failure(40)"},
		{Question: "no version in common", Said: "protocol_version(70)"},
		{Question: "a server name that is nobody's", Said: "went on all the same"},
		{Question: "an application protocol that is nobody's", Said: "no_application_protocol(120)"},
	}
	if !slices.Equal(r.Refusals, want) {
		t.Errorf("%+v", r.Refusals)
	}
}

// serveTLS is a server of crypto/tls that echoes.
func serveTLS(t *testing.T, c *tls.Config) string {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", c)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, ln, func(c net.Conn) { _, _ = io.Copy(c, c) })
	return ln.Addr().String()
}

func serve(t *testing.T, ln net.Listener, one func(net.Conn)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(testenv.Deadline())
			one(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = ln.Close(); <-done })
}

func TestNginx(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := w.nginx(t, `ssl_certificate ecdsa.pem; ssl_certificate_key ecdsa.key;
		ssl_certificate rsa.pem; ssl_certificate_key rsa.key;
		ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on; ssl_ecdh_curve X25519:prime256v1;
		ssl_ciphers ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256;
		ssl_session_tickets off; ssl_session_cache shared:a:1m;
		ssl_verify_client optional; ssl_client_certificate ca.pem;`)
	o := w.options(addr)
	r := run(t, o)
	if got := list(r.Suites12); got != "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" || r.Order12 != probe.OrderServer {
		t.Errorf("TLS 1.2: %s (%s)", got, r.Order12)
	}
	if got := list(r.Groups); got != "X25519 secp256r1" {
		t.Errorf("groups %s", got)
	}
	if len(r.Certificates) != 2 || !r.Certificates[0].Trusted || !r.Certificates[1].Trusted {
		t.Errorf("both certificates: %+v", r.Certificates)
	}
	if !r.Features.SessionID {
		t.Error("session IDs are not seen")
	}
	for _, q := range r.Requests {
		if q.Answer != "without a certificate the server went on" {
			t.Errorf("%+v", q)
		}
	}

	// It fits intermediate fully, and modern except for its TLS 1.2.
	for _, p := range handshake.NamedProfiles() {
		if p.Name != "modern" && p.Name != "intermediate" {
			continue
		}
		o.Against = &p
		f := run(t, o).Fit
		if f.Fits != (p.Name == "intermediate") {
			t.Errorf("%+v", f)
		}
		if p.Name == "modern" && !slices.Equal(f.Violations, []string{"accepts TLS 1.2; the least is TLS 1.3"}) {
			t.Errorf("%q", f.Violations)
		}
	}
}

// sslscan asks in its own way and finds the same.
func TestAgreesWithSSLScan(t *testing.T) {
	t.Parallel()
	path := testenv.Tool(t, "sslscan")
	w := newWorld(t)
	addr := w.openssl(t, "-cert", "rsa.pem", "-key", "rsa.key", "-cipher", "ALL:!aNULL:@SECLEVEL=0")
	out, err := exec.CommandContext(t.Context(), path, "--xml=-", "--no-heartbleed", "--no-renegotiation", "--no-fallback", "--sni-name=pay.example", addr).Output()
	if err != nil {
		t.Fatal(err)
	}
	var scan struct {
		Test struct {
			Protocols []struct {
				Type    string `xml:"type,attr"`
				Version string `xml:"version,attr"`
				Enabled string `xml:"enabled,attr"`
			} `xml:"protocol"`
			Ciphers []struct {
				Version string `xml:"sslversion,attr"`
				ID      string `xml:"id,attr"`
			} `xml:"cipher"`
			Groups []struct {
				Version string `xml:"sslversion,attr"`
				ID      string `xml:"id,attr"`
			} `xml:"group"`
		} `xml:"ssltest"`
	}
	if err := xml.Unmarshal(out, &scan); err != nil {
		t.Fatal(err)
	}
	r := run(t, w.options(addr))
	number := func(s string) uint16 {
		n, err := strconv.ParseUint(s, 0, 16)
		if err != nil {
			t.Fatal(err)
		}
		return uint16(n)
	}
	for _, p := range scan.Test.Protocols {
		if got := strings.Contains(accepted(r), "TLS "+p.Version); p.Type == "tls" && got != (p.Enabled == "1") {
			t.Errorf("TLS %s accepted: %v, sslscan says %s", p.Version, got, p.Enabled)
		}
	}
	var s12, s13, groups []uint16
	for _, c := range scan.Test.Ciphers {
		switch c.Version {
		case "TLSv1.2":
			s12 = append(s12, number(c.ID))
		case "TLSv1.3":
			s13 = append(s13, number(c.ID))
		}
	}
	for _, g := range scan.Test.Groups {
		if g.Version == "TLSv1.3" {
			groups = append(groups, number(g.ID))
		}
	}
	same(t, "CipherSuites of TLS 1.2", r.Suites12, s12)
	same(t, "CipherSuites of TLS 1.3", r.Suites13, s13)
	same(t, "groups", r.Groups, groups)
	if len(s12) < 10 || len(groups) < 5 {
		t.Errorf("sslscan found nearly nothing: %s", out)
	}
}

func same(t *testing.T, what string, got []probe.Name, want []uint16) {
	t.Helper()
	var ids []uint16
	for _, n := range got {
		ids = append(ids, n.ID)
	}
	slices.Sort(ids)
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("%s: %#04x, sslscan found %#04x", what, ids, want)
	}
}

// A server without TLS ends the probe quickly, with a sentence.
func TestNoServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	listen := func(one func(net.Conn)) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serve(t, ln, one)
		return ln.Addr().String()
	}
	closed := listen(func(net.Conn) {})
	hostile := listen(func(c net.Conn) {
		_, _ = io.WriteString(c, "\x16\x03\x03\xff\xff\x1b[2J")
	})
	stranger := listen(func(c net.Conn) {
		_, _ = c.Read(make([]byte, 2048))
		_, _ = c.Write(strange())
	})
	mute := listen(func(c net.Conn) { _, _ = c.Read(make([]byte, 2048)); time.Sleep(2 * time.Second) })

	for name, addr := range map[string]string{"closes": closed, "hostile": hostile, "mute": mute} {
		o := w.options(addr)
		o.Timeout = 3 * time.Second
		if r, err := probe.Run(t.Context(), o); !errors.Is(err, probe.ErrNoTLS) && !strings.Contains(err.Error(), "time is up") || r != nil {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%s: unescaped: %q", name, err)
		}
	}
	o := w.options("127.0.0.1:1")
	if _, err := probe.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "connect") {
		t.Errorf("nobody there: %v", err)
	}
	o = w.options("127.0.0.1")
	if _, err := probe.Run(t.Context(), o); !errors.Is(err, probe.ErrOptions) {
		t.Errorf("no port: %v", err)
	}
	o = w.options(stranger)
	r, err := probe.Run(t.Context(), o)
	if err != nil || !strings.Contains(r.Incomplete, "not offered") {
		t.Errorf("a server that chooses what was not offered: %v %+v", err, r)
	}
}

// strange is a TLS 1.2 server's turn with a CipherSuite that nobody knows.
func strange() []byte {
	hello := append([]byte{3, 3}, make([]byte, 32)...)
	hello = append(hello, 0, 0xfe, 0xfe, 0)
	msg := append([]byte{2, 0, 0, byte(len(hello))}, hello...)
	msg = append(msg, 14, 0, 0, 0)
	return append([]byte{22, 3, 3, 0, byte(len(msg))}, msg...)
}
