package config

import (
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// testNow is the clock of these tests; certificates and golden files are made
// for it.
var testNow = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

// life of the certificates that are good at testNow.
var (
	testFrom = testNow.AddDate(-1, 0, 0)
	testTo   = testNow.AddDate(1, 0, 0)
)

// writePKI fills dir with what the configurations of the tests name.
func writePKI(t *testing.T, dir string) {
	t.Helper()
	put := func(name string, mode os.FileMode, text []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
	newCA := func(cn string, from, to time.Time) *testpki.CA {
		return testpki.Must(testpki.NewCA(testpki.Options{CN: cn, NotBefore: from, NotAfter: to}))
	}
	pair := func(name string, c *testpki.Cert) {
		t.Helper()
		chain, key, err := c.PEM()
		if err != nil {
			t.Fatal(err)
		}
		put(name+".pem", 0o644, chain)
		put(name+".key", 0o640, key)
	}
	staff := newCA("Staff CA", testFrom, testTo)
	services := newCA("Services CA", testFrom, testTo)
	put("staff-ca.pem", 0o644, staff.PEM())
	put("services-ca.pem", 0o644, services.PEM())
	writeCRLs(t, put, staff, services)
	put("old-ca.pem", 0o644, newCA("Old CA", testFrom, testNow.AddDate(0, -1, 0)).PEM())
	put("soon-ca.pem", 0o644, newCA("Soon CA", testFrom, testNow.AddDate(0, 0, 12)).PEM())

	leaf := func(names ...string) testpki.Leaf {
		return testpki.Leaf{CN: "pay", DNS: names, NotBefore: testFrom, NotAfter: testTo}
	}
	good := testpki.Must(services.Issue(leaf("pay.corp.example")))
	pair("pay", good)
	pair("wiki", testpki.Must(services.Issue(leaf("wiki.corp.example", "payroll.corp.example"))))
	expired := leaf("pay.corp.example")
	expired.NotAfter = testNow.AddDate(0, 0, -3)
	pair("expired", testpki.Must(services.Issue(expired)))
	soon := leaf("pay.corp.example")
	soon.NotAfter = testNow.AddDate(0, 0, 20)
	pair("soon", testpki.Must(services.Issue(soon)))
	future := leaf("pay.corp.example")
	future.NotBefore = testNow.AddDate(0, 0, 3)
	pair("future", testpki.Must(services.Issue(future)))
	short := leaf("pay.corp.example") // 9 days, 4 of them left
	short.NotBefore, short.NotAfter = testNow.AddDate(0, 0, -5), testNow.AddDate(0, 0, 4)
	pair("short", testpki.Must(services.Issue(short)))
	client := leaf("pay.corp.example")
	client.EKU = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	pair("clientonly", testpki.Must(services.Issue(client)))
	pair("noname", testpki.Must(services.Issue(leaf())))
	pair("rsa1024", testpki.Must(services.RSA1024(leaf("pay.corp.example"))))

	chain, key, err := good.PEM()
	if err != nil {
		t.Fatal(err)
	}
	put("open.key", 0o644, key)
	put("both.pem", 0o644, append(append([]byte(nil), chain...), key...))
	put("ca-first.pem", 0o644, append(services.PEM(), chain...))
	put("bad-order.pem", 0o644, append(append([]byte(nil), chain...), staff.PEM()...))
	put("damaged.pem", 0o644, append(append([]byte(nil), chain...), chain[:len(chain)/2]...))
	put("der.pem", 0o644, good.Cert.Raw)
	put("empty.pem", 0o644, nil)
	put("encrypted.key", 0o600, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{0x30, 0}}))
	put("encrypted-old.key", 0o600, pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"}, Bytes: []byte{0},
	}))
	put("public.key", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{0}}))
	put("broken.key", 0o600, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte{0x30, 0}}))
	put("two.key", 0o600, append(append([]byte(nil), key...), key...))
	put("good.token", 0o640, []byte("0123456789abcdef0123456789abcdef\n"))
	put("open.token", 0o644, []byte("0123456789abcdef0123456789abcdef\n"))
	put("short.token", 0o600, []byte("0123\n"))
	put("wild.names", 0o644, []byte("pay.corp.example\nbilling.corp.example\n"))
	put("common.names", 0o644, []byte("pay\nwiki-*\n"))
	put("rsa-ca.pem", 0o644, testpki.Must(testpki.NewCA(testpki.Options{CN: "RSA CA", Key: testpki.RSA2048, NotBefore: testFrom, NotAfter: testTo})).PEM())
	put("trusted.pem", 0o644, pem.EncodeToMemory(&pem.Block{Type: "TRUSTED CERTIFICATE", Bytes: good.Cert.Raw}))
}
