package service

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/testpki"
)

// flowOf makes a live flow with the certificate.
func (h *house) flowOf(c *testpki.Cert) (*tls.Conn, error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	raw, err := h.client.Dial(ctx, houseServer)
	if err != nil {
		return nil, err
	}
	_ = raw.SetDeadline(time.Now().Add(30 * time.Second))
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
	short := testpki.Must(h.ca.Issue(testpki.Leaf{CN: "short", NotAfter: time.Now().Add(3 * time.Second)}))
	open := func(c *testpki.Cert) *tls.Conn {
		t.Helper()
		conn, err := h.flowOf(c)
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	ofBad, ofGood, ofShort := open(bad), open(good), open(short)
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
	if d := time.Since(from); d > 5*time.Second {
		t.Errorf("it took %s", d)
	}
	_ = ofBad.Close()
	if _, err := h.flowOf(bad); err == nil {
		t.Error("a new flow of the revoked one is let through")
	}
	if _, err := ofShort.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the flow of the expired one ended with %v, want a reset", err)
	}
	if d := time.Since(short.Cert.NotAfter); d > 5*time.Second {
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
