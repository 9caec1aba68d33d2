package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"unicode"
)

// sources are the files that describe the configuration, and the package name
// that others refer to their types by. The first one's Config is the top.
var sources = []struct{ pkg, file string }{
	{"", "internal/config/config.go"},
	{"", "internal/config/acme.go"},
	{"", "internal/config/spiffe.go"},
	{"policy", "policy/spec.go"},
	{"handshake", "handshake/profile.go"},
}

// page collects what is written and which structs are still to come.
type page struct {
	structs map[string]*structType // by "pkg.Name"
	out     bytes.Buffer
	queue   []section
	inside  []section         // structs of the section being written
	done    map[string]string // type -> path of the section that describes it
}

// structType is one struct of the configuration.
type structType struct {
	pkg, name, doc string
	fields         []*ast.Field
}

// section is one heading to write: a struct and where it stands in the file.
type section struct{ typ, path string }

const intro = `# Configuration

Generated from the comments of the code by ` + "`go run ./internal/config/docgen`" + `: do not edit.

sslgate reads one YAML file. A whole one stands in [examples/gateway.yaml](examples/gateway.yaml). ` + "`sslgate check -c FILE`" + ` says
everything that is wrong with a file, and ` + "`sslgate run`" + ` refuses what ` + "`check`" + ` refuses.

How values are written:

| type | written |
|---|---|
| text | with or without quotes; a number is taken as it is written (` + "`1.2`" + ` is the text 1.2), true and false need quotes |
| number | a whole number; hexadecimal with 0x |
| true or false | these two words only |
| duration | a number with a unit: ` + "`500ms`, `10s`, `10m`, `1h30m`" + `; more than 0 |
| size | bytes: ` + "`64KiB`, `1MiB`" + `, or a plain number |
| ports | a list of numbers, 1 to 65535, or the word ` + "`all`" + ` |
| list of ... | ` + "`[a, b]`" + `, or one entry a line after "- "; also for a single entry |
| expression | a condition in [CEL](policy.md#conditions-in-cel), best as a block: ` + "`when: >-`" + ` and the lines below it |
| names | names of your own, each with keys below: letters, digits, "-", "_", ".", at most 64 |

Unknown and repeated keys are mistakes, and so are keys without a value and empty lists that could be read as "any". Anchors
and aliases (` + "`&name`, `*name`" + `) work for whole values; merge keys (` + "`<<`" + `), tags and a second document are refused. A file has at most
8 MiB and 32 levels. The path of a file that is relative begins at the directory of the configuration file.
`

// generate returns docs/config.md for the module at root.
func generate(root string) ([]byte, error) {
	p := &page{structs: map[string]*structType{}, done: map[string]string{}}
	for _, s := range sources {
		if err := p.read(s.pkg, filepath.Join(root, filepath.FromSlash(s.file))); err != nil {
			return nil, err
		}
	}
	p.out.WriteString(intro)
	p.queue = []section{{typ: ".Config"}}
	for len(p.queue) > 0 {
		next := p.queue[0]
		p.queue = p.queue[1:]
		if _, ok := p.done[next.typ]; ok {
			continue
		}
		p.done[next.typ] = next.path
		p.inside = nil
		if err := p.section(next); err != nil {
			return nil, err
		}
		p.queue = append(p.inside, p.queue...) // depth first, as a file is read
	}
	return p.out.Bytes(), nil
}

// read finds the structs of one file.
func (p *page) read(pkg, file string) error {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return err
	}
	for _, decl := range tree.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range gen.Specs {
			ts, ok := spec.(*ast.TypeSpec)
			if !ok {
				continue
			}
			if st, ok := ts.Type.(*ast.StructType); ok {
				p.structs[pkg+"."+ts.Name.Name] = &structType{pkg: pkg, name: ts.Name.Name, doc: gen.Doc.Text(), fields: st.Fields.List}
			}
		}
	}
	return nil
}

// section writes the table of one struct and queues the structs inside.
func (p *page) section(s section) error {
	st, ok := p.structs[s.typ]
	if !ok {
		return fmt.Errorf("no struct %s in the sources", s.typ)
	}
	title := s.path
	if title == "" {
		title = "The file"
	}
	key := strings.TrimSuffix(s.path[strings.LastIndex(s.path, ".")+1:], "[]")
	if key == "NAME" || strings.HasSuffix(s.path, "[]") {
		key = "" // one of many
	}
	fmt.Fprintf(&p.out, "\n## %s\n\n", title)
	if s.path != "" {
		fmt.Fprintf(&p.out, "%s\n\n", rename(oneLine(st.doc), st.name, key))
	}
	p.out.WriteString("| key | type | meaning |\n|---|---|---|\n")
	for _, f := range st.fields {
		if len(f.Names) != 1 || f.Tag == nil {
			return fmt.Errorf("%s: every field needs a name and a yaml tag of its own", s.typ)
		}
		goName := f.Names[0].Name
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", s.typ, goName, err)
		}
		yaml := reflect.StructTag(tag).Get("yaml")
		doc := oneLine(f.Doc.Text())
		if yaml == "" || doc == "" {
			return fmt.Errorf("%s.%s: a yaml tag and a comment are needed", s.typ, goName)
		}
		path := yaml
		if s.path != "" {
			path = s.path + "." + yaml
		}
		kind, err := p.kind(f.Type, st.pkg, path)
		if err != nil {
			return fmt.Errorf("%s.%s: %w", s.typ, goName, err)
		}
		if reflect.StructTag(tag).Get("reload") == "restart" {
			doc += " A change needs a restart."
		}
		fmt.Fprintf(&p.out, "| `%s` | %s | %s |\n", yaml, kind, strings.ReplaceAll(rename(doc, goName, yaml), "|", `\|`))
	}
	return nil
}

// kinds names the types that are no structs to go into.
var kinds = map[string]string{
	"string": "text", "int": "number", "uint32": "number", "bool": "true or false",
	"policy.SetSpec": "list of texts, or {file: FILE}", "policy.Expression": "expression",
	".Duration": "duration", ".Size": "size", ".Ports": "ports",
}

// kind names the type of a field, and queues a struct in it.
func (p *page) kind(t ast.Expr, pkg, path string) (string, error) {
	switch t := t.(type) {
	case *ast.StarExpr:
		return p.kind(t.X, pkg, path)
	case *ast.ArrayType:
		inner, err := p.kind(t.Elt, pkg, path+"[]")
		if strings.HasPrefix(inner, "[") {
			return "list of " + inner, err
		}
		return "list of " + inner + "s", err
	case *ast.MapType:
		inner, err := p.kind(t.Value, pkg, path+".NAME")
		return "names, each with " + inner, err
	case *ast.SelectorExpr:
		x, ok := t.X.(*ast.Ident)
		if !ok {
			return "", fmt.Errorf("a type that is not understood")
		}
		return p.named(x.Name+"."+t.Sel.Name, path)
	case *ast.Ident:
		if kind, ok := kinds[t.Name]; ok {
			return kind, nil
		}
		return p.named(pkg+"."+t.Name, path)
	}
	return "", fmt.Errorf("a type that is not understood: %T", t)
}

func (p *page) named(name, path string) (string, error) {
	if kind, ok := kinds[name]; ok {
		return kind, nil
	}
	if _, ok := p.structs[name]; !ok {
		return "", fmt.Errorf("no struct %s in the sources", name)
	}
	if at, ok := p.done[name]; ok {
		path = at // it is described once
	}
	p.inside = append(p.inside, section{name, path})
	return fmt.Sprintf("[%s](#%s)", path, anchor(path)), nil
}

// anchor is the fragment that a Markdown renderer makes of a heading.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			return unicode.ToLower(r)
		case r == ' ':
			return '-'
		}
		return -1
	}, heading)
}

// rename puts the key where a comment begins with the name of the Go field:
// "MTU in bytes" becomes "`mtu` in bytes". "SANDNS: a name" and "Key is the
// file" become "A name" and "The file".
func rename(doc, goName, key string) string {
	rest, ok := strings.CutPrefix(doc, goName)
	switch {
	case !ok:
		return doc
	case key == "":
		return "An entry" + rest
	}
	for _, verb := range []string{": ", " is ", " are "} {
		if after, ok := strings.CutPrefix(rest, verb); ok && after != "" {
			return strings.ToUpper(after[:1]) + after[1:]
		}
	}
	return "`" + key + "`" + rest
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
