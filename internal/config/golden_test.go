package config

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

// goldenDir makes the test's directory one with the PKI and, where the golden
// files are, returns the path of that.
func goldenDir(t *testing.T) string {
	t.Helper()
	golden, err := filepath.Abs("testdata/bad")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	writePKI(t, dir)
	t.Chdir(dir)
	return golden
}

// TestBad: every file of testdata/bad has something wrong, and the .txt of its
// name says what is to be seen. -update writes them.
func TestBad(t *testing.T) {
	golden := goldenDir(t)
	files, err := filepath.Glob(filepath.Join(golden, "*.yaml"))
	if err != nil || len(files) < 50 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			rt, found := build(parse(name+".yaml", text), stdtls.New(), testNow)
			var got bytes.Buffer
			for _, f := range found {
				got.WriteString(f.Format(false))
			}
			if len(found) == 0 || (rt == nil) != Failed(found) {
				t.Errorf("%d findings, failed: %t, Runtime: %t", len(found), Failed(found), rt != nil)
			}
			want := filepath.Join(golden, name+".txt")
			if *update {
				if err := os.WriteFile(want, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			expected, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(expected), got.String()); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}
