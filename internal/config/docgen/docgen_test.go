package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestConfigPageIsCurrent(t *testing.T) {
	if err := run([]string{"-check"}, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
}

func TestPageNamesEveryKey(t *testing.T) {
	root, err := moduleRoot()
	if err != nil {
		t.Fatal(err)
	}
	text, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, want := range []string{
		"## capture\n", "| `ports` | ports |", "## policy.rules[]\n", "| `san_uri` | list of texts |",
		"## authorities.NAME.permits\n", "[profiles.NAME](#profilesname)", "| `min_rsa_bits` | number |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	for _, line := range strings.Split(page, "\n") {
		if strings.HasPrefix(line, "| `") && strings.Count(strings.ReplaceAll(line, `\|`, ""), "|") != 4 {
			t.Errorf("a table row without three cells: %s", line)
		}
	}
}

func TestFieldWithoutComment(t *testing.T) {
	dir := t.TempDir()
	for _, s := range sources {
		file := filepath.Join(dir, filepath.FromSlash(s.file))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		src := "package x\n\ntype Config struct {\n\tA string `yaml:\"a\"`\n}\n"
		if err := os.WriteFile(file, []byte(src), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := generate(dir); err == nil || !strings.Contains(err.Error(), "comment") {
		t.Fatalf("a field without a comment was taken: %v", err)
	}
}
