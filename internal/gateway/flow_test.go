package gateway

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/policy"
)

var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

func only(v uint16) func(*tls.Config) {
	return func(c *tls.Config) { c.MinVersion, c.MaxVersion = v, v }
}

// One good client through every room, in both versions and families, and the
// record of it.
func TestGoodClient(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	n := 0
	for _, version := range versions {
		for _, dst := range []netip.AddrPort{server4, server6} {
			n++
			conn, err := h.tlsClient(dst, h.alice(), only(version))
			if err != nil {
				t.Fatal(err)
			}
			sent := make([]byte, 300_000)
			_, _ = rand.Read(sent)
			go func() {
				_, _ = conn.Write(sent)
				_ = conn.CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil || !bytes.Equal(got, sent) {
				t.Fatalf("%d bytes of %d, %v", len(got), len(sent), err)
			}
			_ = conn.Close()
			r := h.record(n)
			peer, _ := r["peer"].(map[string]any)
			if r.str("verdict") != "allowed" || r.str("reason") != "verified" || r.str("rule") != "pay" || peer["proven"] != true ||
				r.str("end") != "closed" || r["bytes_up"] != 300000.0 || r["bytes_down"] != 300000.0 || r["step"] != 9.0 {
				t.Errorf("record %v", r)
			}
			if r.str("destination") != dst.String() {
				t.Errorf("destination %s, want %s", r.str("destination"), dst)
			}
			steps := map[float64]bool{}
			for _, e := range r["ledger"].([]any) {
				steps[e.(map[string]any)["step"].(float64)] = true
			}
			for s := 1.0; s <= 9; s++ {
				if s != 3 && !steps[s] { // step 3 is the client's own, unless it refuses
					t.Errorf("%s: step %v is not in the ledger %v", tls.VersionName(version), s, r["ledger"])
				}
			}
		}
	}
}

// Whoever is refused does not reach the destination: it is not even dialled.
func TestRefusedClientsNeverTouchTheDestination(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	other := testpki.Must(testpki.NewCA(testpki.Options{CN: "other"}))
	leaf := testpki.Leaf{CN: "mallory"}
	thief := testpki.Thief(testpki.Must(h.ca.Issue(leaf)), testpki.Must(testpki.NewKey(testpki.P256)))
	certs := []struct {
		name, reason string
		cert         *tls.Certificate
	}{
		{"none", "no_certificate", nil},
		{"other CA", "unknown_ca", ptr(testpki.Must(other.Issue(leaf)).TLS())},
		{"expired", "certificate_expired", ptr(testpki.Must(h.ca.Expired(leaf)).TLS())},
		{"not yet", "certificate_not_yet_valid", ptr(testpki.Must(h.ca.NotYetValid(leaf)).TLS())},
		{"EKU", "certificate_wrong_usage", ptr(testpki.Must(h.ca.WrongEKU(leaf)).TLS())},
		{"RSA-1024", "certificate_weak_key", ptr(testpki.Must(h.ca.RSA1024(leaf)).TLS())},
		{"thief", "no_proof_of_possession", &thief},
	}
	n := 0
	for _, c := range certs {
		for _, version := range versions {
			t.Run(fmt.Sprintf("%s/%s", c.name, tls.VersionName(version)), func(t *testing.T) {
				n++
				conn, err := h.tlsClient(server4, c.cert, only(version))
				if err == nil { // TLS 1.3: the refusal arrives at the first read
					_, err = conn.Read(make([]byte, 1))
					_ = conn.Close()
				}
				var alert tls.AlertError
				if err == nil || !strings.Contains(err.Error(), "remote error") && !errors.As(err, &alert) {
					t.Errorf("the client saw %v, want an alert", err)
				}
				r := h.record(n)
				if r.str("reason") != c.reason || r.str("verdict") != "refused" || r.str("alert_sent") == "" {
					t.Errorf("reason %s (%s) alert %q, want %s", r.str("reason"), r.str("detail"), r.str("alert_sent"), c.reason)
				}
				if peer, ok := r["peer"].(map[string]any); ok && peer["proven"] != false {
					t.Errorf("a refused peer is called proven: %v", peer)
				}
			})
		}
	}
	if d := h.dials.Load(); d != 0 {
		t.Errorf("the destination was dialled %d times", d)
	}
}

func ptr[T any](v T) *T { return &v }

// What is not TLS, not whole or not acceptable ends at step 1.
func TestBadHellos(t *testing.T) {
	spec := mtls()
	spec.Rules[0].SNI = []string{"pay.example"}
	h := newHouse(t, spec, nil, func(c *Config) { c.Limits.Handshake = testenv.Scaled(time.Second) })
	hello := recordHello(t, "pay.example")
	for i, c := range []struct {
		name, reason, alert string
		send                func(net.Conn)
	}{
		{"http", "plain_http", "unexpected_message(10)", func(c net.Conn) { _, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n") }},
		{"garbage", "not_tls", "unexpected_message(10)", func(c net.Conn) { _, _ = c.Write(bytes.Repeat([]byte{0xaa}, 100)) }},
		{"silent", "hello_timeout", "", func(net.Conn) {}},
		{"half a hello", "hello_timeout", "", func(c net.Conn) { _, _ = c.Write(hello[:len(hello)/2]) }},
		{"closes", "hello_eof", "", func(c net.Conn) { _ = c.(interface{ CloseWrite() error }).CloseWrite() }},
		{"unknown name", "sni_unknown", "unrecognized_name(112)", func(c net.Conn) { _, _ = c.Write(recordHello(t, "other.example")) }},
		{"no name", "sni_missing", "missing_extension(109)", func(c net.Conn) { _, _ = c.Write(recordHello(t, "")) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := h.dial(server4)
			c.send(conn)
			answer, _ := io.ReadAll(conn) // the error is the RST or the FIN of the refusal
			_ = conn.Close()
			r := h.record(i + 1)
			if r.str("reason") != c.reason || r.str("alert_sent") != c.alert {
				t.Errorf("reason %s (%s), alert %q; want %s, %q", r.str("reason"), r.str("detail"), r.str("alert_sent"), c.reason, c.alert)
			}
			if sent := len(answer) > 0; sent != (c.alert != "") {
				t.Errorf("the client was sent % x", answer)
			}
			if len(answer) > 0 && (len(answer) != 7 || answer[0] != 21 || answer[5] != 2) {
				t.Errorf("not one fatal alert record: % x", answer)
			}
		})
	}
	if d := h.dials.Load(); d != 0 {
		t.Errorf("the destination was dialled %d times", d)
	}
}

// recordHello is the first record a crypto/tls client sends.
func recordHello(t *testing.T, name string) []byte {
	t.Helper()
	a, b := net.Pipe()
	defer b.Close()
	go func() {
		_ = tls.Client(a, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake() // fails when the pipe closes
	}()
	defer a.Close()
	head := make([]byte, 5)
	if _, err := io.ReadFull(b, head); err != nil {
		t.Fatal(err)
	}
	body := make([]byte, int(head[3])<<8|int(head[4]))
	if _, err := io.ReadFull(b, body); err != nil {
		t.Fatal(err)
	}
	return append(head, body...)
}

// Drip: a hello byte by byte is a hello.
func TestHelloByteByByte(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	raw := h.dial(server4)
	cert := h.alice()
	conn := tls.Client(&dripConn{raw}, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{*cert}})
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := io.ReadFull(conn, b); err != nil || b[0] != 'x' {
		t.Fatalf("echo: %q %v", b, err)
	}
	_ = conn.Close()
	if r := h.record(1); r.str("reason") != "verified" {
		t.Errorf("record %v", r)
	}
}

// dripConn writes one byte at a time.
type dripConn struct{ net.Conn }

func (d *dripConn) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// An optional certificate that is absent is the warning of step 5; a bad one
// is refused all the same; a rule that asks for none lets pass.
func TestOptionalAndNone(t *testing.T) {
	spec := mtls()
	spec.Rules[0].Client.Certificate = "optional"
	h := newHouse(t, spec, nil)
	other := testpki.Must(testpki.NewCA(testpki.Options{}))
	for i, c := range []struct {
		cert   *tls.Certificate
		reason string
	}{
		{nil, "allowed_without_certificate"}, {h.alice(), "verified"},
		{ptr(testpki.Must(other.Issue(testpki.Leaf{})).TLS()), "unknown_ca"},
	} {
		conn, err := h.tlsClient(server4, c.cert, only(tls.VersionTLS12))
		if err == nil {
			_ = conn.Close()
		}
		if r := h.record(i + 1); r.str("reason") != c.reason {
			t.Errorf("reason %s, want %s", r.str("reason"), c.reason)
		}
	}
}

// Bypass: what the client meets is the destination's own certificate.
func TestBypass(t *testing.T) {
	ownCA := testpki.Must(testpki.NewCA(testpki.Options{CN: "destination's own"}))
	own := testpki.Must(ownCA.Issue(testpki.Leaf{DNS: []string{"pay.example"}})).TLS()
	h := newHouse(t, policy.Spec{Rules: []policy.RuleSpec{{Name: "old", To: []string{"203.0.113.5:443"}, Action: "bypass"}}},
		func(c net.Conn) {
			s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}})
			_, _ = io.Copy(s, s)
			_ = s.Close()
		})
	conn, err := h.tlsClient(server4, nil, func(c *tls.Config) { c.RootCAs = ownCA.Pool() })
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	if r := h.record(1); r.str("reason") != "bypassed" || r.str("action") != "bypass" || r.str("rule") != "old" {
		t.Errorf("record %v", r)
	}
}

// What goes by in the clear of a bypassed flow is in its record, by whatever rule it came;
// nothing of it is called proven, and what is no TLS is left alone.
func TestSeenInPassing(t *testing.T) {
	ownCA := testpki.Must(testpki.NewCA(testpki.Options{CN: "destination's own"}))
	own := testpki.Must(ownCA.Issue(testpki.Leaf{CN: "origin", DNS: []string{"pay.example"}})).TLS()
	fingerprint := regexp.MustCompile("^t1[23]d[0-9]{4}00_[0-9a-f]{12}_[0-9a-f]{12}$")
	groups := map[uint16]string{tls.VersionTLS12: "X25519", tls.VersionTLS13: "X25519MLKEM768"}
	for _, sni := range [][]string{nil, {"pay.example"}} {
		h := newHouse(t, policy.Spec{Rules: []policy.RuleSpec{{Name: "old", To: []string{"203.0.113.5:443"}, SNI: sni, Action: "bypass"}}},
			func(c net.Conn) {
				s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert})
				_, _ = io.Copy(s, s)
				_ = s.Close()
			})
		for i, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			conn, err := h.tlsClient(server4, h.alice(), func(c *tls.Config) {
				c.RootCAs, c.MaxVersion = ownCA.Pool(), version
			})
			if err != nil {
				t.Fatal(err)
			}
			echo(t, conn)
			_ = conn.Close()
			r := h.record(i + 1)
			seen, ok := r["seen"].(map[string]any)
			hello, _ := r["hello"].(map[string]any)
			if !ok || r.str("sni") != "pay.example" || !fingerprint.MatchString(fmt.Sprint(hello["ja4"])) || seen["version"] != tls.VersionName(version) || seen["group"] != groups[version] || r["peer"] != nil || r["destination_peer"] != nil {
				t.Errorf("%v: record %v", sni, r)
			}
			client, _ := seen["client"].(map[string]any)
			dest, _ := seen["destination"].(map[string]any)
			if is12 := version == tls.VersionTLS12; (dest["subject"] == "CN=origin") != is12 || (client["subject"] == "CN=alice") != is12 || is12 && (client["proven"] != false || dest["proven"] != false) || !is12 && (client != nil || dest != nil) || (seen["certificate_requested"] == true) != is12 {
				t.Errorf("%v: client %v, destination %v", sni, client, dest)
			}
		}
		if sni != nil {
			continue
		}
		plain := h.dial(server4)
		if _, err := plain.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		_ = plain.Close()
		r := h.record(3)
		if seen, _ := r["seen"].(map[string]any); len(seen) != 0 || r["hello"] != nil || r["sni"] != nil || r.str("reason") != "bypassed" {
			t.Errorf("record %v", r)
		}
	}
}

// No rule, no connection: a RST, and a record of it.
func TestDefaultDeny(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	_, err := h.client.Dial(t.Context(), netip.MustParseAddrPort("198.51.100.7:443"))
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial: %v, want connection refused", err)
	}
	if r := h.record(1); r.str("reason") != "no_rule" || r.str("verdict") != "refused" || r.str("action") != "deny" {
		t.Errorf("record %v", r)
	}
}
