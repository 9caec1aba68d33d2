// Package testenv says what a test needs of the machine. If that is missing, the test is
// skipped with the reason; under CI=true it fails, because there everything must run.
package testenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Missing skips the test, or fails it under CI=true, with what the machine
// does not have.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("under CI=true nothing may be skipped: "+format, args...)
	}
	t.Skipf(format, args...)
}

// Root skips unless the test runs as root. It also skips with go test -short: no quick test
// needs root.
func Root(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs root: runs without -short")
	}
	if os.Geteuid() != 0 {
		Missing(t, "needs root: run scripts/test as root")
	}
}

// TUN skips unless the test runs as root and /dev/net/tun can be opened.
func TUN(t testing.TB) {
	t.Helper()
	Root(t)
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		Missing(t, "needs the TUN driver: %v", err)
		return
	}
	_ = f.Close()
}

// Tool skips unless the program is installed, and returns its path.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, "needs %s: run scripts/test, it installs what the tests need", name)
	}
	return path
}

// Node26 skips unless scripts/deps has fetched Node 26, and returns its path: its OpenSSL
// 3.5 knows ML-KEM-1024 and ML-DSA.
func Node26(t testing.TB) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		Missing(t, "no place for Node 26: %v", err)
	}
	path := filepath.Join(cache, "sslgate-test", "node-26.12.1")
	if _, err := os.Stat(path); err != nil {
		Missing(t, "needs Node 26: run scripts/test, it fetches it: %v", err)
	}
	return path
}

// Slow skips a test that takes seconds if only the quick ones are wanted (go test -short,
// scripts/test
// --quick). The full run never skips it.
func Slow(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long: runs without -short")
	}
}
