package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// Marks of well-known programs are kept off: the defaults have none of their
// bits, and a mask that has is warned of with their names.
func TestMarkOwners(t *testing.T) {
	for _, o := range markOwners {
		if o.bits&DefaultMask != 0 {
			t.Errorf("the default mask %#x has bits of %s, %#x", DefaultMask, o.name, o.bits)
		}
	}
	for capture, want := range map[string][]string{
		"":                                   nil,
		"mask: 0x70":                         nil,
		"mask: 0xf":                          {"dial.mark", "capture.mark: 0x10 has bits outside of capture.mask"},
		"mask: 0xf0":                         {"warning", "AWS VPC CNI"},
		"mask: 0x70000000":                   {"capture.mark: 0x10 has bits outside of capture.mask, 0x70000000"},
		"mark: 0x5519":                       {"capture.mark: 0x5519 has bits outside of capture.mask, 0x70"},
		"mark: 0x5519, mask: 0xffffffff":     {"warning", "kube-proxy", "Tailscale", "mwan3", "Calico", "Cilium", "netavark"},
		"mark: 0x10000000, mask: 0xf0000010": {"warning", "Calico"},
		"mask: 0x4030":                       {"warning", "kube-proxy"},
		"mask: 0":                            {"capture.mark: 0x10 has bits outside"},
	} {
		file := filepath.Join(t.TempDir(), "sslgate.yaml")
		if capture != "" {
			capture = ", " + capture
		}
		text := "version: 1\ncapture: {interfaces: [eth1], ports: [443]" + capture + "}\npolicy:\n  rules:\n    - {name: b, to: [\"*:443\"], action: bypass}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, found := Check(file, stdtls.New())
		var all strings.Builder
		for _, f := range found {
			if strings.Contains(f.Path, "mark") || strings.Contains(f.Path, "mask") {
				all.WriteString(f.String() + "\n")
			}
		}
		for _, w := range want {
			if !strings.Contains(all.String(), w) {
				t.Errorf("%s: %q, want %q", capture, all.String(), w)
			}
		}
		if want == nil && all.Len() > 0 {
			t.Errorf("%s: %s", capture, all.String())
		}
	}
}
