package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestWalksExist holds the walks of docs/architecture.md against the code: each
// file:function that is written there exists.
func TestWalksExist(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "architecture.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Four walks through the code\n")
	section, _, ends := strings.Cut(section, "\n## ")
	if !found || !ends {
		t.Fatal("docs/architecture.md has no section \"Four walks through the code\"")
	}
	walks := 0
	for walk := range strings.SplitSeq(section, "\n**") {
		steps := regexp.MustCompile("`([a-zA-Z0-9_/]+\\.go):([A-Za-z0-9_]+)`").FindAllStringSubmatch(walk, -1)
		if len(steps) == 0 {
			continue
		}
		walks++
		if len(steps) < 5 {
			t.Errorf("a walk of %d steps: %.60s", len(steps), walk)
		}
		for _, s := range steps {
			if !declares(t, filepath.Join(root, s[1]), s[2]) {
				t.Errorf("%s has no function %s: mend docs/architecture.md", s[1], s[2])
			}
		}
	}
	if walks != 4 {
		t.Errorf("%d walks, want 4: of a packet, a hello, a key and a record", walks)
	}
}

// TestEngineWalkExists does the same for docs/engine.md.
func TestEngineWalkExists(t *testing.T) {
	root := filepath.Join("..", "..")
	text, err := os.ReadFile(filepath.Join(root, "docs", "engine.md"))
	if err != nil {
		t.Fatal(err)
	}
	steps := regexp.MustCompile("`([a-zA-Z0-9_/]+\\.go):([A-Za-z0-9_]+)`").FindAllStringSubmatch(string(text), -1)
	if len(steps) < 15 {
		t.Errorf("a walk of %d steps", len(steps))
	}
	for _, s := range steps {
		if !declares(t, filepath.Join(root, s[1]), s[2]) {
			t.Errorf("%s has no function %s: mend docs/engine.md", s[1], s[2])
		}
	}
}

// declares says whether the file has a function or method of this name.
func declares(t *testing.T, file, name string) bool {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Error(err)
		return false
	}
	for _, d := range parsed.Decls {
		if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == name {
			return true
		}
	}
	return false
}
