package fileset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/readfile"
)

// Credentials of systemd and environment variables are read as files are, and what they have
// is in no error.
func TestPlaces(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pay"), []byte("of systemd"), 0o400); err != nil {
		t.Fatal(err)
	}
	t.Setenv(CredentialsVariable, dir)
	t.Setenv("SSLGATE_TEST_SECRET", "of the environment")
	src := Disk{}
	for path, want := range map[string]string{"credential:pay": "of systemd", "env:SSLGATE_TEST_SECRET": "of the environment"} {
		f, err := src.Read(t.Context(), path, 100, nil)
		stamp, serr := src.Stamp(path)
		if err != nil || serr != nil || string(f.Text) != want || f.Stamp != stamp || f.Mode.Perm()&0o077 != 0 || !src.Exists(path) {
			t.Errorf("%s: %+v %v, stamp %q %v", path, f, err, stamp, serr)
		}
		if _, err := src.Read(t.Context(), path, 3, nil); !errors.Is(err, readfile.ErrTooLarge) || strings.Contains(err.Error(), "of ") && strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		s := New(src, MaxBytes)
		digest := func(main string) string {
			if _, err := s.Read(t.Context(), path, 100, nil); err != nil {
				t.Fatal(err)
			}
			s.DoneSecret(path)
			return s.Digest(main)
		}
		if a, b := digest("/a/c.yaml"), digest("/b/c.yaml"); a != b {
			t.Errorf("%s: the digest depends on where the configuration is", path)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "next"), []byte("another"), 0o400); err != nil {
		t.Fatal(err)
	}
	before, _ := src.Stamp("credential:pay")
	if err := os.Rename(filepath.Join(dir, "next"), filepath.Join(dir, "pay")); err != nil {
		t.Fatal(err)
	}
	if after, err := src.Stamp("credential:pay"); err != nil || after == before {
		t.Error("a credential that is another has the same stamp")
	}
	for path, want := range map[string]error{
		"credential:none": fs.ErrNotExist, "credential:": ErrCredentialName, "credential:../pay": ErrCredentialName, "credential:..": ErrCredentialName,
		"env:SSLGATE_TEST_NONE": ErrUnset, "env:": ErrUnset,
	} {
		_, err := src.Read(t.Context(), path, 100, nil)
		_, serr := src.Stamp(path)
		if !errors.Is(err, want) || !errors.Is(serr, want) || src.Exists(path) {
			t.Errorf("%s: %v, %v", path, err, serr)
		}
	}
	t.Setenv(CredentialsVariable, "")
	if _, err := src.Read(t.Context(), "credential:pay", 100, nil); !errors.Is(err, ErrNoCredentials) {
		t.Error(err)
	}
	for name, want := range map[string]string{
		"a.pem": "/etc/a.pem", "/a.pem": "/a.pem", "file:a.pem": "/etc/a.pem", "file:env:a": "/etc/env:a", "file:/a": "/a", "env:a": "env:a", "credential:a": "credential:a",
	} {
		if got := Place("/etc", name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A directory that is called like a bundle is none, and a bundle may name places of its host.
func TestBundleIsOnNoDisk(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.MkdirAll(BundleDir, 0o700); err != nil {
		t.Fatal(err)
	}
	name := BundleDir + "/sslgate.yaml"
	if err := os.WriteFile(name, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if (Disk{}).Exists(name) {
		t.Errorf("%s is there", name)
	}
	if _, err := (Disk{}).Read(t.Context(), name, 100, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := (Disk{}).Stamp(name); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	o := Overlay{Bundle: Bytes{name: []byte("of the bundle")}}
	t.Setenv("SSLGATE_TEST_PLACE", "of the host")
	for path, want := range map[string]string{name: "of the bundle", "env:SSLGATE_TEST_PLACE": "of the host"} {
		if f, err := o.Read(t.Context(), path, 100, nil); err != nil || string(f.Text) != want {
			t.Errorf("%s: %q, %v", path, f.Text, err)
		}
	}
	if _, err := o.Read(t.Context(), "relative", 100, nil); err == nil {
		t.Error("a relative path is read")
	}
}
