package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/doctor"
)

// Findings are told with what mends them, and ask for exit code 1; what comes
// from files cannot move the cursor.
func TestDoctorPrints(t *testing.T) {
	found := []doctor.Finding{
		{Check: "tun", Level: doctor.Good, Text: "opens"},
		{Check: "config", Level: doctor.Warn, Text: "x\x1b[31m", Fix: "mend it"},
	}
	var b bytes.Buffer
	if err := printFindings(&b, found, false); err != nil {
		t.Fatal(err)
	}
	want := "ok    tun           opens\nwarn  config        x\\x1b[31m\n                    mend it\n1 finding\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	if err := printFindings(&b, found, true); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	var m map[string]string
	if err := json.Unmarshal([]byte(lines[1]), &m); err != nil || len(lines) != 2 {
		t.Fatalf("%v in %q", err, b.String())
	}
	if m["check"] != "config" || m["level"] != "warn" || m["fix"] != "mend it" {
		t.Errorf("%v", m)
	}
}

// A configuration with mistakes is a finding, not a wrong usage; wrong flags are.
func TestDoctorExitCodes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.yaml")
	if err := os.WriteFile(file, []byte("version: 7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"doctor", "-c", file}, nil, &out, &errs); code != 1 || !strings.Contains(out.String(), "this sslgate reads version 1") {
		t.Errorf("code %d\n%s%s", code, out.String(), errs.String())
	}
	if !strings.Contains(out.String(), "sslgate check -c "+file) {
		t.Errorf("no command that tells more:\n%s", out.String())
	}
	if code := run(t.Context(), []string{"doctor", "--nonsense"}, nil, &out, &errs); code != 2 {
		t.Errorf("wrong usage: code %d", code)
	}
}
