package policy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// policy is pure: what it decides follows from its arguments alone, so that a
// decision can be asked for again (explain, tests of policies) and gets the
// same answer.
func TestPure(t *testing.T) {
	banned := map[string]string{
		"os": "files are read by internal/config and internal/pki", "os/exec": "no programs", "io/ioutil": "no files",
		"net": "addresses are net/netip; sockets belong to the gateway", "net/http": "no sockets", "syscall": "no kernel",
		"math/rand": "a decision is no lottery", "math/rand/v2": "a decision is no lottery", "crypto/rand": "a decision is no lottery",
		"unsafe": "no need",
	}
	clock := map[string]bool{"Now": true, "Since": true, "Until": true, "After": true, "AfterFunc": true, "Tick": true, "NewTimer": true, "NewTicker": true, "Sleep": true}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		seen++
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, imp := range file.Imports {
			path, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if why, bad := banned[path]; bad {
				t.Errorf("%s imports %s: %s", name, path, why)
			}
			if strings.HasPrefix(path, "github.com/sslgate/sslgate/") &&
				!strings.HasSuffix(path, "/handshake") && !strings.HasSuffix(path, "/internal/reason") && !strings.HasSuffix(path, "/internal/fielderr") && !strings.HasSuffix(path, "/internal/certname") && !strings.HasSuffix(path, "/internal/times") && !strings.HasSuffix(path, "/internal/identity") && !strings.HasSuffix(path, "/internal/keykind") && !strings.HasSuffix(path, "/policy/pattern") && !strings.HasSuffix(path, "/internal/ja4") && !strings.HasSuffix(path, "/internal/upgrade") {
				t.Errorf("%s imports %s: policy knows the nouns of handshake, sources of identities, names and their patterns, kinds of keys, fingerprints of hellos, dialogues before TLS, arithmetic of times, and nothing else of the house", name, path)
			}
			if path == "time" && imp.Name != nil {
				t.Errorf("%s renames the import of time: the check below would not see it", name)
			}
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && clock[sel.Sel.Name] {
				if pkg, ok := sel.X.(*ast.Ident); ok && pkg.Name == "time" {
					t.Errorf("%s: time.%s: time comes in as Facts.Now", fset.Position(n.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
	if seen < 5 {
		t.Fatalf("only %d files seen: the test looks in the wrong place", seen)
	}
}
