package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

const sample = `package sample

import "errors"

var table = map[string]int{}

func f(in, out chan int) (n int) {
	defer func() { <-in }()
outer:
	for {
		select {
		case n = <-in:
			table["x"] = n
			n++ // nobody sees it
			break outer
		case out <- 1:
		}
		switch {
		case n > 1:
			close(out)
			fallthrough
		default:
			panic(errors.New("end"))
		}
	}
	go f(in, out)
	return n
}

func empty() {}
`

// What is perturbed compiles, its lines keep their numbers, and places stand before what
// follows an effect.
func TestPerturb(t *testing.T) {
	text, err := perturb("dir/sample.go", []byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	lines, before := strings.Split(string(text), "\n"), strings.Split(sample, "\n")
	if len(lines) != len(before) {
		t.Fatalf("%d lines, were %d", len(lines), len(before))
	}
	places := ""
	for i, line := range lines {
		if strings.Contains(line, "delays_.At(") {
			places += strings.TrimSpace(before[i]) + "\n"
		}
	}
	const want = `defer func() { <-in }()
outer:
select {
table["x"] = n
n++ // nobody sees it
switch {
close(out)
fallthrough
panic(errors.New("end"))
go f(in, out)
return n
`
	if places != want {
		t.Errorf("places before\n%swant\n%s", places, want)
	}
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "sample.go", text, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (&types.Config{Importer: importer{}}).Check("sample", set, []*ast.File{file}, nil); err != nil {
		t.Errorf("%v in\n%s", err, text)
	}
}

// importer knows what the sample imports.
type importer struct{}

func (importer) Import(path string) (*types.Package, error) {
	source := map[string]string{hook: "package delays; func At(uint32, string) {}", "errors": "package errors; func New(string) error { return nil }"}[path]
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "x.go", source, 0)
	if err != nil {
		return nil, err
	}
	return new(types.Config).Check(path, set, []*ast.File{file}, nil)
}
