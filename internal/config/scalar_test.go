package config

import (
	"testing"
	"time"
)

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"10s": 10 * time.Second, "500ms": 500 * time.Millisecond, "1h30m": 90 * time.Minute} {
		if d, err := parseDuration(text); err != nil || d.Std() != want {
			t.Errorf("%s: %s, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "10", "-1s", "0s", "1d", "s", "1e3", "10 s", "999999999999h", "nan", "0x1p4"} {
		if d, err := parseDuration(text); err == nil || d != 0 {
			t.Errorf("%q was taken as %s", text, d)
		}
	}
}

func TestSize(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "0KiB": 0, "1": 1, "512B": 512, "64KiB": 65536, "64 KiB": 65536, "1MiB": 1 << 20, "2GiB": 2 << 30} {
		if s, err := parseSize(text); err != nil || s != want {
			t.Errorf("%s: %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"", "KiB", "64KB", "64kib", "64K", "-1", "-0", "1.5MiB", "9223372036854775807KiB", "1_000", "0x10", "1 0"} {
		if s, err := parseSize(text); err == nil || s != 0 {
			t.Errorf("%q was taken as %d", text, s)
		}
	}
	for s, want := range map[Size]string{0: "0", 1: "1", 1000: "1000", 1024: "1KiB", 65536: "64KiB", 1 << 20: "1MiB", 3 << 30: "3GiB"} {
		if s.String() != want {
			t.Errorf("%d is written %s", int64(s), s)
		}
		if back, err := parseSize(s.String()); err != nil || back != s {
			t.Errorf("%s is read as %d, %v", s, back, err)
		}
	}
}

func TestInt(t *testing.T) {
	for text, want := range map[string]int64{"0": 0, "1": 1, "-5": -5, "0x5519": 0x5519, "0xFF": 255, "9223372036854775807": 1<<63 - 1} {
		if n, err := parseInt(text); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "01", "0o7", "0b1", "1_0", "1.0", "1e3", "+1", "0x", "9223372036854775808", "one"} {
		if n, err := parseInt(text); err == nil || n != 0 {
			t.Errorf("%q was taken as %d", text, n)
		}
	}
}

func TestPorts(t *testing.T) {
	some, all := Ports{List: []uint16{443, 8443}}, Ports{All: true}
	if !some.Contains(443) || some.Contains(80) || !all.Contains(80) || all.Contains(0) || (Ports{}).Contains(443) {
		t.Error("wrong ports are captured")
	}
}
