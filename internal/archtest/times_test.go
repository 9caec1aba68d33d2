package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Dates from others may be anywhere from the year 0 to 10000. Code that calculates with them,
// or writes them as text, must use internal/times: the ranges of Duration, Unix nanoseconds,
// JSON and CEL are all smaller.
func TestOneArithmeticOfDates(t *testing.T) {
	root := filepath.Join("..", "..")
	files := 0
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || strings.HasPrefix(rel, "internal/lab/") || strings.HasPrefix(rel, "internal/times/") {
			return err // the lab makes its own
		}
		files++
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		for _, use := range datesUsed(f) {
			if use.what == "Format" && strings.HasPrefix(rel, "handshake/") {
				continue // a text in a reason: years beyond 9999 are written as they are
			}
			t.Errorf("%s:%d: %s with %s: internal/times does it", rel, fset.Position(use.pos).Line, use.what, use.of)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 {
		t.Errorf("%d files looked at: the test looks at the wrong tree", files)
	}
}

// datesUsed finds calls that work directly with the dates of a certificate, a CRL or an OCSP
// answer.
func datesUsed(f *ast.File) []nameUse {
	dates := []string{"NotBefore", "NotAfter", "ThisUpdate", "NextUpdate"}
	var out []nameUse
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Sub", "Until", "Since", "UnixNano", "UnixMicro", "UnixMilli", "Format"}, sel.Sel.Name) {
			return true
		}
		if base(sel.X) == "times" {
			return true
		}
		for _, x := range append([]ast.Expr{sel.X}, call.Args...) {
			ast.Inspect(x, func(n ast.Node) bool {
				if in, ok := n.(*ast.SelectorExpr); ok && slices.Contains(dates, in.Sel.Name) {
					out = append(out, nameUse{call.Pos(), sel.Sel.Name, base(in.X) + "." + in.Sel.Name})
				}
				return true
			})
		}
		return true
	})
	return out
}

// datesUsed finds the uses that the test above is about.
func TestDatesUsed(t *testing.T) {
	const src = `package p
func f() {
	_ = c.NotAfter.Sub(now)
	_ = now.Sub(p.Leaf().NotBefore)
	_ = time.Until(*l.NextUpdate)
	_ = c.NotAfter.UTC().Format(time.RFC3339)
	_ = times.Sub(c.NotAfter, now)
	_ = c.NotAfter.Before(now)
	_ = r.ThisUpdate.UnixNano()
}`
	sees(t, src, datesUsed, " with ", "Sub with c.NotAfter, Sub with Leaf().NotBefore, Until with l.NextUpdate, Format with c.NotAfter, UnixNano with r.ThisUpdate")
}
