package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParse: whatever a file holds, Parse returns. An error means no File and
// at least one finding that stops `run`; every finding and every place lies
// within the text; the same text gives the same values.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/bad/*.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(files, err)
	}
	for _, file := range append(files, "../../docs/examples/gateway.yaml") {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, "policy.rules[0].to[0]")
	}
	for _, s := range []string{
		head, "", "\xef\xbb\xbf" + head, strings.ReplaceAll(head, "\n", "\r\n"), "a: &x [*x]\nb: *x\n", "? a\n: b\n", "[", "{a: [b", "- - - a", ">", "a: |\n\n\n",
		"a: >2\n    x\n", "%YAML 1.2\n---\n", "--- a\n...\n--- b\n", "!!set {a}", "a: !b &c d", "\"\\u0000\": 1", "'a\n\n b': c", "<<: *a", "&a a: *a", "*a : b",
		"tun: {mtu: 0x1p4}", "version: .inf\n", "version: !!int 1\n", "version: ~\n", "version: 1 # \u0085\n", "ä: ö\n", "\t", "a:\t1", "a: 1\n\tb: 2",
		"policy: {rules: [{name: a, to: [b]}, &r {name: c}, *r]}\n", "capture: {ports: [1, &p 2, *p]}\n", "limits: {hello: |\n 64KiB\n}\n", "log:\n  level: >-\n\n    info\n",
		"authorities: {\"a\\\"b\": {roots: x}, 1: {roots: y}, true: {roots: z}}\n",
	} {
		f.Add([]byte(s), `authorities["a"].roots`)
	}
	f.Fuzz(func(t *testing.T, text []byte, path string) {
		file, err := Parse("fuzz.yaml", text)
		if len(text) > maxFile {
			if file != nil || err == nil {
				t.Fatal("too large, and taken")
			}
			return
		}
		lines := strings.Split(string(normalize(text)), "\n")
		within := func(x Finding) {
			if !printable(x.Msg) {
				t.Fatalf("not fit for a terminal: %q", x.Msg)
			}
			if x.Line < 1 || x.Line > len(lines) || x.Col < 1 || x.Col > utf8.RuneCountInString(lines[x.Line-1])+1 {
				t.Fatalf("outside of the file: %s", x)
			}
			if shown := x.Format(true); !utf8.ValidString(x.Excerpt) || strings.Count(x.Excerpt, "\n") != 1 || strings.Contains(strings.ReplaceAll(x.Excerpt, "\n", ""), "\x1b") || !strings.HasSuffix(shown, "\n") {
				t.Fatalf("not fit to be shown: %q", shown)
			}
		}
		if err != nil {
			var fs Findings
			if file != nil || !errors.As(err, &fs) || !Failed(fs) {
				t.Fatalf("%v, %v", file, err)
			}
			for _, x := range fs {
				within(x)
			}
			return
		}
		within(file.Finding(path, "msg"))
		for p, at := range file.places {
			if at.line < 1 || at.col < 1 || at.width < 1 {
				t.Fatalf("%s: no place %+v", p, at)
			}
			within(file.Finding(p, "msg"))
		}
		again, err := Parse("fuzz.yaml", text)
		if err != nil || !reflect.DeepEqual(again.Config, file.Config) {
			t.Fatalf("not the same twice: %v", err)
		}
	})
}

// FuzzPath: a path from another package is never too odd to be located, and
// its canonical form is stable.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"a.b[0]", `a["b c"].d`, `a["b"]`, "", ".", "..a", "[", "[]", `["`, `["a"`, `["a"]x`, "a]", "\xff", `["\xff"]`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		once := joinSegments(segments(path))
		if twice := joinSegments(segments(once)); twice != once {
			t.Errorf("%q became %q, then %q", path, once, twice)
		}
		if !within(path, once) {
			t.Errorf("%q is not within itself", path)
		}
	})
}
