package service

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/testpki"
)

// A change of any kind to a file that is in use, or that a refused configuration
// names, changes the stamps: that it comes, its mode, another in its place, what a
// link leads to.
func TestStampsSeeEveryChange(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, text string) {
		if err := os.WriteFile(at(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("gate.yaml", "version: 1\nauthorities: {staff: {roots: ca.pem}}\nidentities: {pay: {certificate: new.pem, key: new.key}}\n")
	write("ca.pem", "x")
	write("other.pem", "y")
	s := &Service{rt: &config.Runtime{Files: []string{at("gate.yaml")}}, wanted: testpki.Must(config.CheckWithin(t.Context(), nil, at("gate.yaml"), handshake.NewStdEngine())).Named}
	for _, name := range []string{"ca.pem", "new.pem", "new.key"} {
		if !slices.Contains(s.wanted, at(name)) {
			t.Errorf("%s is not looked at: %q", name, s.wanted)
		}
	}
	seen := s.stamps()
	for _, c := range []struct {
		name   string
		change func() error
	}{
		{"a file comes", func() error { write("new.pem", "a"); return nil }},
		{"a link comes", func() error { return os.Symlink(at("ca.pem"), at("new.key")) }},
		{"a mode", func() error { return os.Chmod(at("ca.pem"), 0o640) }},
		{"another in its place", func() error { return os.Rename(at("other.pem"), at("new.pem")) }},
		{"a file goes", func() error { return os.Remove(at("new.pem")) }},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		now := s.stamps()
		if now == seen {
			t.Errorf("%s: not seen", c.name)
		}
		if seen = now; seen != s.stamps() {
			t.Errorf("%s: seen twice", c.name)
		}
	}
}
