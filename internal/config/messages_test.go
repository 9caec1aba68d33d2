package config

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ocsp"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// roots are n self-signed CAs of one key, each with a name of about size bytes.
func roots(t *testing.T, n, size int) []*x509.Certificate {
	t.Helper()
	key := testpki.Must(testpki.NewKey(testpki.P256))
	var all []*x509.Certificate
	for i := range n {
		tmpl := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), NotBefore: testFrom, NotAfter: testTo, IsCA: true, BasicConstraintsValid: true,
			Subject: pkix.Name{CommonName: fmt.Sprintf("Customer Root CA %05d", i), Organization: []string{strings.Repeat("x", size-60)}},
		}
		der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, testpki.Must(x509.ParseCertificate(der)))
	}
	return all
}

// Everything in a configuration that could be too large for the message or the
// vector that it is sent in: found by `check`, at its place, with the figures.
// What is a warning runs, see handshake TestNamesOfCAsThatDoNotFit.
func TestWhatDoesNotFitAMessage(t *testing.T) {
	dir := t.TempDir()
	writePKI(t, dir)
	t.Chdir(dir)
	write := func(name string, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	services := testpki.Must(testpki.NewCA(testpki.Options{CN: "Services CA", NotBefore: testFrom, NotAfter: testTo}))
	leaf := testpki.Must(services.Issue(testpki.Leaf{CN: "pay", DNS: []string{"pay.corp.example"}, NotBefore: testFrom, NotAfter: testTo}))
	key := testpki.Must(testpki.KeyPEM(leaf.Key))
	write("big.key", key)
	write("small.pem", testpki.CertsPEM(leaf.Cert))
	all := roots(t, 700, 106)
	write("700.pem", testpki.CertsPEM(all...))
	write("350-a.pem", testpki.CertsPEM(all[:350]...))
	write("350-b.pem", testpki.CertsPEM(all[350:]...))
	write("400.pem", testpki.CertsPEM(all[:400]...))
	write("200.pem", testpki.CertsPEM(all[:200]...))
	write("12-large.pem", testpki.CertsPEM(roots(t, 12, 8000)...))
	for n, name := range map[int]string{10: "chain-10.pem", 11: "chain-11.pem", 120: "chain-120.pem", 300: "chain-300.pem", 690: "chain-690.pem"} {
		write(name, testpki.CertsPEM(append([]*x509.Certificate{leaf.Cert}, all[:n-1]...)...))
	}
	for n, name := range map[int]string{60_000: "60000.der", 66_000: "66000.der"} {
		der, err := ocsp.CreateResponse(services.Cert, services.Cert, ocsp.Response{
			Status: ocsp.Good, SerialNumber: leaf.Cert.SerialNumber, ThisUpdate: testNow.Add(-1), NextUpdate: testNow.AddDate(0, 0, 7),
			ExtraExtensions: []pkix.Extension{{Id: []int{1, 2, 3, 4}, Value: make([]byte, n)}},
		}, services.Key)
		if err != nil {
			t.Fatal(err)
		}
		write(name, der)
	}
	protocols := func(n, size int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("%0*d", size, i))
		}
		return fmt.Sprintf("%q", strings.Join(list, `", "`))
	}
	unquote := strings.NewReplacer(`\"`, `"`)
	for name, c := range map[string]struct {
		authorities, identity, alpn string
		path, want                  string // want "" is nothing at path
		fails                       bool
	}{
		"as usual":                 {"staff: {roots: staff-ca.pem}", "certificate: small.pem", "", "", "", false},
		"200 CAs":                  {"staff: {roots: 200.pem}", "certificate: small.pem", "", "policy.rules[0].client.authorities", "", false},
		"400 CAs":                  {"staff: {roots: 400.pem}", "certificate: small.pem", "", "policy.rules[0].client.authorities", "Java's clients take no handshake message of more than 32768", false},
		"700 CAs":                  {"staff: {roots: 700.pem}", "certificate: small.pem", "", "policy.rules[0].client.authorities", "the names of 700 CAs take 65800 bytes, and at most 65023 fit", false},
		"700 CAs, two authorities": {"staff: {roots: 350-a.pem}\n  b: {roots: 350-b.pem}", "certificate: small.pem", "", "policy.rules[0].client.authorities", "the names of 700 CAs take 65800 bytes, and at most 65023 fit", false},
		"12 CAs with large names":  {"staff: {roots: 12-large.pem}", "certificate: small.pem", "", "policy.rules[0].client.authorities", "none is sent, which means any CA", false},
		"a chain of 10":            {"staff: {roots: staff-ca.pem}", "certificate: chain-10.pem", "", "identities.pay.certificate", "", false},
		"a chain of 11":            {"staff: {roots: staff-ca.pem}", "certificate: chain-11.pem", "", "identities.pay.certificate", "11 certificates: Java takes at most 10 of them", false},
		"a chain of 40 KiB":        {"staff: {roots: staff-ca.pem}", "certificate: chain-120.pem", "", "identities.pay.certificate", "Java takes at most 32768", false},
		"a chain of 100 KiB":       {"staff: {roots: staff-ca.pem}", "certificate: chain-300.pem", "", "identities.pay.certificate", "OpenSSL, and what is built on it, takes at most 102400", false},
		"a chain of 256 KiB":       {"staff: {roots: staff-ca.pem}", "certificate: chain-690.pem", "", "identities.pay.certificate", "peers take at most 262144", true},
		"a second chain":           {"staff: {roots: staff-ca.pem}", "certificate: small.pem, also: [{certificate: chain-690.pem, key: big.key}]", "", "identities.pay.also[0].certificate", "peers take at most 262144", true},
		"a staple that fits":       {"staff: {roots: staff-ca.pem}", "certificate: small.pem, ocsp: 60000.der", "", "identities.pay.ocsp", "", false},
		"a staple that does not":   {"staff: {roots: staff-ca.pem}", "certificate: small.pem, ocsp: 66000.der", "", "identities.pay.ocsp", "at most 65527 can be stapled", true},
		"64 protocols":             {"staff: {roots: staff-ca.pem}", "certificate: small.pem", protocols(64, 255), "policy.rules[0].alpn", "", false},
		"65 protocols":             {"staff: {roots: staff-ca.pem}", "certificate: small.pem", protocols(65, 255), "policy.rules[0].alpn[64]", "65 protocols, at most 64", true},
		"a protocol of 256 bytes":  {"staff: {roots: staff-ca.pem}", "certificate: small.pem", protocols(2, 256), "policy.rules[0].alpn[0]", "at most 255 bytes", true},
		"300 protocols of 255":     {"staff: {roots: staff-ca.pem}", "certificate: small.pem", protocols(300, 255), "policy.rules[0].alpn[64]", "300 protocols, at most 64", true},
	} {
		t.Run(name, func(t *testing.T) {
			accepted := "staff"
			if strings.Contains(c.authorities, "\n") {
				accepted = "staff, b"
			}
			alpn := ""
			if c.alpn != "" {
				alpn = "\n      alpn: [" + unquote.Replace(c.alpn) + "]"
			}
			text := "version: 1\ncapture: {interfaces: [eth0], ports: [443]}\nauthorities:\n  " + c.authorities +
				"\nidentities:\n  pay: {" + c.identity + ", key: big.key}\npolicy:\n  rules:\n    - name: pay\n      to: [\"10.20.0.0/16:443\"]\n      identity: pay" + alpn +
				"\n      client: {authorities: [" + accepted + "]}\n      destination: {tls: plain}\n"
			rt, found := build(parse("x.yaml", []byte(text)), stdtls.New(), testNow)
			if (rt == nil) != c.fails {
				t.Fatalf("%v", Findings(found))
			}
			said := false
			for _, f := range found {
				if !strings.HasPrefix(f.Path, c.path) || c.path == "" {
					continue
				}
				if c.want == "" && !strings.Contains(f.Msg, "did not issue") {
					t.Errorf("%s", f)
				}
				if c.want != "" && strings.Contains(f.Msg, c.want) {
					if said = true; f.Line < 3 || f.Col < 1 || f.Warning == c.fails || f.Path != c.path {
						t.Errorf("%s, line %d, column %d, warning: %v", f, f.Line, f.Col, f.Warning)
					}
				}
			}
			if c.want != "" && !said {
				t.Errorf("not said: %.3000s", Findings(found).Error())
			}
		})
	}
}
