package archtest

import (
	"bytes"
	_ "embed"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// allowed lists what each package may import from this module and from others. The standard
// library is free except for the bans. A new import must be added there first, so that a
// review sees the change of the structure.
//
//go:embed testdata/imports.txt
var allowed string

// allowedImports reads it: "package:", then lines that begin with a tab.
func allowedImports(t *testing.T) map[string][]string {
	t.Helper()
	all := make(map[string][]string)
	var of string
	for line := range strings.Lines(allowed) {
		line = strings.TrimRight(line, "\n")
		if imports, ok := strings.CutPrefix(line, "\t"); ok && of != "" {
			all[of] = append(all[of], strings.Fields(imports)...)
			continue
		}
		name, ok := strings.CutSuffix(line, ":")
		if !ok || all[name] != nil {
			t.Fatalf("testdata/imports.txt: cannot read %q", line)
		}
		of, all[name] = name, []string{}
	}
	return all
}

func TestImportsAreAllowed(t *testing.T) {
	lists := allowedImports(t)
	for _, p := range packages(t) {
		self := strings.TrimPrefix(p.ImportPath, module)
		list, known := lists[self]
		if !known {
			t.Errorf("%s is not in testdata/imports.txt", self)
			continue
		}
		delete(lists, self)
		used := make(map[string]bool)
		for _, imp := range p.Imports {
			own, ours := strings.CutPrefix(imp, module)
			if first, _, _ := strings.Cut(imp, "/"); !ours && !strings.Contains(first, ".") {
				continue // the standard library
			}
			i := slices.IndexFunc(list, func(a string) bool {
				return ours && a == own || !ours && covers(a+"/...", imp)
			})
			if i < 0 {
				t.Errorf("%s imports %s, which testdata/imports.txt does not allow", self, own)
				continue
			}
			used[list[i]] = true
		}
		for _, a := range list {
			if !used[a] {
				t.Errorf("%s does not import %s: take it out of testdata/imports.txt", self, a)
			}
		}
	}
	for name := range lists {
		t.Errorf("testdata/imports.txt lists %s, which does not exist", name)
	}
}

// Bounds of a package without its tests: a larger one is several packages.
const (
	maxFiles  = 35
	maxLines  = 5500
	maxFamily = 4 // files whose names begin with that of one of them
)

// larger are the packages that were judged better whole, with bounds of their own.
var larger = map[string]struct {
	files, lines int
	families     []string
	why          string
}{
	"cmd/sslgate":     {43, 6300, nil, "a command has a file of its own"},
	"internal/config": {41, 6700, nil, "mistakes are put at places that only the parser knows"},
	"handshake":       {43, 6100, []string{"clienthello", "verify"}, "a hello, a chain and a profile are judged over the same unexported types"},
	"tun":             {35, 5700, nil, "table, rules and routes are written and repaired from one state"},
	"policy":          {48, 8600, []string{"when"}, "a rule is compiled, decided and explained over the same unexported types"},

	"internal/gateway": {36, 5800, nil, "a flow walks through all of it, over one unexported type"},
}

func TestSizesOfPackages(t *testing.T) {
	root := filepath.Join("..", "..")
	for _, p := range packages(t) {
		self := strings.TrimPrefix(p.ImportPath, module)
		names, err := filepath.Glob(filepath.Join(root, self, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		names = slices.DeleteFunc(names, func(n string) bool { return strings.HasSuffix(n, "_test.go") })
		lines := 0
		for i, name := range names {
			src, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			lines += bytes.Count(src, []byte("\n"))
			names[i] = strings.TrimSuffix(filepath.Base(name), ".go")
		}
		files, most, families := maxFiles, maxLines, []string(nil)
		if l, ok := larger[self]; ok {
			files, most, families = l.files, l.lines, l.families
		}
		if len(names) > files || lines > most {
			t.Errorf("%s has %d files and %d lines: more than %d or %d are asking to be several packages", self, len(names), lines, files, most)
		}
		for _, first := range names {
			family := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !strings.HasPrefix(n, first) })
			if len(family) > maxFamily && !slices.Contains(families, first) {
				t.Errorf("%s: %s are a package spelled as a prefix", self, strings.Join(family, ", "))
			}
		}
	}
}
