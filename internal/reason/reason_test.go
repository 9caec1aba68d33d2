package reason

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

// Every constant has exactly one entry, and every entry a constant.
func TestListIsClosed(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "codes.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	consts := map[Code]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		vs, ok := n.(*ast.ValueSpec)
		if !ok || len(vs.Values) != 1 {
			return true
		}
		lit, ok := vs.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		s, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		consts[Code(s)] = true
		return true
	})
	seen := map[Code]bool{}
	form := regexp.MustCompile(`^[a-z][a-z0-9_]+$`)
	for _, e := range All() {
		if seen[e.Code] {
			t.Errorf("%s has two entries", e.Code)
		}
		seen[e.Code] = true
		if !consts[e.Code] {
			t.Errorf("%s has no constant", e.Code)
		}
		if !form.MatchString(string(e.Code)) {
			t.Errorf("%q is not lower case with underscores", e.Code)
		}
		if e.Sentence == "" {
			t.Errorf("%s has no sentence", e.Code)
		}
		if (e.Kind == Refused || e.Kind == Failed) && e.Advice == "" {
			t.Errorf("%s gives no advice", e.Code)
		}
		if e.Step < 0 || e.Step > 9 {
			t.Errorf("%s: step %d", e.Code, e.Step)
		}
	}
	for c := range consts {
		if !seen[c] {
			t.Errorf("%s has no entry", c)
		}
	}
	if len(consts) == 0 {
		t.Fatal("no constants found: the test reads the wrong file")
	}
}

// A word that is not in the list asks for internal_error, never for silence.
func TestUnknownCode(t *testing.T) {
	if got := Alert("no_such_word"); got != 80 {
		t.Errorf("Alert of an unknown code = %d, want 80", got)
	}
	if _, ok := Lookup(""); ok {
		t.Error("the empty code has an entry")
	}
}
