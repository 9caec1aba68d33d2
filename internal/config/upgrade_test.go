package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// The second slot gets what nothing else has, and none where there is nothing left.
func TestSecond(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   Second
		ok     bool
	}{
		{func(*Config) {}, Second{"sslgate1", 0x40, 5521}, true},
		{func(c *Config) { c.TUN.Name = "sslgate1" }, Second{"sslgate0", 0x40, 5521}, true},
		{func(c *Config) { c.Capture.Mark, c.Dial.Mark = 0x40, 0x10 }, Second{"sslgate1", 0x30, 5521}, true},
		{func(c *Config) { c.Capture.Mask, c.Capture.Mark, c.Dial.Mark = 3, 1, 2 }, Second{"sslgate1", 0, 5521}, false},
		{func(c *Config) { c.Capture.Mask, c.Capture.Mark = 0xffffffff, 1 }, Second{"sslgate1", 2, 5521}, true},
		{func(c *Config) { c.Capture.Table, c.Dial.Table = 5522, 5521 }, Second{"sslgate1", 0x40, 5523}, true},
		{func(c *Config) { c.Upgrade.Table, c.Upgrade.Mark, c.Upgrade.TUN = 7, 0x70, "b" }, Second{"b", 0x70, 7}, true},
		{func(c *Config) { c.TUN.Attach = true }, Second{"sslgate1", 0x40, 5521}, false},
	} {
		var cfg Config
		setDefaults(&cfg)
		c.change(&cfg)
		if got, ok := cfg.Second(); got != c.want || ok != c.ok {
			t.Errorf("%+v, %v, want %+v, %v", got, ok, c.want, c.ok)
		}
	}
}

// Each mistake in section upgrade is found, and does not keep the guard away.
func TestUpgradeMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"ct_mask: 0x10":   "has 1 bits",
		"ct_mask: 0x70":   "has 3 bits",
		"tun: sslgate0":   "is tun.name",
		"tun: a/b":        "upgrade.tun",
		"mark: 0x80":      "bits outside of capture.mask",
		"mark: 0x10":      "is capture.mark",
		"mark: 0x30":      "the one after dial.mark",
		"table: 254":      "a table of the system",
		"table: 5519":     "is capture.table",
		"drain: 200h":     "at most 168h",
		"drain: 1h, x: 1": "upgrade.x",
	} {
		path := filepath.Join(t.TempDir(), "sslgate.yaml")
		text = "version: 1\ncapture: {interfaces: [eth0], ports: [443]}\nupgrade: {" + text + "}\npolicy: {rules: [{name: a, to: [\"*:443\"], action: deny}]}\n"
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, found := Check(path, stdtls.New())
		var all strings.Builder
		for _, f := range found {
			all.WriteString(f.String() + "\n")
		}
		if !strings.Contains(all.String(), want) {
			t.Errorf("%s: no %q in:\n%s", text, want, all.String())
		}
		if c, _ := LoadCapture(path); c == nil {
			t.Errorf("%s: the guard is kept away", text)
		}
	}
}
