package pki

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func TestRevoke(t *testing.T) {
	dir, ca := newCA(t, InitOptions{})
	a, aCert := issue(t, dir, IssueOptions{Names: []string{"a.example.org"}})
	_, bCert := issue(t, dir, IssueOptions{Names: []string{"b.example.org"}})
	issue(t, dir, IssueOptions{Names: []string{"c.example.org"}})
	now := time.Now().Truncate(time.Second)

	res, err := Revoke(dir, RevokeOptions{File: a.CertFile, Reason: "key-compromise", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if res.Reason != "keyCompromise" || res.Serial != serialHex(aCert.SerialNumber) || !res.RevokedAt.Equal(now) || res.CRL.Number != "2" || res.CRL.Revoked != 1 {
		t.Errorf("got %+v", res)
	}
	colons := strings.ToUpper(serialHex(bCert.SerialNumber))
	if _, err := Revoke(dir, RevokeOptions{Serial: colons[:2] + ":" + colons[2:]}); err != nil {
		t.Fatal(err)
	}
	der := testpki.Must(os.ReadFile(filepath.Join(dir, "crl.pem")))
	l := parseCRL(t, der)
	if err := l.CheckSignatureFrom(ca); err != nil {
		t.Error(err)
	}
	got := map[string]int{}
	for _, e := range l.RevokedCertificateEntries {
		got[serialHex(e.SerialNumber)] = e.ReasonCode
	}
	if len(got) != 2 || got[serialHex(aCert.SerialNumber)] != 1 || got[serialHex(bCert.SerialNumber)] != 0 {
		t.Errorf("entries %v", got)
	}
	if l.Number.Cmp(big.NewInt(3)) != 0 || l.NextUpdate.Sub(l.ThisUpdate) != 30*day {
		t.Errorf("number %v, from %v to %v", l.Number, l.ThisUpdate, l.NextUpdate)
	}
}

func parseCRL(t *testing.T, data []byte) *x509.RevocationList {
	t.Helper()
	var l *x509.RevocationList
	err := blocks(data, func(_ int, b *pem.Block) (err error) {
		l, err = x509.ParseRevocationList(b.Bytes)
		return err
	})
	if err != nil || l == nil {
		t.Fatalf("CRL: %v", err)
	}
	return l
}

func TestRevokeRefuses(t *testing.T) {
	dir, _ := newCA(t, InitOptions{})
	a, cert := issue(t, dir, IssueOptions{Names: []string{"a.example.org"}})
	foreign, _, err := testpki.Must(testpki.Must(testpki.NewCA(testpki.Options{})).IssueFor(
		testpki.Leaf{Mutate: func(t *x509.Certificate) { t.SerialNumber = cert.SerialNumber }}, testpki.Must(testpki.NewKey(testpki.P256)))).WritePEM(t.TempDir(), "foreign")
	if err != nil {
		t.Fatal(err)
	}
	var usage *UsageError
	for name, c := range map[string]struct {
		o    RevokeOptions
		is   error
		want string
	}{
		"nothing":            {RevokeOptions{}, nil, "one of the two"},
		"both":               {RevokeOptions{Serial: "1", File: "x"}, nil, "one of the two"},
		"no serial":          {RevokeOptions{Serial: "xyz"}, nil, "no serial number"},
		"long serial":        {RevokeOptions{Serial: strings.Repeat("1", 41)}, nil, "no serial number"},
		"reason":             {RevokeOptions{Serial: "1", Reason: "keycompromised"}, nil, `did you mean "keyCompromise"?`},
		"other serial":       {RevokeOptions{Serial: "01"}, ErrNotIssued, "index.jsonl lists"},
		"same serial, other": {RevokeOptions{File: foreign}, ErrNotIssued, "but by CN=Test CA"},
		"missing file":       {RevokeOptions{File: filepath.Join(dir, "none")}, os.ErrNotExist, "none"},
		"a key":              {RevokeOptions{File: a.KeyFile}, nil, "is a private key"},
	} {
		_, err := Revoke(dir, c.o)
		wantErr(t, err, c.want)
		if c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %v is not %v", name, err, c.is)
		}
		if c.is == nil && name != "a key" && !errors.As(err, &usage) {
			t.Errorf("%s: %v is no UsageError", name, err)
		}
	}
	if _, err := Revoke(dir, RevokeOptions{File: a.CertFile}); err != nil {
		t.Fatal(err)
	}
	if _, err := Revoke(dir, RevokeOptions{File: a.CertFile}); !errors.Is(err, ErrRevoked) {
		t.Errorf("twice: %v, want ErrRevoked", err)
	}
	if got := parseCRL(t, testpki.Must(os.ReadFile(filepath.Join(dir, "crl.pem")))).Number.Int64(); got != 2 {
		t.Errorf("CRL number %d: a refused revocation signed a list", got)
	}
}

func TestCRL(t *testing.T) {
	dir, _ := newCA(t, InitOptions{})
	// Without the list itself its number still goes up.
	if err := os.Remove(filepath.Join(dir, "crl.pem")); err != nil {
		t.Fatal(err)
	}
	res, err := CRL(dir, CRLOptions{Life: day})
	if err != nil || res.Number != "2" || res.NextUpdate.Sub(res.ThisUpdate) != day || res.Revoked != 0 {
		t.Errorf("%+v, %v", res, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "crl.number"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = CRL(dir, CRLOptions{})
	wantErr(t, err, "holds no number")
	if _, err := CRL(dir, CRLOptions{Life: -1}); err == nil {
		t.Error("a list that is stale from the start")
	}
}

func TestSerialHex(t *testing.T) {
	for n, want := range map[int64]string{0: "00", 1: "01", 0xab: "ab", 0xabc: "0abc", -1: "-1"} {
		if got := serialHex(big.NewInt(n)); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

// What is taken as a serial number is written so that it is read as the same.
func FuzzParseSerial(f *testing.F) {
	for _, s := range []string{"0x01", "aa:BB", "", "0x", ":", "0x0x1", strings.Repeat("f", 40)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSerial(s)
		if err != nil {
			if n != nil {
				t.Fatal("a number and an error")
			}
			return
		}
		if again, err := parseSerial(serialHex(n)); err != nil || again.Cmp(n) != 0 {
			t.Fatalf("%q: %v, then %v, %v", s, n, again, err)
		}
	})
}

// OpenSSL accepts our chains, recognizes a revoked one, and prints what we show.
func TestOpenSSLAgrees(t *testing.T) {
	openssl := testenv.Tool(t, "openssl")
	knows, err := exec.Command(openssl, "list", "-public-key-algorithms").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range KeyKinds() {
		if strings.HasPrefix(kind, "ml-dsa") && !strings.Contains(string(knows), "ML-DSA") {
			continue // OpenSSL before 3.5
		}
		if kind == "rsa-4096" {
			continue // three such keys take ten seconds, and rsa-3072 shows the same
		}
		dir, ca := newCA(t, InitOptions{Key: kind})
		good, _ := issue(t, dir, IssueOptions{Names: []string{"spiffe://corp/good"}, Key: kind})
		bad, badCert := issue(t, dir, IssueOptions{Names: []string{"bad.example.org", "2001:db8::1"}, Client: true, Key: kind})
		if _, err := Revoke(dir, RevokeOptions{File: bad.CertFile, Reason: "superseded"}); err != nil {
			t.Fatal(err)
		}
		run := func(args ...string) string {
			cmd := exec.Command(openssl, args...)
			cmd.Dir = dir
			out, _ := cmd.CombinedOutput() // what it says is looked at below, also when it says no
			return string(out)
		}
		verify := []string{"verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", "ca.pem", "-crl_check", "-CRLfile", "crl.pem"}
		crl := run("crl", "-in", "crl.pem", "-noout", "-text", "-CAfile", "ca.pem")
		text := run("x509", "-in", bad.CertFile, "-noout", "-text", "-serial")
		serial := strings.ToUpper(serialHex(badCert.SerialNumber))
		for _, c := range []struct{ out, want string }{
			{run(append(verify, good.CertFile)...), ": OK"},
			{run(append(verify, bad.CertFile)...), "error 23 at 0 depth lookup: certificate revoked"},
			{crl, "verify OK"}, {crl, serial}, {crl, "Superseded"}, {crl, "X509v3 CRL Number: \n                2"},
			{text, "serial=" + serial}, {text, "TLS Web Client Authentication"}, {text, "DNS:bad.example.org, IP Address:2001:DB8:0:0:0:0:0:1"},
			{run("x509", "-in", "ca.pem", "-noout", "-text"), "CA:TRUE, pathlen:0"},
		} {
			if !strings.Contains(c.out, c.want) {
				t.Errorf("%s, CA %s: want %q in:\n%s", kind, ca.Subject, c.want, c.out)
			}
		}
	}
}
