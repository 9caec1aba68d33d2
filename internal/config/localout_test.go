package config

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// Each spelling of capture.local, and what it means.
func TestLocalSpellings(t *testing.T) {
	for local, want := range map[string]struct{ in, out bool }{
		"":                                 {true, false},
		"local: capture":                   {true, false},
		"local: drop":                      {false, false},
		"local: {in: true}":                {true, false},
		"local: {in: false}":               {false, false},
		"local: {out: true}":               {true, true},
		"local: {in: true, out: true}":     {true, true},
		"local: {in: false, out: true}":    {false, true},
		"local: {out: false}":              {true, false},
		"local: {out: {users: [0, 1000]}}": {true, true},
	} {
		f := parse("sslgate.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443], "+local+"}\npolicy: {rules: []}\n"))
		if Failed(f.findings) || f.Config.CapturesLocal() != want.in || f.Config.CapturesOut() != want.out {
			t.Errorf("%s: in %t, out %t, %v", local, f.Config.CapturesLocal(), f.Config.CapturesOut(), f.findings)
		}
		if mark := f.Config.OwnMark(); want.out && mark != 0x50 || !want.out && mark != 0 {
			t.Errorf("%s: mark %#x", local, mark)
		}
	}
}

func TestLocalOutChecked(t *testing.T) {
	for capture, want := range map[string]string{
		"local: {out: {users: [1000], except_users: [0], groups: [5], ports: [443], to: [10.0.0.0/8, \"fd00::1\"]}}": "",
		"local: {out: {mark: 0x60}}":                                     "",
		"local: yes please":                                              "wants keys (in, out)",
		"local: {out: everything}":                                       "wants keys (users, groups, except_users, ports, to, ...)",
		"local: {out: {users: [root]}}":                                  "wants a whole number",
		"local: {out: {users: [-1]}}":                                    "-1 is out of range",
		"local: {out: {users: [4294967295]}}":                            "4294967295 is out of range",
		"local: {out: {groups: [5, 5]}}":                                 "5 is listed twice",
		"local: {out: {users: [5], except_users: [5]}}":                  "5 is in users too",
		"local: {out: {ports: [80]}}":                                    "port 80 is not in capture.ports",
		"local: {out: {to: [example.com]}}":                              "is no address and no network",
		"local: {out: {to: [10.1.2.3/8]}}":                               "write 10.0.0.0/8",
		"local: {out: {to: [\"::ffff:10.0.0.1\"]}}":                      "IPv4 as such",
		"local: {out: {mark: 0x80}}":                                     "has bits outside of capture.mask",
		"local: {out: {mark: 0x20}}":                                     "0x20 is capture.mark, dial.mark",
		"local: {out: true}, mask: 0x30":                                 "has no number left",
		"local: {out: {users: []}}":                                      "an empty list says nothing",
		"local: {out: {to: [" + strings.Repeat("10.0.0.1, ", 65) + "]}}": "at most 64",
	} {
		f := parse("sslgate.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443], "+capture+"}\npolicy: {rules: []}\n"))
		text := Findings(f.findings).Error()
		if want == "" && Failed(f.findings) || want != "" && !strings.Contains(text, want) {
			t.Errorf("%s: %s, want %q", capture, text, want)
		}
	}
	if f := parse("sslgate.yaml", []byte("version: 1\ntun: {name: t0, attach: true}\ncapture: {ports: [443], local: {out: true}}\npolicy: {rules: []}\n")); !Failed(f.findings) {
		t.Error("with tun.attach nothing is captured of programs, and nobody is told")
	}
	f := parse("sslgate.yaml", []byte("version: 1\ncapture: {ports: [443], local: {out: {to: [10.0.0.1, \"fd00::/8\"]}}}\npolicy: {rules: []}\n"))
	if Failed(f.findings) {
		t.Errorf("programs of this host alone: %v", f.findings)
	}
	if to := f.Config.Capture.Local.Out.OutTo(); !slices.Equal(to, []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::/8")}) {
		t.Errorf("to: %v", to)
	}
}

// The marks are never the same, whichever of them are written.
func TestOwnMarkIsItsOwn(t *testing.T) {
	for _, more := range []string{"", "upgrade: {mark: 0x50}", "upgrade: {mark: 0x70}", "dial: {mark: 0x40}"} {
		for _, out := range []string{"true", "{mark: 0x40}", "{mark: 0x60}"} {
			if strings.Contains(more, "dial") && strings.Contains(out, "0x40") {
				continue
			}
			f := parse("sslgate.yaml", []byte("version: 1\ncapture: {interfaces: [eth1], ports: [443], local: {out: "+out+"}}\npolicy: {rules: []}\n"+more+"\n"))
			c := &f.Config
			second, ok := c.Second()
			all := []uint32{c.Capture.Mark, c.Dial.Mark, c.DialSocketMark(), second.Mark, c.OwnMark()}
			sorted := slices.Compact(slices.Sorted(slices.Values(all)))
			if Failed(f.findings) || !ok || len(sorted) != len(all) || sorted[0] == 0 {
				t.Errorf("%s, %s: marks %#x, %v", more, out, all, f.findings)
			}
		}
	}
}
