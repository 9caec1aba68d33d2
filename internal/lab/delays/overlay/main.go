// Command overlay writes copies of the module's Go files that call delays.At, and the file
// that makes `go build -overlay` use them: DIR/overlay.json. It runs in the root of the module.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	module = "github.com/sslgate/sslgate"
	hook   = module + "/internal/lab/delays"
)

// left are packages that stay as they are: the hook, what measures the machine, and what only
// reads the sources.
var left = []string{hook, hook + "/overlay", module + "/internal/lab/testenv", module + "/internal/archtest"}

func main() {
	if err := write(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "overlay: %v\n", err)
		os.Exit(1)
	}
}

func write(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: overlay DIR")
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	files, err := sources()
	if err != nil {
		return err
	}
	replace := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		perturbed, err := perturb(name, text)
		if err != nil {
			return err
		}
		copied := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(copied), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(copied, perturbed, 0o644); err != nil {
			return err
		}
		replace[file] = copied
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "overlay.json"), text, 0o644)
}

// sources are the files that builds and tests of this module compile on this machine.
func sources() ([]string, error) {
	out, err := exec.Command("go", "list", "-json=Dir,ImportPath,GoFiles,TestGoFiles,XTestGoFiles", "./...").Output()
	if err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	var files []string
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			Dir, ImportPath                    string
			GoFiles, TestGoFiles, XTestGoFiles []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return files, nil
		} else if err != nil {
			return nil, err
		}
		if slices.Contains(left, p.ImportPath) {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
			files = append(files, filepath.Join(p.Dir, name))
		}
	}
}

// perturb returns the file with a call of delays.At at the beginning of each block, so also where
// a goroutine begins, and between two statements of which the first has an effect that others
// can see. All lines keep their numbers.
func perturb(name string, text []byte) ([]byte, error) {
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	inserted := map[int]string{}
	place := func(s ast.Stmt) {
		switch s.(type) {
		case *ast.CaseClause, *ast.CommClause: // what the body of a switch or a select consists of
			return
		}
		at := set.Position(s.Pos())
		hash := fnv.New32a()
		fmt.Fprintf(hash, "%s:%d:%d", name, at.Line, at.Column)
		inserted[at.Offset] = fmt.Sprintf("delays_.At(%#x, %q); ", hash.Sum32(), fmt.Sprintf("%s:%d", name, at.Line))
	}
	within := func(list []ast.Stmt) {
		for i, s := range list {
			if i == 0 || seen(list[i-1]) {
				place(s)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BlockStmt:
			within(n.List)
		case *ast.CaseClause:
			within(n.Body)
		case *ast.CommClause:
			within(n.Body)
		}
		return true
	})
	if len(inserted) == 0 {
		return text, nil
	}
	inserted[set.Position(file.Name.End()).Offset] = fmt.Sprintf("; import delays_ %q", hook)
	var out []byte
	for i, b := range text {
		out = append(append(out, inserted[i]...), b)
	}
	return out, nil
}

// seen tells whether other goroutines or processes may see what the statement does: it calls,
// sends, receives, starts a goroutine, or sets what is not a variable of its own.
func seen(s ast.Stmt) bool {
	found := false
	ast.Inspect(s, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr, *ast.SendStmt:
			found = true
		case *ast.UnaryExpr:
			found = found || n.Op == token.ARROW
		case *ast.AssignStmt:
			for _, to := range n.Lhs {
				_, plain := to.(*ast.Ident)
				found = found || !plain
			}
		}
		return !found
	})
	return found
}
