package config

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLoadCapture(t *testing.T) {
	const good = "version: 1\ncapture: {interfaces: [eth1], ports: [443], exempt: [eth0]}\n"
	for _, c := range []struct {
		name, text string
		usable     bool
		findings   bool
	}{
		{"good", good + "policy: {rules: []}\n", true, false},
		{"no policy", good, true, true},
		{"mistake in a rule", good + "policy: {rulez: []}\n", true, true},
		{"missing certificate", good + "policy: {rules: []}\nidentities: {x: {certificate: none.pem, key: none.key}}\n", true, false},
		{"mistake in capture", "version: 1\ncapture: {interfaces: [eth1], ports: [443], mark: 0}\npolicy: {rules: []}\n", false, true},
		{"captured and exempt", "version: 1\ncapture: {interfaces: [eth1], ports: [443], exempt: [eth1]}\npolicy: {rules: []}\n", false, true},
		{"protocols", "version: 1\ncapture: {interfaces: [eth1], ports: [443], protocols: [50, 4, 255]}\npolicy: {rules: []}\n", true, false},
		{"TCP uninspected", "version: 1\ncapture: {interfaces: [eth1], ports: [443], protocols: [50, 6]}\npolicy: {rules: []}\n", false, true},
		{"UDP twice", "version: 1\ncapture: {interfaces: [eth1], ports: [443], protocols: [17]}\npolicy: {rules: []}\n", false, true},
		{"an extension header", "version: 1\ncapture: {interfaces: [eth1], ports: [443], protocols: [44]}\npolicy: {rules: []}\n", false, true},
		{"no protocol", "version: 1\ncapture: {interfaces: [eth1], ports: [443], protocols: [256]}\npolicy: {rules: []}\n", false, true},
		{"negative", "version: 1\ncapture: {interfaces: [eth1], ports: [443], protocols: [-1]}\npolicy: {rules: []}\n", false, true},
		{"protocol twice", "version: 1\ncapture: {interfaces: [eth1], ports: [443], protocols: [50, 50]}\npolicy: {rules: []}\n", false, true},
		{"exempt twice", "version: 1\ncapture: {interfaces: [eth1], ports: [443], exempt: [eth0, eth0]}\npolicy: {rules: []}\n", false, true},
		{"exempt is the TUN", "version: 1\ncapture: {interfaces: [eth1], ports: [443], exempt: [sslgate0]}\npolicy: {rules: []}\n", false, true},
		{"mistake in tun", good + "tun: {name: a/b}\n", false, true},
		{"misspelt capture", "version: 1\ncaptur: {interfaces: [eth1], ports: [443]}\npolicy: {rules: []}\n", false, true},
		{"misspelt tun", good + "tnu: {name: t0}\npolicy: {rules: []}\n", false, true},
		{"capture twice", good + "capture: {interfaces: [eth2], ports: [443]}\npolicy: {rules: []}\n", false, true},
		{"no YAML", "version: [\n", false, true},
		{"mistake in dial", good + "dial: {source: cilent}\npolicy: {rules: []}\n", true, true},
		{"misspelt in dial", good + "dial: {sorce: client}\npolicy: {rules: []}\n", true, true},
		{"another version", "version: 2\ncapture: {interfaces: [eth1], ports: [443]}\npolicy: {rules: []}\n", false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "sslgate.yaml")
			if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg, found := LoadCapture(file)
			if (cfg != nil) != c.usable || Failed(found) != c.findings {
				t.Errorf("config %v, findings %v", cfg != nil, found)
			}
		})
	}
	// The answers' mark is that of captured packets: no guard would be possible
	// with it, so it is left out.
	file := filepath.Join(t.TempDir(), "sslgate.yaml")
	if err := os.WriteFile(file, []byte(good+"dial: {source: client, mark: 0x10}\npolicy: {rules: []}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if cfg, _ := LoadCapture(file); cfg == nil || cfg.ClientSource() {
		t.Error("the mistake in section dial stands in the way of the guard")
	}
	if cfg, found := LoadCapture(filepath.Join(t.TempDir(), "none.yaml")); cfg != nil || !Failed(found) {
		t.Error("a missing file was loaded")
	}
}
