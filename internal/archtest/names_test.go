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

// makesNames are the places that write names into certificates of their own, or use what
// crypto/x509 has parsed of a peer for something other than a name.
var makesNames = map[string]string{
	"internal/certname/":    "the one reader and printer",
	"internal/pki/":         "templates of certificates that it issues",
	"internal/mint/":        "templates of certificates that it makes",
	"internal/policytest/":  "templates of stand-ins",
	"internal/lab/testpki/": "templates of test certificates",
	"internal/lab/demo/":    "templates of the demo's certificates",
	"internal/lab/attack/":  "templates of hostile certificates",
}

// templates are names of variables that hold a certificate being made, in the
// packages above.
var templates = []string{"t", "n", "names", "leaf", "l"}

// Only internal/certname reads and prints names of certificates. crypto/x509 sorts, drops and
// rewrites attributes, so what it shows would not be what a rule compares.
func TestOneReaderOfNames(t *testing.T) {
	root := filepath.Join("..", "..")
	files, seen := 0, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		files++
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, 0)
		if err != nil {
			return err
		}
		for _, use := range namesRead(f) {
			maker := ""
			for dir := range makesNames {
				if strings.HasPrefix(rel, dir) {
					maker = dir
				}
			}
			if maker != "" && (maker == "internal/certname/" || slices.Contains(templates, use.of)) {
				seen[maker] = true
				continue
			}
			t.Errorf("%s:%d reads %s of %s: internal/certname is the one reader of names", rel, fset.Position(use.pos).Line, use.what, use.of)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 100 || len(seen) < 3 {
		t.Errorf("%d files looked at, names made in %v: the test looks at the wrong tree", files, seen)
	}
}

type nameUse struct {
	pos      token.Pos
	what, of string
}

// namesRead finds selectors that read a name: the fields of x509.Certificate
// with alternative names, anything of Subject or Issuer where it is a pkix.Name,
// and pkix's own types for what was decoded.
func namesRead(f *ast.File) []nameUse {
	var out []nameUse
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch sel.Sel.Name {
		case "DNSNames", "URIs", "EmailAddresses", "IPAddresses":
			out = append(out, nameUse{sel.Pos(), sel.Sel.Name, base(sel.X)})
		case "RDNSequence":
			if base(sel.X) == "pkix" {
				out = append(out, nameUse{sel.Pos(), sel.Sel.Name, "pkix"})
			}
		case "CommonName", "String", "Names", "ExtraNames", "ToRDNSequence", "Organization", "OrganizationalUnit", "Country", "Locality", "Province", "StreetAddress", "PostalCode":
			if in, ok := sel.X.(*ast.SelectorExpr); ok && (in.Sel.Name == "Subject" || in.Sel.Name == "Issuer") {
				out = append(out, nameUse{sel.Pos(), in.Sel.Name + "." + sel.Sel.Name, base(in.X)})
			}
		}
		return true
	})
	return out
}

// base is the last identifier of an expression.
func base(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	case *ast.CallExpr:
		return base(x.Fun) + "()"
	case *ast.IndexExpr:
		return base(x.X) + "[]"
	}
	return "?"
}

// namesRead finds the uses that the test above is about.
func TestNamesRead(t *testing.T) {
	const src = `package p
func f(c, p *T) {
	_ = c.Subject.CommonName
	_ = p.Leaf().Issuer.String()
	_ = p.Leaf().URIs
	var r pkix.RDNSequence
	_ = p.Shown[0].DNSNames
	_, _ = r, p.Subject
}`
	sees(t, src, namesRead, " of ", "Subject.CommonName of c, Issuer.String of Leaf(), URIs of Leaf(), RDNSequence of pkix, DNSNames of Shown[]")
}

// sees compares what find finds in a file with want. Each use is written as what, between, of.
func sees(t *testing.T, src string, find func(*ast.File) []nameUse, between, want string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", src, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range find(f) {
		got = append(got, u.what+between+u.of)
	}
	if strings.Join(got, ", ") != want {
		t.Errorf("%s, want %s", strings.Join(got, ", "), want)
	}
}
