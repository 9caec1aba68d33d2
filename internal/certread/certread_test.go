package certread

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/certname"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// made is a good certificate except for what change does to its bytes. Lengths must stay
// the same, so replace has as many bytes as find.
func made(t testing.TB, mutate func(*x509.Certificate)) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(0x1234567), Subject: pkix.Name{CommonName: "odd one", Organization: []string{"Exampel"}},
		NotBefore: time.Unix(1_700_000_000, 0), NotAfter: time.Unix(1_900_000_000, 0), DNSNames: []string{"odd.example.org"},
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if mutate != nil {
		mutate(c)
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func replaced(t testing.TB, der []byte, find, replace string) []byte {
	t.Helper()
	if len(find) != len(replace) || !bytes.Contains(der, []byte(find)) {
		t.Fatalf("%x is not in the certificate", find)
	}
	return bytes.ReplaceAll(der, []byte(find), []byte(replace))
}

// Each kind that crypto/x509 refuses is reported with its serial number, a plain reason
// and a remedy.
func TestKinds(t *testing.T) {
	ext := func(id asn1.ObjectIdentifier, critical bool, value ...byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
		}
	}
	const curve = "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07" // P-256
	for name, c := range map[string]struct {
		der    []byte
		serial string // "" means 1234567
		want   string
	}{
		"negative serial":     {replaced(t, made(t, nil), "\x02\x04\x01\x23\x45\x67", "\x02\x04\x81\x23\x45\x67"), "-7edcba99", "serial number is negative"},
		"padded serial":       {replaced(t, made(t, nil), "\x02\x04\x01\x23\x45\x67", "\x02\x04\x00\x00\x45\x67"), "4567", "no DER integer"},
		"SM2":                 {replaced(t, made(t, nil), curve, "\x06\x08\x2a\x81\x1c\xcf\x55\x01\x82\x2d"), "", "elliptic curve SM2"},
		"P-192":               {replaced(t, made(t, nil), curve, "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x01"), "", "elliptic curve P-192"},
		"explicit parameters": {replaced(t, made(t, nil), curve, "\x30\x08\x02\x01\x01\x02\x03\x01\x02\x03"), "", "explicit curve parameters"},
		"no PrintableString":  {replaced(t, made(t, nil), "\x13\x07Exampel", "\x13\x07Ex@mp\x01l"), "", "its type, PrintableString"},
		"no UTF-8":            {replaced(t, made(t, nil), "\x13\x07Exampel", "\x0c\x07Ex\xffmpel"), "", "no UTF-8"},
		"no INTEGER":          {replaced(t, made(t, nil), "\x13\x07Exampel", "\x02\x07\x00\x00ampel"), "", "value that is no DER"},
		"mapped IP": {made(t, func(c *x509.Certificate) {
			c.DNSNames = nil
			ext([]int{2, 5, 29, 17}, false, append([]byte{0x30, 18, 0x87, 16}, net.IPv4(1, 2, 3, 4).To16()...)...)(c)
		}), "", "IPv4 address in the form of IPv6"},
		"mapped constraint":  {made(t, ext([]int{2, 5, 29, 30}, true, append(append([]byte{0x30, 38, 0xa0, 36, 0x30, 34, 0x87, 32}, net.IPv4(1, 2, 3, 4).To16()...), bytes.Repeat([]byte{255}, 16)...)...)), "", "IPv4 address in the form of IPv6"},
		"SAN":                {replaced(t, made(t, nil), "odd.example.org", "\xf6dd.example.org"), "", "no ASCII"},
		"no date":            {replaced(t, made(t, nil), "231114221320Z", "239914221320Z"), "", "no date that there is"},
		"twice":              {made(t, func(c *x509.Certificate) { ext([]int{1, 2, 3}, false, 5, 0)(c); ext([]int{1, 2, 3}, false, 5, 0)(c) }), "", "stands in it twice"},
		"critical key id":    {made(t, ext([]int{2, 5, 29, 35}, true, 0x30, 0)), "", "marked critical that must not be"},
		"key usage":          {made(t, func(c *x509.Certificate) { c.KeyUsage = 0; ext([]int{2, 5, 29, 15}, true, 5, 0)(c) }), "", "key usage cannot be decoded"},
		"extended key usage": {made(t, ext([]int{2, 5, 29, 37}, false, 5, 0)), "", "key usage cannot be decoded"},
		"IP of five bytes": {made(t, func(c *x509.Certificate) {
			c.DNSNames = nil
			ext([]int{2, 5, 29, 17}, false, 0x30, 7, 0x87, 5, 1, 2, 3, 4, 5)(c)
		}), "", "neither 4 nor 16"},
		"constraint":           {made(t, ext([]int{2, 5, 29, 30}, true, 0x30, 0x0a, 0xa0, 8, 0x30, 6, 0x87, 4, 10, 0, 0, 0)), "", "address with a mask"},
		"constraint with mask": {made(t, ext([]int{2, 5, 29, 30}, true, 0x30, 0x0e, 0xa0, 12, 0x30, 10, 0x87, 8, 10, 0, 0, 0, 255, 0, 255, 0)), "", "address with a mask"},
		"bytes behind":         {append(made(t, nil), 0), "", "bytes behind its end"},
		"algorithms differ":    {lastReplaced(made(t, nil), "\x04\x03\x02", "\x04\x03\x03"), "", "algorithms differ"},
	} {
		cert, err := Certificate(c.der)
		bad, ok := errors.AsType[*Refused](err)
		if !ok || cert != nil {
			t.Errorf("%s: read, %v", name, err)
			continue
		}
		serial := c.serial
		if serial == "" {
			serial = "1234567"
		}
		if bad.Serial != serial || !strings.Contains(bad.Subject, "CN=odd one") || !strings.Contains(bad.Why, c.want) || bad.Mend == "" || !errors.Is(err, bad.Err) {
			t.Errorf("%s: %q, serial %q, %q, %q: want %q", name, bad.Subject, bad.Serial, bad.Why, bad.Mend, c.want)
		}
		if strings.Contains(bad.Why, "not DER") {
			t.Errorf("%s has no words of its own: %v", name, err)
		}
	}
	// A string type that nobody uses is shown as it stands.
	odd, err := Certificate(replaced(t, made(t, nil), "\x13\x07Exampel", "\x1b\x07Exampel"))
	if err != nil || !strings.Contains(certname.Subject(odd), "#1b074578616d70656c") {
		t.Errorf("GeneralString: %v, %q", err, certname.Subject(odd))
	}
	good := made(t, func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(1, 2, 3, 4)} })
	if c, err := Certificate(good); err != nil || c.SerialNumber.Int64() != 0x1234567 {
		t.Errorf("a good one: %v", err)
	}
}

// The maker of a certificate has text of his own in some errors of crypto/x509. That text
// must not choose the reason.
func TestTextOfACertificateIsNoReason(t *testing.T) {
	san := func(tag byte, text string) []byte {
		return made(t, func(c *x509.Certificate) {
			c.DNSNames = nil
			value := append([]byte{0x30, byte(len(text) + 2), tag, byte(len(text))}, text...)
			c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 17}, Value: value}}
		})
	}
	held := func(tag byte, text string) []byte {
		n := byte(len(text))
		return made(t, func(c *x509.Certificate) {
			value := append([]byte{0x30, n + 6, 0xa0, n + 4, 0x30, n + 2, tag, n}, text...)
			c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 5, 29, 30}, Critical: true, Value: value}}
		})
	}
	for _, words := range []string{"negative serial", "malformed serial", "duplicate extension", "IP constraint", "NameConstraints", "requireExplicitPolicy",
		"cannot parse IP address", "elliptic curve", "RSA", "PrintableString", "UTCTime", "trailing data", "version", "key usage", `" negative serial "`} {
		for want, der := range map[string][]byte{
			"a URI that is none": san(0x86, "http://[/"+words), // no end of the address
			"name constraints":   held(0x86, "[ "+words),       // no domain
		} {
			_, err := Certificate(der)
			bad, ok := errors.AsType[*Refused](err)
			if !ok {
				t.Fatalf("%s, %q: %v", want, words, err)
			}
			if !strings.Contains(bad.Why, want) || strings.Contains(bad.Mend, "openssl") || strings.Contains(bad.Mend, "serial") {
				t.Errorf("%q says %q, %q: want %q", words, bad.Why, bad.Mend, want)
			}
		}
	}
}

func lastReplaced(der []byte, find, replace string) []byte {
	i := bytes.LastIndex(der, []byte(find))
	return append(append(append([]byte{}, der[:i]...), replace...), der[i+len(find):]...)
}

// The documentation has every kind, in the words of the message.
func TestKindsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/operating.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range append(slices.Clone(kinds), listKinds...) {
		if !bytes.Contains(doc, []byte("\n- "+k.why)) {
			t.Errorf("docs/operating.md lacks %q", k.why)
		}
	}
}

// Certificates that openssl makes and crypto/x509 does not read are reported with their
// name and what to do.
func TestKindsOfOpenSSL(t *testing.T) {
	openssl := testenv.Tool(t, "openssl")
	for curve, name := range map[string]string{
		"secp256k1": "secp256k1", "brainpoolP256r1": "brainpoolP256r1", "brainpoolP384r1": "brainpoolP384r1", "brainpoolP512r1": "brainpoolP512r1",
		"brainpoolP256t1": "brainpoolP256t1", "prime192v1": "P-192", "SM2": "SM2", "sect283r1": "sect283r1",
	} {
		dir, digest := t.TempDir(), "-sha256"
		if curve == "SM2" {
			digest = "-sm3"
		}
		for _, args := range [][]string{
			{"ecparam", "-name", curve, "-genkey", "-noout", "-out", "k.pem"},
			{"req", "-x509", "-new", "-key", "k.pem", digest, "-subj", "/CN=odd curve", "-days", "9", "-outform", "DER", "-out", "c.der"},
		} {
			cmd := exec.Command(openssl, args...)
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%s: %v: %v\n%s", curve, args, err, out)
			}
		}
		der, err := os.ReadFile(filepath.Join(dir, "c.der"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Certificate(der)
		bad, ok := errors.AsType[*Refused](err)
		if !ok || bad.Subject != "CN=odd curve" || !strings.Contains(bad.Why, "elliptic curve "+name) || !strings.Contains(bad.Mend, "P-256") {
			t.Errorf("%s: %v", curve, err)
		}
	}
}

// Lists are named by their issuer.
func TestKindsOfLists(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{Subject: pkix.Name{CommonName: "odd one", Organization: []string{"Exampel"}}, KeyUsage: x509.KeyUsageCRLSign, SubjectKeyId: []byte{1, 2, 3, 4}}
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		Number: big.NewInt(0x1234567), ThisUpdate: time.Unix(1_700_000_000, 0), NextUpdate: time.Unix(1_900_000_000, 0),
	}, ca, key)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := RevocationList(der); err != nil || l.Number.Int64() != 0x1234567 {
		t.Fatalf("a good one: %v", err)
	}
	for name, c := range map[string]struct {
		der  []byte
		want string
	}{
		"version":       {replaced(t, der, "\x02\x01\x01\x30", "\x02\x01\x07\x30"), "version 2"},
		"number":        {replaced(t, der, "\x02\x04\x01\x23\x45\x67", "\x02\x04\x00\x00\x45\x67"), "its number"},
		"date":          {replaced(t, der, "231114221320Z", "239914221320Z"), "no date that there is"},
		"name":          {replaced(t, der, "\x13\x07Exampel", "\x13\x07Ex@mp\x01l"), "PrintableString"},
		"no UTF-8":      {replaced(t, der, "\x13\x07Exampel", "\x0c\x07Ex\xffmpel"), "no UTF-8"},
		"key id":        {replaced(t, der, "\x80\x04\x01\x02\x03\x04", "\x80\x09\x01\x02\x03\x04"), "authority key identifier"},
		"algorithms":    {lastReplaced(der, "\x04\x03\x02", "\x04\x03\x03"), "algorithms differ"},
		"something":     {[]byte{0x30, 3, 2, 1, 5}, "not DER"},
		"a certificate": {made(t, nil), ""},
	} {
		_, err := RevocationList(c.der)
		bad, ok := errors.AsType[*Refused](err)
		if !ok || bad.Mend == "" || !strings.Contains(bad.Why, c.want) || !strings.HasPrefix(bad.Error(), "revocation list ") || !errors.Is(err, bad.Err) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.want != "" && c.want != "not DER" && !strings.Contains(bad.Subject, "CN=odd one") {
			t.Errorf("%s: %q", name, bad.Subject)
		}
	}
}

// Whatever the bytes are, the answer is a certificate or a Refused of one line
// that is fit to be shown.
func FuzzCertificate(f *testing.F) {
	good := made(f, nil)
	f.Add(good)
	f.Add(replaced(f, good, "\x02\x04\x01\x23\x45\x67", "\x02\x04\x80\x00\x00\x00"))
	f.Add([]byte{0x30, 3, 2, 1, 5})
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := Certificate(der)
		if (c == nil) == (err == nil) {
			t.Fatal("both or neither")
		}
		if err == nil {
			return
		}
		bad, ok := errors.AsType[*Refused](err)
		if !ok || bad.Why == "" || bad.Mend == "" || len(bad.Error()) > 3000 {
			t.Fatalf("%v", err)
		}
		for _, r := range bad.Error() {
			if r < 0x20 || r == 0x7f || r == '\ufffd' {
				t.Fatalf("%q", bad.Error())
			}
		}
	})
}
