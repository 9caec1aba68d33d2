package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func wantErr(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want one with %q", err, want)
	}
}

func TestParseCertificates(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	c := testpki.Must(testpki.Must(ca.Intermediate(testpki.Options{})).Issue(testpki.Leaf{}))
	chain := string(testpki.CertsPEM(c.Chain...))
	key := string(testpki.Must(testpki.KeyPEM(c.Key)))
	der := string(c.Cert.Raw)

	for name, in := range map[string]string{
		"chain": chain, "text around": "Subject: x\n" + chain + "\ntrailing words\n",
		"byte order mark": "\xef\xbb\xbf" + chain, "CRLF": strings.ReplaceAll(chain, "\n", "\r\n"),
	} {
		got, err := ParseCertificates([]byte(in))
		if err != nil || len(got) != 2 || !got[0].Equal(c.Chain[0]) || !got[1].Equal(c.Chain[1]) {
			t.Errorf("%s: %d certificates, %v", name, len(got), err)
		}
	}
	lines := strings.SplitAfter(chain, "\n")
	for name, c := range map[string]struct{ in, want string }{
		"empty":              {" \n", "is empty"},
		"words":              {"hello\n", "no PEM file"},
		"DER":                {der, "openssl x509 -inform DER"},
		"CRL in DER":         {string(testpki.Must(ca.CRL(1, c.Cert.NotAfter)).Raw), "openssl crl -inform DER"},
		"key":                {key, "block 1 is a private key"},
		"key after":          {chain + key, "block 3 is a private key"},
		"CRL":                {string(testpki.CRLPEM(testpki.Must(ca.CRL(1, c.Cert.NotAfter)))), "block 1 is X509 CRL, not a certificate"},
		"request":            {block("CERTIFICATE REQUEST", []byte{1}), "have a CA sign it"},
		"OpenSSL's own":      {block("TRUSTED CERTIFICATE", []byte{1}), "openssl crl2pkcs7 -nocrl -certfile FILE"},
		"junk inside":        {chain + block("CERTIFICATE", []byte("junk")), "block 3: certificate cannot be decoded"},
		"damaged first":      {lines[0] + "!!!!\n" + strings.Join(lines[1:], ""), "line 2: inside of the block"},
		"no END":             {strings.TrimSuffix(chain, lines[len(lines)-2]), "has no END line"},
		"hostile block type": {block("EVIL\x1b[31m", nil), `EVIL\x1b[31m`},
		"too large":          {strings.Repeat("\n", maxPEM+1), "is not read"},
		"parameters only":    {block("EC PARAMETERS", []byte{1}), "contains no certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseCertificates([]byte(c.in))
			wantErr(t, err, c.want)
			if got != nil {
				t.Error("certificates and an error")
			}
		})
	}
}

func TestParseKey(t *testing.T) {
	ec, r := testpki.Must(testpki.NewKey(testpki.P384)), testpki.Must(testpki.NewKey(testpki.RSA2048))
	sec1 := testpki.Must(x509.MarshalECPrivateKey(ec.(*ecdsa.PrivateKey)))
	pkcs1 := x509.MarshalPKCS1PrivateKey(r.(*rsa.PrivateKey))
	ec8, r8 := testpki.Must(testpki.KeyPEM(ec)), testpki.Must(testpki.KeyPEM(r))
	ed := testpki.Must(testpki.NewKey(testpki.Ed25519))

	for name, c := range map[string]struct {
		in   string
		want crypto.Signer
	}{
		"PKCS#8 EC": {string(ec8), ec}, "PKCS#8 RSA": {string(r8), r}, "PKCS#8 Ed25519": {string(testpki.Must(testpki.KeyPEM(ed))), ed},
		"SEC 1": {block("EC PRIVATE KEY", sec1), ec}, "PKCS#1": {block("RSA PRIVATE KEY", pkcs1), r},
		"SEC 1 with parameters":    {block("EC PARAMETERS", []byte{6, 5, 0x2b, 0x81, 4, 0, 0x22}) + block("EC PRIVATE KEY", sec1), ec},
		"SEC 1 under another name": {block("PRIVATE KEY", sec1), ec},
	} {
		got, err := ParseKey([]byte(c.in))
		if err != nil || !got.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(c.want.Public()) {
			t.Errorf("%s: %T, %v", name, got, err)
		}
	}
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	legacy := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: []byte{1}}))
	for name, c := range map[string]struct{ in, want string }{
		"encrypted":        {block("ENCRYPTED PRIVATE KEY", []byte{1}), "openssl pkey -in"},
		"encrypted, older": {legacy, "openssl pkey -in"},
		"certificate":      {string(ca.PEM()), "are the two files mixed up?"},
		"two":              {string(ec8) + string(r8), "block 2 is a second private key"},
		"public":           {block("PUBLIC KEY", []byte{1}), "not a private key"},
		"junk":             {block("EC PRIVATE KEY", []byte{1}), "cannot be decoded"},
		"DER":              {string(sec1), "openssl pkey -inform DER"},
		"empty":            {"", "is empty"},
		"ML-DSA, both":     {block("PRIVATE KEY", mldsaKey(0x30)), "output_formats=seed-only"},
		"ML-DSA, expanded": {block("PRIVATE KEY", mldsaKey(0x04)), "make a new key"},
		"parameters":       {block("EC PARAMETERS", []byte{1}), "contains no private key"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseKey([]byte(c.in))
			wantErr(t, err, c.want)
			if got != nil {
				t.Error("a key and an error")
			}
		})
	}
}

// mldsaKey is an ML-DSA key in PKCS#8 whose private key begins with a tag (RFC 9881,
// section 6: seed, expandedKey or both).
func mldsaKey(tag byte) []byte {
	der := testpki.Must(x509.MarshalPKCS8PrivateKey(testpki.Must(testpki.NewKey(testpki.MLDSA65))))
	der[len(der)-34] = tag // in front of the seed: its tag and length
	return der
}

func TestCheckPair(t *testing.T) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	c := testpki.Must(ca.Issue(testpki.Leaf{CN: "a\x1b[31m"}))
	if err := CheckPair(c.Cert, c.Key); err != nil {
		t.Error(err)
	}
	err := CheckPair(c.Cert, testpki.Must(testpki.NewKey(testpki.P256)))
	wantErr(t, err, "ECDSA P-256 key, but another one")
	if strings.Contains(err.Error(), "\x1b") {
		t.Error("a control character of the subject came through")
	}
	wantErr(t, CheckPair(c.Cert, testpki.Must(testpki.NewKey(testpki.Ed25519))), "this is an Ed25519 key")
}

// Keys and bundles as OpenSSL writes them, and the commands in our errors.
func TestFilesOfOpenSSL(t *testing.T) {
	openssl := testenv.Tool(t, "openssl")
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command(openssl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	read := func(name string) []byte { return testpki.Must(os.ReadFile(filepath.Join(dir, name))) }

	run("ecparam", "-name", "prime256v1", "-genkey", "-out", "sec1.key")
	run("genpkey", "-algorithm", "ed25519", "-out", "ed.key")
	run("genrsa", "-traditional", "-out", "pkcs1.key", "2048")
	for _, name := range []string{"sec1.key", "ed.key", "pkcs1.key"} {
		if _, err := ParseKey(read(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	run("pkey", "-in", "sec1.key", "-aes256", "-passout", "pass:x", "-out", "enc.key")
	_, err := ParseKey(read("enc.key"))
	wantErr(t, err, "the key is encrypted")
	run("rsa", "-traditional", "-in", "pkcs1.key", "-aes256", "-passout", "pass:x", "-out", "oldenc.key")
	_, err = ParseKey(read("oldenc.key"))
	wantErr(t, err, "the key is encrypted")

	run("req", "-x509", "-key", "sec1.key", "-subj", "/CN=x", "-days", "1", "-out", "x.pem")
	run("pkcs12", "-export", "-in", "x.pem", "-inkey", "sec1.key", "-passout", "pass:x", "-out", "x.p12")
	_, err = ParseCertificates(read("x.p12"))
	wantErr(t, err, "openssl pkcs12 -in")
	run("crl2pkcs7", "-nocrl", "-certfile", "x.pem", "-outform", "DER", "-out", "x.p7b")
	_, err = ParseCertificates(read("x.p7b"))
	wantErr(t, err, "openssl pkcs7 -inform DER")
	run("x509", "-in", "x.pem", "-text", "-out", "text.pem")
	if _, err := ParseCertificates(read("text.pem")); err != nil {
		t.Errorf("certificate with its text before it: %v", err)
	}
}

// What is read is written and read again as the same. An error comes without
// certificates.
func FuzzParseCertificates(f *testing.F) {
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	f.Add(ca.PEM())
	f.Add(append(ca.PEM(), testpki.Must(testpki.KeyPEM(ca.Key))...))
	f.Add(ca.Cert.Raw)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		certs, err := ParseCertificates(data)
		if err != nil {
			if certs != nil {
				t.Fatal("certificates and an error")
			}
			return
		}
		if len(certs) == 0 {
			t.Fatal("neither a certificate nor an error")
		}
		if n := bytes.Count(data, []byte("-----BEGIN CERTIFICATE-----")); n < len(certs) {
			t.Fatalf("%d certificates out of %d blocks", len(certs), n)
		}
		again, err := ParseCertificates(testpki.CertsPEM(certs...))
		if err != nil || len(again) != len(certs) {
			t.Fatalf("written and read again: %d of %d, %v", len(again), len(certs), err)
		}
	})
}
