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

// ownConnections may make connections of crypto/tls: the engine, `probe` where it asks for
// what no engine of sslgate does, the lab, and the web servers of a fleet and of a CA and an etcd, which
// no flow meets.
var ownConnections = []string{
	"handshake/stdtls/", "internal/probe/complete.go", "internal/lab/", "internal/fleet/member/source.go", "internal/fleet/etcd/", "internal/acmeclient/http.go",
}

// connectionNames are the functions and types of crypto/tls for that.
var connectionNames = []string{
	"Client", "Config", "Conn", "Dial", "DialWithDialer", "Dialer", "Listen", "NewListener",
	"QUICClient", "QUICServer", "Server",
}

// One engine speaks crypto/tls; everything else asks handshake.Engine, so that another
// engine may take its place.
func TestConnectionsOfCryptoTLSAreTheEngines(t *testing.T) {
	found := map[string]bool{}
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		name := importName(f, "crypto/tls")
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || !slices.Contains(connectionNames, sel.Sel.Name) {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); !ok || name == "" || x.Name != name {
				return true
			}
			i := slices.IndexFunc(ownConnections, func(own string) bool { return strings.HasPrefix(rel, own) })
			if i < 0 {
				t.Errorf("%s:%d has %s.%s: the engine makes connections, handshake/stdtls", rel, fset.Position(sel.Pos()).Line, name, sel.Sel.Name)
			} else {
				found[ownConnections[i]] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, own := range ownConnections {
		if !found[own] {
			t.Errorf("%s makes no connection of crypto/tls: take it out of the list", own)
		}
	}
}

// importName is the name of an import in a file; "" if the file does not import it.
func importName(f *ast.File, path string) string {
	for _, i := range f.Imports {
		if strings.Trim(i.Path.Value, `"`) != path {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path[strings.LastIndex(path, "/")+1:]
	}
	return ""
}
