package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// Whatever file a configuration names: a named pipe, a socket, a device or a
// directory in its place is said, and nothing is waited for.
func TestOddFilesInEveryPlace(t *testing.T) {
	sections := map[string]string{
		"roots":         "authorities: {a: {roots: ODD}}",
		"intermediates": "authorities: {a: {roots: ca.pem, intermediates: ODD}}",
		"crl":           "authorities: {a: {roots: ca.pem, crl: [ODD]}}",
		"certificate":   "identities: {i: {certificate: ODD, key: pay.key}}",
		"key":           "identities: {i: {certificate: pay.pem, key: ODD}}",
		"ocsp":          "identities: {i: {certificate: pay.pem, key: pay.key, ocsp: ODD}}",
		"issuer":        "identities: {i: {issuer: ODD, key: pay.key}}",
		"issuer key":    "identities: {i: {issuer: ca.pem, key: ODD}}",
		"set":           "policy: {rules: [], sets: {s: {file: ODD}}}",
		"tickets":       "tickets: {keys: ODD}",
		"shadow":        "shadow: ODD",
	}
	dir := t.TempDir()
	writePKI(t, dir)
	for from, to := range map[string]string{"staff-ca.pem": "ca.pem", "pay.pem": "pay.pem", "pay.key": "pay.key"} {
		text, err := os.ReadFile(filepath.Join(dir, from))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mknod(filepath.Join(dir, "socket"), unix.S_IFSOCK|0o600, 0); err != nil {
		t.Fatal(err)
	}
	for place, section := range sections {
		for odd, want := range map[string]string{"pipe": "a named pipe", "socket": "a socket", "/dev/zero": "a device", ".": "a directory"} {
			text := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\n" + strings.Replace(section, "ODD", odd, 1) + "\n"
			if !strings.Contains(section, "policy:") {
				text += "policy: {rules: []}\n"
			}
			file := filepath.Join(dir, "sslgate.yaml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			found := make(chan Findings, 1)
			go func() {
				_, all := Check(file, stdtls.New())
				found <- all
			}()
			select {
			case all := <-found:
				if got := all.Error(); !strings.Contains(got, "is not a regular file, it is "+want) {
					t.Errorf("%s, %s: %s", place, odd, got)
				}
			case <-time.After(time.Minute):
				t.Fatalf("%s, %s: the check waits", place, odd)
			}
		}
	}
}
