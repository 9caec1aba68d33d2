package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

func newCA(t *testing.T, o InitOptions) (string, *x509.Certificate) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca dir")
	res, err := Init(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, load(t, res.CertFile)
}

func load(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	certs, err := readCertificates(path)
	if err != nil || len(certs) != 1 {
		t.Fatalf("%s: %d certificates, %v", path, len(certs), err)
	}
	return certs[0]
}

func issue(t *testing.T, dir string, o IssueOptions) (*IssueResult, *x509.Certificate) {
	t.Helper()
	res, err := Issue(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return res, load(t, res.CertFile)
}

func checkMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	if st, err := os.Lstat(path); err != nil || st.Mode() != want {
		t.Errorf("%s: %v, %v; want mode %v", path, st, err, want)
	}
}

// files lists a directory, to see that nothing was left over.
func files(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	for _, e := range testpki.Must(os.ReadDir(dir)) {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func TestInit(t *testing.T) {
	for _, kind := range KeyKinds() {
		now := time.Now()
		dir, cert := newCA(t, InitOptions{Key: kind, Org: "Org", Now: now})
		if !cert.IsCA || !cert.MaxPathLenZero || cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			t.Errorf("%s: not a CA for leaves: %v %v %v", kind, cert.IsCA, cert.MaxPathLenZero, cert.KeyUsage)
		}
		if err := cert.CheckSignatureFrom(cert); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if got := cert.NotAfter.Sub(now).Round(time.Minute); got != 3650*day {
			t.Errorf("%s: valid for %v", kind, got)
		}
		checkMode(t, filepath.Join(dir, "ca.key"), 0o600)
		checkMode(t, filepath.Join(dir, "ca.pem"), 0o644)
		checkMode(t, filepath.Join(dir, "index.jsonl"), 0o600)
		if got, want := files(t, dir), "ca.key ca.pem crl.number crl.pem index.jsonl"; got != want {
			t.Errorf("files: %s; want %s", got, want)
		}
	}
}

func TestTwoCAsNeverShareAName(t *testing.T) {
	_, a := newCA(t, InitOptions{})
	_, b := newCA(t, InitOptions{})
	if a.Subject.String() == b.Subject.String() {
		t.Errorf("both are %s", a.Subject)
	}
}

func TestInitNeverOverwrites(t *testing.T) {
	dir, cert := newCA(t, InitOptions{})
	_, err := Init(dir, InitOptions{})
	if !errors.Is(err, ErrExists) {
		t.Errorf("error %v, want ErrExists", err)
	}
	wantErr(t, err, "sslgate pki init --dir OTHER")
	if !load(t, filepath.Join(dir, "ca.pem")).Equal(cert) {
		t.Error("the CA is another one now")
	}
	// Part of a CA: its key must not be lost either. Next the certificate is a dangling
	// symbolic link, which somebody has put there.
	key := testpki.Must(os.ReadFile(filepath.Join(dir, "ca.key")))
	if err := os.Remove(filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	_, err = Init(dir, InitOptions{})
	wantErr(t, err, "interrupted")
	if got := testpki.Must(os.ReadFile(filepath.Join(dir, "ca.key"))); string(got) != string(key) {
		t.Error("the key was overwritten")
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "ca.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err = Init(dir, InitOptions{}); !errors.Is(err, ErrExists) {
		t.Errorf("dangling link: %v, want ErrExists", err)
	}
}

func TestUsageErrorsChangeNothing(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "pki")
	for name, f := range map[string]func() error{
		"life":      func() error { _, err := Init(dir, InitOptions{Life: -1}); return err },
		"long name": func() error { _, err := Init(dir, InitOptions{Name: strings.Repeat("x", 65)}); return err },
	} {
		var u *UsageError
		if err := f(); !errors.As(err, &u) {
			t.Errorf("%s: %v, want a UsageError", name, err)
		}
	}
	if got := files(t, parent); got != "" {
		t.Errorf("left over: %s", got)
	}
	_, err := Init(dir, InitOptions{Key: "rsa2048"})
	wantErr(t, err, `did you mean "rsa-2048"?`)
	if got := files(t, dir); got != "" {
		t.Errorf("left over: %s", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	_, err := Issue(filepath.Join(t.TempDir(), "none"), IssueOptions{Names: []string{"a.b"}})
	if !errors.Is(err, ErrNoCA) {
		t.Errorf("error %v, want ErrNoCA", err)
	}
	wantErr(t, err, "sslgate pki init --dir ")

	key := func(dir string) string { return filepath.Join(dir, "ca.key") }
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"key open to others": {func(d string) error { return os.Chmod(key(d), 0o640) }, "chmod 600 '"},
		"key lost":           {func(d string) error { return os.Remove(key(d)) }, "can neither issue nor revoke"},
		"key of another": {func(d string) error {
			return os.WriteFile(key(d), testpki.Must(testpki.KeyPEM(testpki.Must(testpki.NewKey(testpki.P256)))), 0o600)
		}, "does not fit"},
		"key is junk":         {func(d string) error { return os.WriteFile(key(d), []byte("x"), 0o600) }, "no PEM file"},
		"certificate is junk": {func(d string) error { return os.WriteFile(filepath.Join(d, "ca.pem"), []byte("x"), 0o600) }, "no PEM file"},
		"not a CA": {func(d string) error {
			return os.WriteFile(filepath.Join(d, "ca.pem"), testpki.CertsPEM(testpki.Must(testpki.SelfSigned(testpki.Leaf{})).Cert), 0o600)
		}, "not the certificate of one CA"},
		"index is junk": {func(d string) error {
			return os.WriteFile(filepath.Join(d, "index.jsonl"), []byte("{}\nx"), 0o600)
		}, "index.jsonl:1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := newCA(t, InitOptions{})
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			before := files(t, dir)
			_, err := Issue(dir, IssueOptions{Names: []string{"a.b"}})
			wantErr(t, err, c.want)
			if after := files(t, dir); after != before {
				t.Errorf("files before %s, after %s", before, after)
			}
		})
	}
}

// Many commands at once: nothing is lost from the index, no CRL number is used twice.
func TestManyAtOnce(t *testing.T) {
	dir, _ := newCA(t, InitOptions{})
	const n = 16
	var wg sync.WaitGroup
	numbers := make([]string, n)
	errs := make([]error, 2*n)
	for i := range n {
		wg.Go(func() {
			res, err := Issue(dir, IssueOptions{Names: []string{fmt.Sprintf("host%d.example.org", i)}})
			if err != nil {
				errs[i] = err
				return
			}
			rev, err := Revoke(dir, RevokeOptions{File: res.CertFile})
			if err != nil {
				errs[n+i] = err
				return
			}
			numbers[i] = rev.CRL.Number
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range numbers {
		if seen[s] {
			t.Errorf("CRL number %s twice", s)
		}
		seen[s] = true
	}
	items := testpki.Must(Show(filepath.Join(dir, "crl.pem"), time.Now()))
	if len(items) != 1 || len(items[0].Revoked) != n {
		t.Errorf("the last CRL has not all %d: %+v", n, items)
	}
}

func TestLockIsGivenUpAfterAWhile(t *testing.T) {
	dir := t.TempDir()
	unlock := testpki.Must(lock(dir, 0))
	_, err := lock(dir, 50*time.Millisecond)
	if !errors.Is(err, ErrBusy) {
		t.Errorf("error %v, want ErrBusy", err)
	}
	unlock()
	again, err := lock(dir, 0)
	if err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	again()
}

func TestCreateFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a")
	if err := createFile(path, []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := createFile(path, []byte("two"), 0o640); !errors.Is(err, ErrExists) {
		t.Errorf("error %v, want ErrExists", err)
	}
	checkMode(t, path, 0o640)
	if got := string(testpki.Must(os.ReadFile(path))); got != "one" || files(t, dir) != "a" {
		t.Errorf("content %q, files %s", got, files(t, dir))
	}
}
