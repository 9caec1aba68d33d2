package gateway

import (
	"crypto/tls"
	"errors"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
)

// Every bad certificate through the whole gateway with the real engine, in
// both versions: it is refused for its own reason, the alert that says it best
// is recorded beside the one that was sent, the client saw that one, and the
// destination was never dialled.
func TestBadCertificates(t *testing.T) {
	late := &lateChecker{}
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Revocation = late })
	leaf := testpki.Leaf{CN: "mallory", DNS: []string{"mallory.example"}}
	revoked := testpki.Must(h.ca.Issue(leaf))
	late.checks(t, h.ca, revocation.Soft, testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour), revoked.Cert)))

	type badCert struct {
		name   string
		cert   tls.Certificate
		reason reason.Code
	}
	cases := []badCert{
		{"revoked", revoked.TLS(), reason.Revoked},
		{"duplicate-extension", testpki.Must(h.ca.DuplicateExtension(leaf)), reason.BadCertificate},
		{"100-deep", testpki.Must(h.ca.LongChain(leaf, 100)).TLS(), reason.ChainTooLong},
		{"over-the-size-limit", testpki.Must(h.ca.Huge(leaf, 70<<10)).TLS(), reason.ChainTooLong},
	}
	for _, f := range testpki.Faults() {
		c := badCert{f.Name, testpki.Must(f.Make(h.ca, leaf)).TLS(), f.Reason}
		if f.Name == "p224" {
			// crypto/tls signs with no P-224 key in TLS 1.3, so another key
			// signs: the certificate is judged before its signature is.
			c.cert.PrivateKey = testpki.Must(testpki.NewKey(testpki.P256))
		}
		cases = append(cases, c)
	}
	named := map[string]bool{}
	n := 0
	for _, c := range cases {
		named[c.name] = true
		for _, version := range versions {
			t.Run(c.name+"/"+tls.VersionName(version), func(t *testing.T) {
				n++
				conn, err := h.tlsClient(server4, &c.cert, only(version))
				if err == nil { // TLS 1.3: the refusal arrives at the first read
					_, err = conn.Read(make([]byte, 1))
					_ = conn.Close()
				}
				var seen tls.AlertError
				if err == nil {
					t.Fatal("the client saw no refusal")
				}
				r := h.record(n)
				if r.str("reason") != string(c.reason) || r.str("verdict") != "refused" || r["step"] != 6.0 {
					t.Errorf("reason %s at step %v (%s), want %s", r.str("reason"), r["step"], r.str("detail"), c.reason)
				}
				want := handshake.AlertOf(c.reason)
				if r.str("alert_wanted") != want.String() {
					t.Errorf("alert wanted %s, want %s", r.str("alert_wanted"), want)
				}
				if r.str("alert_sent") != want.String() {
					t.Errorf("alert sent %q, want %s", r.str("alert_sent"), want)
				}
				if errors.As(err, &seen) && handshake.Alert(seen).String() != r.str("alert_sent") {
					t.Errorf("the client saw alert %d, sent was %s", seen, r.str("alert_sent"))
				}
			})
		}
	}
	// What the project promises to refuse is all here.
	for _, name := range []string{
		"revoked", "expired", "not-yet-valid", "other-ca", "wrong-eku", "path-length", "name-constraint", "issuer-not-ca",
		"sha1", "rsa-1024", "p224", "unknown-critical", "duplicate-extension", "100-deep", "over-the-size-limit",
	} {
		if !named[name] {
			t.Errorf("there is no case %s", name)
		}
	}
	if d := h.dials.Load(); d != 0 {
		t.Errorf("the destination was dialled %d times", d)
	}
	// And the same house lets a good one in.
	conn, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("x"))
	_ = conn.Close()
	if r := h.record(n + 1); r.str("reason") != "verified" {
		t.Errorf("the good one: %v", r)
	}
}
