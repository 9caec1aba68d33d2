package service

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
)

// A process takes over from another one only if each knows the other's connections: those
// of programs stay captured, and sslgate's own are not.
func TestAgreeOnPrograms(t *testing.T) {
	load := func(local string) *config.Config {
		file := filepath.Join(t.TempDir(), "sslgate.yaml")
		if err := os.WriteFile(file, []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443], "+local+"}\npolicy: {rules: []}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := config.Load(file)
		if err != nil {
			t.Fatal(err)
		}
		return &f.Config
	}
	for _, c := range []struct{ older, newer, want string }{
		{"local: {out: true}", "local: {out: true}", ""},
		{"local: {out: {users: [5]}}", "local: {out: {users: [6], ports: [443]}}", "chooses other connections"},
		{"local: {out: {users: [5]}}", "local: {out: {users: [5]}}", ""},
		{"local: capture", "local: {in: true}", ""},
		{"local: {out: true}", "local: {in: true}", "capture.local.out is gone"},
		{"local: {in: true}", "local: {in: false}", "capture.local.in is no longer true"},
		{"local: {in: true}", "local: {out: true}", "own connections have no mark"},
		{"local: {out: true}", "local: {out: {mark: 0x60}}", "another than capture.local.out.mark"},
	} {
		sc := SteerConfig(load(c.older))
		terms := admin.Terms{
			TUN: sc.TUN, Interfaces: sc.Interfaces, Ports: sc.Ports, Local: sc.Local, Mask: sc.Mask, CTMask: sc.CTMask, Preference: sc.Preference,
			Mark: sc.Mark, Table: sc.Table, ReturnMark: sc.ReturnMark, ReturnTable: sc.ReturnTable,
		}
		if sc.Out != nil {
			terms.LocalOut, terms.OwnMark, terms.Programs = true, sc.Out.OwnMark, programs(sc.Out)
		}
		err := agree(load(c.newer), &terms)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s, then %s: %v, want %q", c.older, c.newer, err, c.want)
		}
	}
}
