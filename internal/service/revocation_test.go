package service

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// flowOf makes a live flow with the certificate.
func (h *house) flowOf(c *testpki.Cert) (*tls.Conn, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	raw, err := h.client.Dial(ctx, houseServer)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(testenv.Deadline())
	conn := tls.Client(raw, &tls.Config{RootCAs: h.ca.Pool(), ServerName: "pay.example", Certificates: []tls.Certificate{c.TLS()}})
	if _, err = conn.Write([]byte("x")); err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return conn, nil
}

// A new list in the file is taken without a reload: the live flow of whom it
// names ends within five seconds, that of others goes on, and a new flow is
// refused. A certificate that expires ends its flow too.
func TestLiveFlowEndsWhenRevoked(t *testing.T) {
	h := newHouse(t)
	bad, good := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "bad"})), testpki.Must(h.ca.Issue(testpki.Leaf{CN: "good"}))
	open := func(c *testpki.Cert) *tls.Conn {
		t.Helper()
		conn, err := h.flowOf(c)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	var short *testpki.Cert
	var ofShort *tls.Conn
	for life := 4 * time.Second; ; life *= 2 { // on a busy machine it has ended before it is shown
		short = testpki.Must(h.ca.Issue(testpki.Leaf{CN: "short", NotAfter: time.Now().Add(life)}))
		var err error
		if ofShort, err = h.flowOf(short); err == nil {
			break
		}
		if life > testenv.Patience() {
			t.Fatal(err)
		}
	}
	ofBad, ofGood := open(bad), open(good)
	defer ofGood.Close()

	list := testpki.CRLPEM(testpki.Must(h.ca.CRL(2, time.Now().Add(time.Hour), bad.Cert)))
	h.put("staff.crl.new", 0o644, list)
	if err := os.Rename(filepath.Join(h.dir, "staff.crl.new"), filepath.Join(h.dir, "staff.crl")); err != nil {
		t.Fatal(err)
	}
	from := time.Now()
	if _, err := ofBad.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the flow of the revoked one ended with %v, want a reset", err)
	}
	if d := time.Since(from); d > testenv.Scaled(20*time.Second) {
		t.Errorf("it took %s", d)
	}
	_ = ofBad.Close()
	if _, err := h.flowOf(bad); err == nil {
		t.Error("a new flow of the revoked one is let through")
	}
	_ = ofShort.SetDeadline(testenv.Deadline())
	if _, err := ofShort.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the flow of the expired one ended with %v, want a reset", err)
	}
	if d := time.Since(short.Cert.NotAfter); d > testenv.Scaled(20*time.Second) {
		t.Errorf("it ended %s after its certificate", d)
	}
	_ = ofShort.Close()
	if _, err := ofGood.Write([]byte("y")); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(ofGood, make([]byte, 1)); err != nil {
		t.Errorf("the flow of another one: %v", err)
	}
}

// Status has each authority's freshness, and the digests of policy and lists:
// a list that is exchanged changes the one, a reload of another policy the
// other, and what a source brought last that is of no use is said.
func TestStatusOfRevocation(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithTimeout(context.Background(), testenv.Patience())
	defer cancel()
	status := func() (admin.Status, admin.AuthorityRevocation) {
		t.Helper()
		s, err := h.api.Status(ctx)
		if err != nil || len(s.Revocation) != 1 {
			t.Fatalf("%+v %v", s, err)
		}
		return s, s.Revocation[0]
	}
	until := func(what string, ok func(admin.Status, admin.AuthorityRevocation) bool) admin.Status {
		t.Helper()
		var s admin.Status
		var a admin.AuthorityRevocation
		testenv.Eventually(t, what, func() bool { s, a = status(); return ok(s, a) }, func() any { return a })
		return s
	}
	exchange := func(text []byte) {
		t.Helper()
		h.put("staff.crl.new", 0o644, text)
		if err := os.Rename(filepath.Join(h.dir, "staff.crl.new"), filepath.Join(h.dir, "staff.crl")); err != nil {
			t.Fatal(err)
		}
	}
	_ = h.good().Close()
	h.finished(1)
	first, a := status()
	if left := time.Until(*a.NextUpdate); a.Authority != "staff" || a.Mode != "hard" || a.State != "fresh" || left < 50*time.Minute || left > time.Hour ||
		a.Lists != 1 || a.Entries != 0 || len(a.Errors) != 0 || a.Good == 0 || a.Revoked != 0 || len(first.CRLs) != 16 {
		t.Errorf("%s %+v", first.CRLs, a)
	}

	exchange([]byte("no list at all"))
	broken := until("the error", func(_ admin.Status, a admin.AuthorityRevocation) bool { return len(a.Errors) == 1 })
	if e := broken.Revocation[0].Errors[0]; !strings.Contains(e, "staff.crl: ") || !strings.Contains(e, "neither PEM nor DER") || broken.CRLs != first.CRLs {
		t.Errorf("%q, lists %s", e, broken.CRLs)
	}
	bad := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "bad"}))
	exchange(testpki.CRLPEM(testpki.Must(h.ca.CRL(2, time.Now().Add(2*time.Hour), bad.Cert))))
	// The digest in the status is that of the lists which new flows meet: it follows.
	second := until("the second list", func(s admin.Status, a admin.AuthorityRevocation) bool {
		return a.Entries == 1 && len(a.Errors) == 0 && s.CRLs != first.CRLs
	})
	if second.Policy != first.Policy {
		t.Errorf("policy %s, before %s", second.Policy, first.Policy)
	}
	if _, err := h.flowOf(bad); err == nil {
		t.Error("the revoked one is let through")
	}
	if _, a := status(); a.Revoked == 0 {
		t.Errorf("not counted: %+v", a)
	}

	h.s.mu.Lock()
	h.s.rt.Config.Admin.HTTP = "127.0.0.1:9440" // as in the file: a reload cannot change it
	h.s.mu.Unlock()
	// A reload with other modes changes the lists' digest and not the policy's.
	h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "crl: [staff.crl]}", "crl: [staff.crl], revocation: soft}", 1)))
	res, taken, err := h.api.Reload(ctx)
	if err != nil || !taken || res.Policy != res.Before || res.CRLsBefore != second.CRLs || res.CRLs == res.CRLsBefore || res.CRLs == "" {
		t.Errorf("reload: %+v %v %v", res, taken, err)
	}
	if s, a := status(); a.Mode != "soft" || s.CRLs != res.CRLs {
		t.Errorf("%s %+v", s.CRLs, a)
	}
	// And one with another rule the other way round.
	h.put("sslgate.yaml", 0o644, []byte(strings.Replace(strings.Replace(houseConfig, "crl: [staff.crl]}", "crl: [staff.crl], revocation: soft}", 1), "203.0.113.99", "203.0.113.98", 1)))
	again, taken, err := h.api.Reload(ctx)
	if err != nil || !taken || again.Policy == again.Before || again.CRLs != res.CRLs {
		t.Errorf("reload: %+v %v %v", again, taken, err)
	}
}

// A destination that is revoked while data flows ends the flow, with a reason of
// its own; the client's certificate has nothing to do with it.
func TestLiveFlowEndsWhenDestinationRevoked(t *testing.T) {
	var origin *testpki.Cert
	h := newHouse(t, func(h *house) {
		origin = testpki.Must(h.ca.Issue(testpki.Leaf{CN: "origin", DNS: []string{"pay.example"}}))
		h.put("sslgate.yaml", 0o644, []byte(strings.Replace(houseConfig, "{tls: plain}", "{tls: verify, authorities: [staff], name: pay.example}", 1)))
		h.serve = func(_ *house, c net.Conn) {
			tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{origin.TLS()}})
			_, _ = io.Copy(tc, tc)
		}
	})
	conn, err := h.flowOf(testpki.Must(h.ca.Issue(testpki.Leaf{CN: "good"})))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	h.put("staff.crl.new", 0o644, testpki.CRLPEM(testpki.Must(h.ca.CRL(2, time.Now().Add(time.Hour), origin.Cert))))
	if err := os.Rename(filepath.Join(h.dir, "staff.crl.new"), filepath.Join(h.dir, "staff.crl")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the flow ended with %v, want a reset", err)
	}
	testenv.Eventually(t, "it is logged", func() bool {
		return h.seen.FilterField(zap.String("reason", "destination_certificate_revoked")).Len() > 0
	})
	if _, err := h.flowOf(testpki.Must(h.ca.Issue(testpki.Leaf{CN: "good"}))); err == nil {
		t.Error("a new flow reaches the revoked destination")
	}
}
