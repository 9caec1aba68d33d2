package archtest

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// keepsUntil is when a certificate that is kept in the repository may end at the earliest.
var keepsUntil = time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)

// A test that uses a certificate from a file fails on the day on which it ends. Tests make their
// own with testpki; one that is kept lasts.
func TestKeptCertificatesLast(t *testing.T) {
	n := 0
	for _, name := range kept(t, "../..") {
		// One that is gone was there for another test.
		if info, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		n++
		for _, c := range endsEarly(text) {
			t.Errorf("%s has a certificate of %s that ends on %s; make it in the test (testpki), or have it last until %s",
				name, c.Subject, c.NotAfter.Format(time.DateOnly), keepsUntil.Format(time.DateOnly))
		}
	}
	if n < 500 {
		t.Errorf("only %d files were looked at", n)
	}
}

// kept are the files of the repository: those that git keeps or would keep, or all of them where
// there is no git.
func kept(t *testing.T, root string) (names []string) {
	t.Helper()
	if out, err := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output(); err == nil {
		for name := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
			names = append(names, filepath.Join(root, name))
		}
		return names
	}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == ".git" {
			return fs.SkipDir
		}
		if err == nil && !d.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// endsEarly is every certificate in a file, PEM or DER, that ends before it may.
func endsEarly(text []byte) (early []*x509.Certificate) {
	all, _ := x509.ParseCertificates(text)
	for begin := []byte("-----BEGIN "); ; {
		// Where one that cannot be read begins another one may follow.
		at := bytes.Index(text, begin)
		if at < 0 {
			break
		}
		block, _ := pem.Decode(text[at:])
		if block != nil {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil {
				all = append(all, c)
			}
		}
		text = text[at+len(begin):]
	}
	for _, c := range all {
		if c.NotAfter.Before(keepsUntil) {
			early = append(early, c)
		}
	}
	return early
}

// Certificates that end early are found, among others and amid text.
func TestEndsEarly(t *testing.T) {
	soon := testpki.Must(testpki.NewCA(testpki.Options{CN: "soon"}))
	late := testpki.Must(testpki.NewCA(testpki.Options{CN: "late", NotAfter: keepsUntil}))
	some := []byte("const broken = `-----BEGIN CERTIFICATE-----\nAA`\nconst ca = `" + string(late.PEM()) + string(soon.PEM()) + "`\n")
	for what, text := range map[string][]byte{"PEM": soon.PEM(), "DER": soon.Cert.Raw, "amid text": some} {
		if early := endsEarly(text); len(early) == 0 || !early[0].Equal(soon.Cert) {
			t.Errorf("%s: %d are found", what, len(early))
		}
	}
	if early := endsEarly(late.PEM()); len(early) != 0 {
		t.Errorf("one that lasts is found: %s", early[0].Subject)
	}
}
