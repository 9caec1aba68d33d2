package config

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/revocation"
)

// writeCRLs fills the directory of the tests with revocation lists.
func writeCRLs(t *testing.T, put func(name string, mode os.FileMode, text []byte), staff, services *testpki.CA) {
	t.Helper()
	list := func(ca *testpki.CA, from, to time.Time, number int64, exts ...pkix.Extension) []byte {
		t.Helper()
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			Number: big.NewInt(number), ThisUpdate: from, NextUpdate: to, ExtraExtensions: exts,
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(0x2a), RevocationTime: from}},
		}, ca.Cert, ca.Key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	text := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}) }
	day := func(n int) time.Time { return testNow.AddDate(0, 0, n) }
	good := list(staff, day(-1), day(6), 3)
	put("staff.crl", 0o644, text(good))
	put("staff-der.crl", 0o644, good)
	put("services.crl", 0o644, text(list(services, day(-1), day(6), 1)))
	put("old.crl", 0o644, text(list(staff, day(-8), day(-1), 2)))
	put("late.crl", 0o644, text(list(staff, day(-5), day(2), 2)))
	put("future.crl", 0o644, text(list(staff, day(1), day(2), 4)))
	put("delta.crl", 0o644, text(list(staff, day(-1), day(6), 4, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 27}, Critical: true, Value: []byte{2, 1, 3}})))
	put("indirect.crl", 0o644, text(list(staff, day(-1), day(6), 4, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 3, 0x84, 1, 0xff}})))
	bad := append([]byte(nil), good...)
	bad[len(bad)-1] ^= 1
	put("forged.crl", 0o644, text(bad))
	inter := testpki.Must(staff.Intermediate(testpki.Options{CN: "Staff Issuing CA", NotBefore: testFrom, NotAfter: testTo}))
	put("staff-inter.pem", 0o644, inter.PEM())
	put("staff-inter.crl", 0o644, text(list(inter, day(-1), day(6), 1)))
}

// What the lists of a configuration become.
func TestRevocationIsLoaded(t *testing.T) {
	dir := t.TempDir()
	writePKI(t, dir)
	t.Chdir(dir)
	text := `version: 1
state: var/state
tun: {attach: true}
capture: {ports: [443]}
authorities:
  staff: {roots: staff-ca.pem, crl: [staff.crl, staff-inter.crl, "http://crl.example/x.crl"], intermediates: staff-inter.pem, crl_refresh: 5m, ocsp: {url: "http://ocsp.example/", nonce: optional, timeout: 1s, max_age: 1m}}
  services: {roots: services-ca.pem}
  soft: {roots: services-ca.pem, revocation: soft, crl: [services.crl]}
  off: {roots: services-ca.pem, revocation: off, crl: [services.crl]}
identities:
  pay: {certificate: pay.pem, key: pay.key}
policy:
  rules:
    - name: pay
      to: ["10.20.0.0/16:443"]
      identity: pay
      client: {authorities: [staff, services, soft, off]}
      destination: {tls: plain}
`
	rt, found := build(parse("x.yaml", []byte(text)), stdtls.New(), testNow)
	if rt == nil {
		t.Fatal(Findings(found))
	}
	got := map[string]revocation.Authority{}
	for _, a := range rt.Revocation {
		got[a.Name] = a
	}
	for name, mode := range map[string]revocation.Mode{"staff": revocation.Hard, "services": revocation.Off, "soft": revocation.Soft, "off": revocation.Off} {
		if a, ok := got[name]; !ok || a.Mode != mode || len(a.Roots) != 1 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	s := got["staff"]
	if len(s.Sources) != 3 || len(s.Sources[0].Lists) != 1 || len(s.Sources[1].Lists) != 1 || s.Sources[2].Lists != nil ||
		s.Sources[2].Location != "http://crl.example/x.crl" || len(s.Intermediates) != 1 || s.Refresh != 5*time.Minute {
		t.Errorf("%+v", s)
	}
	if s.OCSP == nil || *s.OCSP != (revocation.OCSP{URL: "http://ocsp.example/", Nonce: revocation.NonceOptional, Timeout: time.Second, MaxAge: time.Minute}) {
		t.Errorf("%+v", s.OCSP)
	}
	if want := filepath.Join("var", "state"); !strings.HasSuffix(rt.Config.State, want) {
		t.Errorf("state %s", rt.Config.State)
	}
	// A Checker takes it as it is.
	c, err := revocation.New(rt.Revocation, revocation.Options{State: filepath.Join(dir, "state"), Now: func() time.Time { return testNow }})
	if err != nil {
		t.Fatal(err)
	}
	if l := c.Stats().Authorities["staff"].Lists; len(l) != 3 || l[0].Entries != 1 || l[0].State != "fresh" {
		t.Errorf("%+v", l)
	}
}
