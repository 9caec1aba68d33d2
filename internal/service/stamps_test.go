package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/fileset"
	"github.com/sslgate/sslgate/internal/lab/testpki"
	"github.com/sslgate/sslgate/internal/memory"
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
	s := &Service{rt: &config.Runtime{Config: &config.Config{}, Source: fileset.Disk{}, Files: []string{at("gate.yaml")}}, wanted: testpki.Must(config.CheckWithin(t.Context(), nil, fileset.Disk{}, at("gate.yaml"), stdtls.New())).Named}
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

// A reload for which there was no room or no time is tried again, less and less
// often, until one ends otherwise; a change of a file is not waited for.
func TestReloadIsTriedAgain(t *testing.T) {
	now := time.Now()
	l := looks{seen: "a"}
	at := func(after time.Duration, stamps, want string) {
		t.Helper()
		if got := l.why(now.Add(after), stamps); !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s later, %s: %q, want %q", after, stamps, got, want)
		}
	}
	at(time.Hour, "a", "")
	at(0, "b", "has changed")
	l.after(now, errors.New("a mistake in it"))
	at(time.Hour, "b", "")
	for i, err := range []error{
		fmt.Errorf("refused: %w", memory.ErrNoRoom), fmt.Errorf("too slow (%w)", context.DeadlineExceeded), memory.ErrNoRoom,
	} {
		l.after(now, err)
		at(retryFirst<<i-1, "b", "")
		at(retryFirst<<i, "b", "tried again")
	}
	at(0, "c", "has changed")
	for range 20 {
		l.after(now, memory.ErrNoRoom)
	}
	at(retryMost-1, "c", "")
	at(retryMost, "c", "tried again")
	l.after(now, nil)
	at(24*time.Hour, "c", "")
	l.after(now, memory.ErrNoRoom)
	at(retryFirst, "c", "tried again")
}
