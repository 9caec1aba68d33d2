package e2e

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// tcp connects in the client's namespace.
func (w *world) tcp(addr string) net.Conn {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	c, err := w.lab.Dial(ctx, lab.Client, "tcp", addr)
	if err != nil {
		w.t.Fatal(err)
	}
	_ = c.SetDeadline(testenv.Deadline())
	return c
}

// curl fetches the page of the origin in the client's namespace.
func (w *world) curl(args ...string) (string, error) {
	w.t.Helper()
	all := append([]string{"-sS", "-m", "15", "--cacert", "ca.pem", "--resolve", "pay.example:443:" + lab.ServerAddr(0, false).String()}, args...)
	return w.client("", "curl", append(all, "https://pay.example/")...)
}

// An observed rule asks every client for a certificate, verifies it and records what it would
// refuse, and every client gets its page.
func TestObservedRule(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveHTTP)
	w.issue("late", testpki.Leaf{CN: "late", NotBefore: w.ca.Cert.NotBefore, NotAfter: w.ca.Cert.NotBefore.AddDate(0, 0, 1)})
	foreign := testpki.Must(testpki.NewCA(testpki.Options{CN: "foreign CA"}))
	if _, _, err := testpki.Must(foreign.Issue(testpki.Leaf{CN: "mallory"})).WritePEM(w.dir, "mallory"); err != nil {
		t.Fatal(err)
	}
	w.start(w.config(payRule+"      profile: modern\n      mode: observe\n", ""))
	cert := func(name string, more ...string) []string {
		return append([]string{"--cert", name + ".pem", "--key", name + ".key"}, more...)
	}
	for i, c := range []struct {
		name, would, reason string
		args                []string
		proven              any
	}{
		{"alice", "", "verified", cert("alice"), true},
		{"nobody", "no_certificate", "observed", nil, nil},
		{"expired", "certificate_expired", "observed", cert("late"), true},
		{"foreign", "unknown_ca", "observed", cert("mallory"), true},
		{"old version", "protocol_version", "observed", cert("alice", "--tls-max", "1.2"), true},
	} {
		if out, err := w.curl(c.args...); err != nil || out != "origin says\n" {
			t.Errorf("%s: %v %q", c.name, err, out)
		}
		r := w.last(i + 1)
		if r.str("verdict") != "allowed" || r.str("reason") != c.reason || r.str("would_reason") != c.would || (r.str("would") == "deny") != (c.would != "") ||
			r.str("rule") != "pay" || r.peer("proven") != c.proven || r["bytes_down"] == 0.0 {
			t.Errorf("%s: record %v", c.name, r)
		}
	}
	// The certificate is really asked for: openssl has no way not to notice.
	out, err := w.client("GET / HTTP/1.0\r\n\r\n", "openssl", "s_client", "-connect", server(false), "-servername", "pay.example", "-CAfile", "ca.pem", "-ign_eof")
	if err != nil || !strings.Contains(out, "Acceptable client certificate CA names") || !strings.Contains(out, "CN=e2e CA") && !strings.Contains(out, "CN = e2e CA") || !strings.Contains(out, "origin says") {
		t.Errorf("openssl: %v\n%s", err, out)
	}
	if r := w.last(6); r.str("would_reason") != "no_certificate" {
		t.Errorf("record %v", r)
	}
}

// An observed policy: a deny rule is skipped, a flow without a rule is bypassed, and a rule
// with a mode of its own is still enforced.
func TestObservedPolicy(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "curl")
	w := newWorld(t, lab.Options{Servers: 2})
	w.origin(server(false), serveHTTP)
	other := netip.AddrPortFrom(lab.ServerAddr(1, false), port).String()
	w.origin(other, serveEcho)
	to := server(false)
	w.config(`
    - {name: closed, to: ["`+to+`"], sni: [pay.example], action: deny}
    - {name: strict, to: ["`+to+`"], sni: [strict.example], mode: enforce, identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
`+strings.Replace(strings.Replace(payRule, "*:443", to, 1), "      identity", "      sni: [pay.example]\n      identity", 1), "")
	w.start(w.rewrite("policy:\n", "policy:\n  mode: observe\n"))
	if out, err := w.curl("--cert", "alice.pem", "--key", "alice.key"); err != nil || out != "origin says\n" {
		t.Errorf("alice: %v %q", err, out)
	}
	if r := w.last(1); r.str("rule") != "pay" || r.str("would_rule") != "closed" || r.str("would_reason") != "rule_deny" || r.str("verdict") != "allowed" {
		t.Errorf("a deny rule that is observed: %v", r)
	}
	c := w.tcp(other)
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the bypassed flow: %v", err)
	}
	_ = c.Close()
	if r := w.last(2); r.str("action") != "bypass" || r.str("would") != "deny" || r.str("verdict") != "allowed" {
		t.Errorf("no rule fits: %v", r)
	}
	// Rules that go by names need a hello: what is none is refused still.
	c = w.tcp(server(false))
	_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
	if r := w.last(3); r.str("verdict") != "refused" || r.str("reason") != "plain_http" {
		t.Errorf("no hello: %v", r)
	}
	strict := tls.Client(w.tcp(server(false)), &tls.Config{ServerName: "strict.example", InsecureSkipVerify: true})
	_, err := strict.Read(make([]byte, 1))
	_ = strict.Close()
	if err == nil {
		t.Error("the enforced rule lets nobody in without a certificate, but did")
	}
	if r := w.last(4); r.str("verdict") != "refused" || r.str("reason") != "no_certificate" || r["would"] != nil {
		t.Errorf("a rule with a mode of its own: %v", r)
	}
}

// A flow that cannot be observed through ends as usual, and the record says why.
func TestCannotBeObserved(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveHTTP)
	w.start(w.config(payRule+"      mode: observe\n", ""))
	alice := testpki.Must(w.ca.Issue(testpki.Leaf{CN: "alice"}))
	broken := alice.TLS()
	broken.Certificate = [][]byte{{0x30, 0x03, 0x02, 0x01, 0x05}}
	n := 0
	for name, c := range map[string]struct {
		cert   tls.Certificate
		reason string
	}{
		"thief":      {testpki.Thief(alice, testpki.Must(testpki.NewKey(testpki.P256))), "no_proof_of_possession"},
		"unparsable": {broken, "bad_certificate"},
		"too long":   {testpki.Must(w.ca.LongChain(testpki.Leaf{}, 12)).TLS(), "certificate_chain_too_long"},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			conn, err := w.dialTLS(false, &tls.Config{MinVersion: version, MaxVersion: version, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &c.cert, nil
			}})
			if err == nil {
				_, err = conn.Read(make([]byte, 1))
				_ = conn.Close()
			}
			if err == nil {
				t.Errorf("%s, %s: let through", name, tls.VersionName(version))
			}
			n++
			if r := w.last(n); r.str("reason") != c.reason || r.str("verdict") != "refused" || r.str("alert_sent") == "" || r["would"] != nil {
				t.Errorf("%s, %s: record %v", name, tls.VersionName(version), r)
			}
		}
	}
	for name, c := range map[string]struct {
		args   []string
		reason string
	}{
		"no version": {[]string{"-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"}, "protocol_version"},
		"no suite":   {[]string{"-tls1_2", "-cipher", "DHE-RSA-AES128-GCM-SHA256"}, "no_common_suite"},
		"no group":   {[]string{"-tls1_3", "-groups", "ffdhe2048"}, "no_common_group"},
	} {
		out, err := w.client("", "openssl", append([]string{"s_client", "-connect", server(false), "-servername", "pay.example", "-CAfile", "ca.pem"}, c.args...)...)
		if err == nil || !strings.Contains(out, "alert") {
			t.Errorf("%s: openssl saw no alert: %v\n%s", name, err, out)
		}
		n++
		if r := w.last(n); r.str("reason") != c.reason || r.str("verdict") != "refused" || r.str("alert_sent") == "" {
			t.Errorf("%s: record %v", name, r)
		}
	}
}
