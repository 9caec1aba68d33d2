package bogo

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// By name: what crypto/tls passes and the native engine does not is an error, unless it is
// left out for a reason.
func TestCompare(t *testing.T) {
	dir := t.TempDir()
	file := func(name, tests string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(`{"tests": {`+tests+`}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	std := file("std", `"A": {"actual": "PASS"}, "B": {"actual": "PASS"}, "CheckRecordVersion-TLS13": {"actual": "PASS"}, "D": {"actual": "FAIL"}`)
	for native, want := range map[string]string{
		`"A": {"actual": "PASS"}, "B": {"actual": "SKIP"}`: "",
		`"A": {"actual": "PASS"}, "B": {"actual": "FAIL"}`: "does not: B",
		`"B": {"actual": "PASS"}`:                          "does not: A",
	} {
		var out, errs bytes.Buffer
		code := Run(t.Context(), []string{"-compare", std, file("native", native)}, &out, &errs)
		if (code == exitOK) != (want == "") || !strings.Contains(out.String(), want) || !strings.Contains(out.String(), "leaves out 1: the minor version of a record") || errs.Len() > 0 {
			t.Errorf("%s: %d\n%s%s", native, code, out.String(), errs.String())
		}
	}
	if code := Run(t.Context(), []string{"-compare", std, filepath.Join(dir, "nowhere")}, &bytes.Buffer{}, &bytes.Buffer{}); code != exitFailed {
		t.Errorf("no file: %d", code)
	}
}
