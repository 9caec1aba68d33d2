package audit

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Where nobody has chosen how many files stay, none is removed while others beside
// it show that somebody else rotates: the file grows, which is said with what to do.
func TestRotateSparesFilesOfOthers(t *testing.T) {
	for name, c := range map[string]struct {
		beside string
		prune  bool
		spared bool
	}{
		"a higher number":      {"a.3", false, true},
		"one beyond any keep":  {"a.5000", false, true},
		"compressed":           {"a.2.gz", false, true},
		"compressed otherwise": {"a.14.zst", false, true},
		"chosen":               {"a.3.gz", true, false},
		"of another log":       {"b.9.gz", false, false},
		"no number":            {"a.x.gz", false, false},
		"a date":               {"a-20260101", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "a")
			for _, n := range []string{"a.1", "a.2", c.beside} {
				must(t, os.WriteFile(filepath.Join(dir, n), []byte("of "+n+"\n"), 0o600))
			}
			f := openFile(t, path, Rotate{Size: 10, Keep: 2, Prune: c.prune})
			put(t, f, "l0...", "l1...")
			want := map[string]string{"a": "l1...\n", "a.1": "l0...\n", "a.2": "of a.1\n", c.beside: "of " + c.beside + "\n"}
			if c.spared {
				want = map[string]string{"a": "l0...\nl1...\n", "a.1": "of a.1\n", "a.2": "of a.2\n", c.beside: "of " + c.beside + "\n"}
			}
			if d := cmp.Diff(want, shows(t, dir)); d != "" {
				t.Error(d)
			}
			if err := f.Trouble(); (err != nil) != c.spared || c.spared && !strings.Contains(err.Error(), filepath.Join(dir, c.beside)+" is there") {
				t.Errorf("trouble: %v", err)
			}
			if !c.spared {
				return
			}
			must(t, os.Remove(filepath.Join(dir, c.beside)))
			f.tried = time.Time{} // a second is over
			put(t, f, "l2...")
			if f.Trouble() != nil || content(t, path) != "l2...\n" {
				t.Errorf("not rotated again: %v, %v", f.Trouble(), shows(t, dir))
			}
		})
	}
}
