package archtest

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Only the flow itself walks through the moments of a policy. Code that already has the facts
// asks policy.Set.Redecide, which verifies them again. A walk of its own would trust what
// another policy has verified.
func TestOneWalkOfThePolicy(t *testing.T) {
	root := filepath.Join("..", "..")
	walks := map[string]bool{"internal/gateway/inforce.go": true, "internal/service/scrape.go": true}
	seen := 0
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if strings.HasPrefix(name, "policy"+string(filepath.Separator)) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if strings.Contains(string(text), ".OnPeer(") {
			seen++
			if !walks[filepath.ToSlash(name)] {
				t.Errorf("%s asks OnPeer: who decides by facts that are known asks policy.Set.Redecide", name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if seen != len(walks) {
		t.Errorf("%d files walk, the list has %d", seen, len(walks))
	}
}
