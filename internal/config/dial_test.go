package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// Who asks for connections under the clients' addresses, and what stands
// against it.
func TestClientSource(t *testing.T) {
	const tail = "policy:\n  rules:\n    - {name: b, to: [\"*:443\"], action: bypass}\n"
	const ruled = "policy:\n  rules:\n    - {name: a, to: [\"10.0.0.1:443\"], action: bypass}\n    - {name: b, to: [\"*:443\"], action: bypass, destination: {source: client}}\n"
	for name, c := range map[string]struct {
		text    string
		asked   bool
		mistake string // with its path
	}{
		"nobody":         {tail, false, ""},
		"everywhere":     {"dial: {source: client}\n" + tail, true, ""},
		"one rule":       {ruled, true, ""},
		"all but one":    {"dial: {source: client}\n" + strings.Replace(ruled, "source: client", "source: gateway", 1), true, ""},
		"misspelt":       {"dial: {source: cilent}\n" + tail, false, `dial.source: wants "gateway" or "client", not "cilent"`},
		"rule misspelt":  {strings.Replace(ruled, "source: client", "source: cilent", 1), false, "rules[1].destination.source"},
		"captured mark":  {"dial: {source: client, mark: 0x10}\n" + tail, false, "dial.mark: 0x10, or the one after it, 0x20, is capture.mark"},
		"mark before":    {"capture: {interfaces: [eth1], ports: [443], mark: 0x40}\ndial: {source: client, mark: 0x30}\n" + tail, false, "dial.mark: 0x30, or the one after it, 0x40, is"},
		"last mark":      {"dial: {mark: 0x70}\n" + tail, false, "dial.mark"},
		"captured table": {"dial: {source: client, table: 5519}\n" + tail, false, "dial.table: 5519 is capture.table"},
		"system table":   {"dial: {table: 254}\n" + tail, false, "dial.table"},
		"outside":        {"dial: {mark: 0x551a}\n" + tail, false, "dial.mark: 0x551a has bits outside of capture.mask, 0x70"},
		"unused clash":   {"dial: {mark: 0x10, table: 5519}\n" + tail, false, ""},
		"denied":         {strings.Replace(ruled, "action: bypass, destination", "action: deny, destination", 1), true, "rules[1].destination: with action deny"},
		"more at bypass": {strings.Replace(ruled, "{source: client}", "{source: client, proxy_protocol: v2}", 1), true, "rules[1].destination: with action bypass"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "sslgate.yaml")
			text := "version: 1\n" + c.text
			if !strings.HasPrefix(c.text, "capture:") {
				text = "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\n" + c.text
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			rt, found := Check(file, stdtls.New())
			if (rt != nil) != (c.mistake == "") {
				t.Fatalf("%v", found)
			}
			if rt == nil {
				for _, f := range found {
					if !f.Warning && strings.Contains(f.String(), c.mistake) {
						return
					}
				}
				t.Fatalf("%v, want %s", found, c.mistake)
			}
			if rt.Config.ClientSource() != c.asked {
				t.Errorf("asked: %v", !c.asked)
			}
		})
	}
	attach := "version: 1\ntun: {attach: true}\ncapture: {ports: [443]}\n"
	for at, text := range map[string]string{"dial.source": "dial: {source: client}\n" + tail, "policy.rules[1].destination.source": ruled} {
		file := filepath.Join(t.TempDir(), "sslgate.yaml")
		if err := os.WriteFile(file, []byte(attach+text), 0o600); err != nil {
			t.Fatal(err)
		}
		rt, found := Check(file, stdtls.New())
		if rt != nil || len(found) != 1 || found[0].Path != at || !strings.Contains(found[0].String(), "with tun.attach") {
			t.Errorf("%s: %v", at, found)
		}
	}
}
