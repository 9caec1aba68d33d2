package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Every test that the documents cite exists, and so does a case of it that is named after a
// slash.
func TestCitedTestsExist(t *testing.T) {
	const root = "../.."
	tests := testFuncs(t, root)
	cited := regexp.MustCompile(`\b(Test[A-Z][A-Za-z0-9_]*)((?:/[A-Za-z0-9_-]+)?)`)
	bare := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z][A-Za-z0-9_]*`)
	housed := regexp.MustCompile("`([a-z0-9/]+)` ((?:Test|Fuzz)[A-Z][A-Za-z0-9_]*)") // a package and a test of it
	further := regexp.MustCompile("`(/[a-z][^`]*)`")                                 // further cases of the test cited before
	n := 0
	for _, name := range documents(t, root) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			for _, test := range bare.FindAllString(line, -1) {
				n++
				if _, ok := tests[test]; !ok {
					t.Errorf("%s:%d cites %s, which is nowhere", name, i+1, test)
				}
			}
			for _, m := range housed.FindAllStringSubmatch(line, -1) {
				if !slices.ContainsFunc(tests[m[2]], func(f string) bool { return filepath.Dir(f) == filepath.Join(root, m[1]) }) {
					t.Errorf("%s:%d cites %s of %s; it is in %v", name, i+1, m[2], m[1], tests[m[2]])
				}
			}
			all := cited.FindAllStringSubmatchIndex(line, -1)
			for k, m := range all {
				test, rest := line[m[2]:m[3]], line[m[1]:]
				if k+1 < len(all) {
					rest = line[m[1]:all[k+1][0]]
				}
				cases := []string{line[m[4]:m[5]]}
				for _, f := range further.FindAllStringSubmatch(rest, -1) {
					cases = append(cases, f[1])
				}
				for _, c := range cases {
					// Names of cases are texts of the file that has the test, or
					// constants of a package that it uses.
					if c = strings.TrimPrefix(c, "/"); c != "" && !anywhere(tests[test], c) {
						t.Errorf("%s:%d cites %s/%s; no such case", name, i+1, test, c)
					}
				}
			}
		}
	}
	if n < 40 {
		t.Errorf("only %d citations were found: the test looks at the wrong place", n)
	}
}

// anywhere says whether a file of a test, or of a package below internal that
// it imports, has the text as a constant.
func anywhere(files []string, text string) bool {
	want := `"` + text + `"`
	for _, f := range files {
		src, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		if strings.Contains(string(src), want) {
			return true
		}
		for _, m := range regexp.MustCompile(`"`+module+`([^"]+)"`).FindAllStringSubmatch(string(src), -1) {
			more, _ := filepath.Glob(filepath.Join("../..", m[1], "*.go"))
			for _, g := range more {
				if src, err := os.ReadFile(g); err == nil && strings.Contains(string(src), want) {
					return true
				}
			}
		}
	}
	return false
}

// documents are the texts for people.
func documents(t *testing.T, root string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(all) < 5 {
		t.Fatalf("documents: %d, %v", len(all), err)
	}
	return append(all, filepath.Join(root, "README.md"))
}

// testFuncs are the tests of the tree with the files that have them.
func testFuncs(t *testing.T, root string) map[string][]string {
	t.Helper()
	tests := map[string][]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && (strings.HasPrefix(f.Name.Name, "Test") || strings.HasPrefix(f.Name.Name, "Fuzz")) {
				tests[f.Name.Name] = append(tests[f.Name.Name], path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests
}
