package pki

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func text(t *testing.T, items []Item) string {
	t.Helper()
	var b strings.Builder
	for _, it := range items {
		if err := it.WriteText(&b); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func request(t *testing.T, change func([]byte)) []byte {
	t.Helper()
	key := testpki.Must(testpki.NewKey(testpki.P256))
	der := testpki.Must(x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "req"}, DNSNames: []string{"req.example.org"}, IPAddresses: []net.IP{net.ParseIP("192.0.2.9")},
	}, key))
	if change != nil {
		change(der)
	}
	return der
}

func TestDescribe(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{Mutate: func(c *x509.Certificate) { c.MaxPathLen = 1 }}))
	leaf := testpki.Must(ca.Issue(testpki.Leaf{URIs: []string{"spiffe://corp/pay"}, NotAfter: time.Now().Add(49 * time.Hour)}))
	crl := testpki.Must(ca.CRL(7, time.Now().Add(25*time.Hour), leaf.Cert))
	sha1 := testpki.Must(ca.SHA1(testpki.Leaf{Key: testpki.RSA1024}))
	key := testpki.Must(testpki.KeyPEM(leaf.Key))
	spki := testpki.Must(x509.MarshalPKIXPublicKey(leaf.Key.Public()))

	for name, c := range map[string]struct {
		in    []byte
		kind  string
		warns bool
		want  []string // in the text
	}{
		"leaf": {leaf.Cert.Raw, "certificate", false, []string{
			"\n  subject      CN=test leaf\n", "\n  names        URI:spiffe://corp/pay\n", "\n  issuer       CN=Test CA,O=sslgate test\n",
			"2 days left", "\n  usage        clientAuth, serverAuth, digitalSignature\n", "\n  key          ECDSA P-256\n",
			"\n  spki sha256  " + leaf.SPKI() + "\n", "\n  serial       " + serialHex(leaf.Cert.SerialNumber) + "\n", "signed with  ECDSA-SHA256",
		}},
		"CA":            {ca.PEM(), "certificate", false, []string{"certificate of a CA, with at most 1 CAs below it\n", "issuer       itself", "keyCertSign, cRLSign"}},
		"CRL":           {testpki.CRLPEM(crl), "crl", false, []string{"revocation list\n", "number       7", "1 day left", "revoked      1\n", serialHex(leaf.Cert.SerialNumber) + "  "}},
		"CRL in DER":    {crl.Raw, "crl", false, []string{"unspecified"}},
		"stale CRL":     {testpki.CRLPEM(testpki.Must(ca.CRL(8, time.Now().Add(-time.Hour)))), "crl", true, []string{", over\n", "warning      it is stale", "revoked      0\n"}},
		"request":       {request(t, nil), "request", false, []string{"certificate request\n", "CN=req", "DNS:req.example.org", "IP:192.0.2.9"}},
		"bad request":   {request(t, func(b []byte) { b[len(b)-1] ^= 1 }), "request", true, []string{"whoever made it does not hold the key"}},
		"key":           {key, "key", false, []string{"spki sha256  " + leaf.SPKI()}},
		"key in DER":    {testpki.Must(x509.MarshalPKCS8PrivateKey(leaf.Key)), "key", false, []string{leaf.SPKI()}},
		"public key":    {pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}), "key", false, []string{leaf.SPKI()}},
		"weak":          {sha1.Cert.Raw, "certificate", true, []string{"RSA key has 1024 bits", "signed with ECDSA-SHA1, which is refused"}},
		"expired":       {testpki.Must(ca.Expired(testpki.Leaf{})).Cert.Raw, "certificate", true, []string{", over\n", "warning      it ran out on", "no subject alternative name"}},
		"not yet valid": {testpki.Must(ca.NotYetValid(testpki.Leaf{})).Cert.Raw, "certificate", true, []string{"it is not valid before"}},
		"P-224":         {testpki.Must(ca.P224(testpki.Leaf{})).Cert.Raw, "certificate", true, []string{"TLS 1.3 does not have"}},
		"critical":      {testpki.Must(ca.UnknownCritical(testpki.Leaf{})).Cert.Raw, "certificate", true, []string{"1.3.6.1.4.1.32473.1 is not understood"}},
	} {
		t.Run(name, func(t *testing.T) {
			items, err := Describe(c.in, time.Now())
			if err != nil || len(items) != 1 || items[0].Type != c.kind {
				t.Fatalf("%+v, %v", items, err)
			}
			got := text(t, items)
			for _, w := range c.want {
				if !strings.Contains(got, w) {
					t.Errorf("want %q in:\n%s", w, got)
				}
			}
			if got := len(items[0].Warnings) > 0; got != c.warns {
				t.Errorf("warnings %v", items[0].Warnings)
			}
		})
	}
}

func TestDescribeAllOfAFile(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	c := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"a.example.org"}}))
	all := append(append(ca.PEM(), testpki.CertsPEM(c.Cert)...), testpki.Must(testpki.KeyPEM(c.Key))...)
	path := filepath.Join(t.TempDir(), "all.pem")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	items, err := Show(path, time.Time{})
	if err != nil || len(items) != 3 || items[1].SPKI != items[2].SPKI || items[0].SPKI == items[1].SPKI {
		t.Errorf("%+v, %v", items, err)
	}
	secret := testpki.Must(c.Key.(*ecdsa.PrivateKey).Bytes())
	if shown := fmt.Sprint(items) + text(t, items); strings.Contains(shown, hex.EncodeToString(secret)) {
		t.Error("the private half is shown")
	}
	for name, data := range map[string]string{
		"block 1 (CERTIFICATE)": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"is nothing this":       "-----BEGIN THING-----\nAAAA\n-----END THING-----\n",
		"no PEM file":           "hello",
		"has nothing to show":   "-----BEGIN EC PARAMETERS-----\nAAAA\n-----END EC PARAMETERS-----\n",
	} {
		_, err := Describe([]byte(data), time.Now())
		wantErr(t, err, name)
	}
	_, err = Show(filepath.Join(t.TempDir(), "none"), time.Now())
	wantErr(t, err, "no such file")
}

// A name in a certificate is whatever its maker wanted; a terminal must not obey it.
func TestHostileNamesAreEscaped(t *testing.T) {
	evil := "a\x1b[2J\r\n\u202eb\u0085c"
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: evil}))
	c := testpki.Must(ca.Issue(testpki.Leaf{CN: evil, O: []string{evil}, Emails: []string{"a@b\x1b[31m"}}))
	items := testpki.Must(Describe(c.Cert.Raw, time.Now()))
	if items[0].Issuer == "" || !strings.Contains(items[0].Subject, `O=a\1B[2J\0D\0A\E2\80\AEb\C2\85c`) {
		t.Errorf("not as RFC 4514 has it: %q", items[0].Subject)
	}
	got := text(t, items)
	onlyPrintable(t, got)
	for _, w := range []string{`CN=a\1B[2J`, `\E2\80\AE`, `\x1b[31m`} {
		if !strings.Contains(got, w) {
			t.Errorf("want %s in:\n%s", w, got)
		}
	}
}

func onlyPrintable(t *testing.T, s string) {
	t.Helper()
	for _, r := range s {
		if r != '\n' && r != ' ' && !unicode.IsPrint(r) {
			t.Fatalf("%q in %q", r, s)
		}
	}
}

// A revocation list of thousands is cut for a person, not for a program.
func TestLongCRL(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	var revoked []*x509.Certificate
	for i := range int64(1000) {
		revoked = append(revoked, &x509.Certificate{SerialNumber: big.NewInt(i + 1)})
	}
	items := testpki.Must(Describe(testpki.Must(ca.CRL(1, time.Now().Add(time.Hour), revoked...)).Raw, time.Now()))
	if len(items[0].Revoked) != 1000 {
		t.Errorf("%d entries", len(items[0].Revoked))
	}
	if got := text(t, items); strings.Count(got, "\n") > 70 || !strings.Contains(got, "and 950 more") {
		t.Errorf("shown:\n%s", got)
	}
}

// Whatever the file: an error alone or something to show, and nothing in the
// text that a terminal obeys.
func FuzzDescribe(f *testing.F) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "a\x1b"}))
	c := testpki.Must(ca.Issue(testpki.Leaf{DNS: []string{"a.example.org"}, URIs: []string{"urn:x"}}))
	f.Add(c.Cert.Raw)
	f.Add(testpki.CertsPEM(c.Cert, ca.Cert))
	f.Add(testpki.Must(ca.CRL(1, time.Now().Add(time.Hour), c.Cert)).Raw)
	f.Add(testpki.Must(testpki.KeyPEM(c.Key)))
	f.Fuzz(func(t *testing.T, data []byte) {
		items, err := Describe(data, time.Now())
		if (err != nil) != (len(items) == 0) {
			t.Fatalf("%d items and error %v", len(items), err)
		}
		if err != nil {
			onlyPrintable(t, strings.ToValidUTF8(err.Error(), "?"))
		}
		onlyPrintable(t, text(t, items))
	})
}
