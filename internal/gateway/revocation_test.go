package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/internal/revocation"
	"github.com/sslgate/sslgate/policy"
)

// lateChecker is given its Checker once the house has a CA.
type lateChecker struct {
	mu sync.Mutex
	c  *revocation.Checker
}

func (l *lateChecker) get() *revocation.Checker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.c
}

func (l *lateChecker) Check(ctx context.Context, peer *handshake.Peer, now time.Time) revocation.Result {
	return l.get().Check(ctx, peer, now)
}

func (l *lateChecker) Epoch() uint64 { return l.get().Epoch() }

func (l *lateChecker) Digest() string {
	if c := l.get(); c != nil {
		return c.Digest()
	}
	return ""
}

func (l *lateChecker) DigestOf(authorities []string) string {
	if c := l.get(); c != nil {
		return c.DigestOf(authorities)
	}
	return ""
}

func (l *lateChecker) Withdrawn(authorities []string, shown [][]byte) bool {
	return l.get().Withdrawn(authorities, shown)
}

// checks gives the house a Checker over its CA.
func (l *lateChecker) checks(t *testing.T, ca *testpki.CA, mode revocation.Mode, lists ...*x509.RevocationList) {
	t.Helper()
	a := revocation.Authority{Name: "staff", Mode: mode, Roots: []*x509.Certificate{ca.Root}, Intermediates: []*x509.Certificate{ca.Cert}}
	for _, list := range lists {
		parsed := testpki.Must(revocation.ParseLists(list.Raw, []*x509.Certificate{ca.Root, ca.Cert}))
		a.Sources = append(a.Sources, revocation.Source{Location: "/in/memory", Lists: parsed})
	}
	c, err := revocation.New([]revocation.Authority{a}, revocation.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.c = c
}

// stapled is the certificate with an OCSP answer.
func stapled(t *testing.T, ca *testpki.CA, c *testpki.Cert, status int) *tls.Certificate {
	t.Helper()
	now := time.Now()
	der, err := ocsp.CreateResponse(ca.Cert, ca.Cert, ocsp.Response{
		Status: status, SerialNumber: c.Cert.SerialNumber, RevokedAt: now.Add(-time.Hour),
		ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour),
	}, ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	cert := c.TLS()
	cert.OCSPStaple = der
	return &cert
}

// What a client meets, and what is recorded: revoked by list and by staple,
// nothing fresh under hard and soft, in both versions.
func TestRevocation(t *testing.T) {
	late := &lateChecker{}
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Revocation = late })
	alice, bob := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "alice"})), testpki.Must(h.ca.Issue(testpki.Leaf{CN: "bob"}))
	fresh := testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour), bob.Cert))
	stale := testpki.Must(h.ca.CRL(1, time.Now().Add(-time.Hour)))
	hard, soft, off := revocation.Hard, revocation.Soft, revocation.Off
	tlsOf := func(c *testpki.Cert) *tls.Certificate { return ptr(c.TLS()) }
	n, allowed := 0, int64(0)
	for _, c := range []struct {
		name   string
		mode   revocation.Mode
		lists  []*x509.RevocationList
		cert   *tls.Certificate
		only13 bool
		reason string
		alert  string
		status string // of the record; "" for no field
		source string
		detail string
	}{
		{"good", hard, []*x509.RevocationList{fresh}, tlsOf(alice), false, "verified", "", "good", "crl", "number 1"},
		{"revoked", hard, []*x509.RevocationList{fresh}, tlsOf(bob), false, "certificate_revoked", "certificate_revoked(44)", "revoked", "crl", "CN=bob"},
		{"revoked, soft", soft, []*x509.RevocationList{fresh}, tlsOf(bob), false, "certificate_revoked", "certificate_revoked(44)", "revoked", "crl", "CN=bob"},
		{"revoked, off", off, []*x509.RevocationList{fresh}, tlsOf(bob), false, "verified", "", "", "", ""},
		{"stale, hard", hard, []*x509.RevocationList{stale}, tlsOf(alice), false, "revocation_unknown", "certificate_unknown(46)", "unknown", "crl", "expired on"},
		{"stale, soft", soft, []*x509.RevocationList{stale}, tlsOf(alice), false, "verified", "", "unknown", "crl", "expired on"},
		{"nothing, hard", hard, nil, tlsOf(alice), false, "revocation_unknown", "certificate_unknown(46)", "unknown", "", "no revocation list"},
		{"stapled good", hard, nil, stapled(t, h.ca, alice, ocsp.Good), true, "verified", "", "good", "staple", "staple"},
		{"stapled revoked", hard, []*x509.RevocationList{fresh}, stapled(t, h.ca, alice, ocsp.Revoked), true, "certificate_revoked", "certificate_revoked(44)", "revoked", "staple", "CN=alice"},
		{"stapled revoked, soft", soft, nil, stapled(t, h.ca, alice, ocsp.Revoked), true, "certificate_revoked", "certificate_revoked(44)", "revoked", "staple", "CN=alice"},
		{"stapled good, list says revoked", hard, []*x509.RevocationList{fresh}, stapled(t, h.ca, bob, ocsp.Good), true, "certificate_revoked", "certificate_revoked(44)", "revoked", "crl", "CN=bob"},
	} {
		late.checks(t, h.ca, c.mode, c.lists...)
		for _, version := range versions {
			if c.only13 && version == tls.VersionTLS12 {
				continue // TLS 1.2 has no place for a client's staple
			}
			t.Run(c.name+"/"+tls.VersionName(version), func(t *testing.T) {
				n++
				conn, err := h.tlsClient(server4, c.cert, only(version))
				if err == nil {
					_, err = conn.Write([]byte("x"))
				}
				if err == nil {
					_, err = io.ReadFull(conn, make([]byte, 1))
				}
				if conn != nil {
					_ = conn.Close()
				}
				if (err == nil) != (c.reason == "verified") {
					t.Errorf("the client saw %v", err)
				}
				if err == nil {
					allowed++
				}
				r := h.record(n)
				if r.str("reason") != c.reason || r.str("alert_wanted") != c.alert || (r.str("alert_sent") != "") != (c.alert != "") {
					t.Errorf("reason %s, alert wanted %q, sent %q (%s)", r.str("reason"), r.str("alert_wanted"), r.str("alert_sent"), r.str("detail"))
				}
				if c.alert != "" && (r["step"] != 6.0 || !strings.Contains(r.str("detail"), c.detail)) {
					t.Errorf("step %v, detail %q", r["step"], r.str("detail"))
				}
				seen, _ := r["revocation"].(map[string]any)
				if s := rec(seen); s.str("status") != c.status || s.str("source") != c.source || !strings.Contains(s.str("detail"), c.detail) ||
					seen != nil && s.str("mode") != c.mode.String() {
					t.Errorf("revocation %v", seen)
				}
			})
		}
	}
	if d := h.dials.Load(); d != allowed {
		t.Errorf("%d flows were let through, the destination was dialled %d times", allowed, d)
	}
}

// A list that comes between the alert and the verdict still counts.
func TestRevokedDuringTheHandshake(t *testing.T) {
	late := &changingChecker{}
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Revocation = late })
	conn, err := h.tlsClient(server4, h.alice(), only(tls.VersionTLS12))
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
	}
	if err == nil {
		t.Error("let through")
	}
	if r := h.record(1); r.str("reason") != "certificate_revoked" || r.str("verdict") != "refused" || late.asked != 2 {
		t.Errorf("asked %d times, record %v", late.asked, r)
	}
	if h.dials.Load() != 0 {
		t.Error("the destination was dialled")
	}
}

// changingChecker finds the peer good the first time and revoked after that.
type changingChecker struct{ asked int }

func (c *changingChecker) Check(context.Context, *handshake.Peer, time.Time) revocation.Result {
	if c.asked++; c.asked == 1 {
		return revocation.Result{Status: revocation.Good}
	}
	return revocation.Result{Status: revocation.Revoked, Code: reason.Revoked, Source: revocation.FromCRL}
}

func (c *changingChecker) Epoch() uint64 { return uint64(c.asked) }

func (c *changingChecker) Digest() string { return "" }

func (c *changingChecker) DigestOf([]string) string { return "" }

func (c *changingChecker) Withdrawn([]string, [][]byte) bool { return false }

// While nothing changes a flow is asked about once.
func TestRevocationIsAskedOnce(t *testing.T) {
	late := &lateChecker{}
	h := newHouse(t, mtls(), nil, func(c *Config) { c.Revocation = late })
	late.checks(t, h.ca, revocation.Hard, testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour))))
	conn, err := h.tlsClient(server4, h.alice(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("x"))
	_ = conn.Close()
	h.record(1)
	if s := late.get().Stats().Authorities["staff"]; s.Good != 1 {
		t.Errorf("%+v", s)
	}
}

// The destination's certificate is checked like the client's.
func TestRevokedDestination(t *testing.T) {
	late := &lateChecker{}
	spec := mtls()
	spec.Rules[0].Destination = policy.DestinationSpec{TLS: "verify", Authorities: []string{"staff"}}
	var own tls.Certificate
	var mu sync.Mutex
	h := newHouse(t, spec, func(c net.Conn) {
		mu.Lock()
		cert := own
		mu.Unlock()
		s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}})
		_, _ = io.Copy(s, s) // fails where the gateway refuses
		_ = s.Close()
	}, func(c *Config) { c.Revocation = late })
	service := testpki.Must(h.ca.Issue(testpki.Leaf{DNS: []string{"pay.example"}}))
	mu.Lock()
	own = service.TLS()
	mu.Unlock()
	for i, c := range []struct {
		list   *x509.RevocationList
		reason string
	}{
		{testpki.Must(h.ca.CRL(1, time.Now().Add(time.Hour))), "verified"},
		{testpki.Must(h.ca.CRL(2, time.Now().Add(time.Hour), service.Cert)), "destination_bad_certificate"},
	} {
		late.checks(t, h.ca, revocation.Hard, c.list)
		conn, err := h.tlsClient(server4, h.alice(), only(tls.VersionTLS12))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("x"))
		_, err = io.ReadFull(conn, make([]byte, 1))
		_ = conn.Close()
		r := h.record(i + 1)
		if r.str("reason") != c.reason || (err == nil) != (c.reason == "verified") {
			t.Errorf("%v, reason %s (%s)", err, r.str("reason"), r.str("detail"))
		}
		if c.reason != "verified" && !strings.Contains(r.str("detail"), "certificate_revoked") {
			t.Errorf("detail %q", r.str("detail"))
		}
	}
}
