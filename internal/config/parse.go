package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/sslgate/sslgate/internal/fileset"
)

// The bounds of a configuration file. A file is written by the operator, but
// it may be generated, and a mistake in a generator must not take the memory.
const (
	maxFile  = 8 << 20 // bytes; ten thousand rules of 800 bytes
	maxDepth = 32      // levels of mappings and lists; the deepest key of the schema has 7
	// Values, those behind aliases each time they are used. Each takes some 200
	// bytes, and much more where something is wrong with it. A file of maxFile
	// with ten thousand rules has 200,000; aliases (*name) make more of little
	// text, so they have a bound of their own.
	maxNodes   = 400_000
	maxAliased = 50_000
	// maxColumn bounds where an indented entry may begin. goccy/go-yaml recurses
	// once a level, and a level of block style takes at least one column.
	maxColumn   = 400
	maxFindings = 200 // shown of one file
)

// File is a configuration file as it was read: the values, with defaults
// filled in, and where each of them stands. It is not changed after Load.
type File struct {
	// Name of the file as the caller gave it.
	Name string
	// Config holds the values. Paths of files in it are as they are written:
	// relative ones are relative to the directory of Name.
	Config Config

	src    *source
	places places
	texts  map[string]scalarAt // expressions, by path
	// warnings of reading, and the paths that are known to be wrong: what
	// other checks say about these is an echo and is dropped.
	findings []Finding
	tainted  []string

	cut  bool     // not all of it was decoded: what else is said of it would be wrong
	tree int64    // bytes taken for the tree while values are decoded
	in   *loading // what it is read within; nil: without bounds
	// host is the gateway's own file, where this one is of a fleet's bundle: it has the sections
	// of ownSections.
	host *File
}

// Load reads a configuration file. The error holds every mistake that can be
// seen without opening the files it names (Check finds those); it is Findings,
// and the *File is nil then.
func Load(path string) (*File, error) {
	f := load(path)
	if Failed(f.findings) {
		return nil, Findings(f.findings)
	}
	return f, nil
}

// load reads from the disk. It never returns nil: with findings, the File is as
// complete as can be.
func load(path string) *File {
	return loadIn(newLoading(context.Background(), nil, fileset.Disk{}), path)
}

// loadIn is load within bounds.
func loadIn(in *loading, path string) *File { return loadBeside(in, path, nil) }

// loadBeside is loadIn for a file of a bundle, beside the gateway's own, which is nil elsewhere.
func loadBeside(in *loading, path string, host *File) *File {
	read, err := in.read(path, maxFile, 1)
	if err != nil {
		f := &File{Name: path, src: newSource(path, nil), in: in}
		f.findings = []Finding{f.src.finding(place{}, "", err.Error())}
		f.findings[0].Excerpt = ""
		return f
	}
	defer in.files.Done(path)
	return parseIn(in, path, read.Text, host)
}

// parseIn reads text that is there already. name is used in messages and to resolve
// relative paths; host is as in loadBeside.
func parseIn(in *loading, name string, text []byte, host *File) *File {
	f := &File{Name: name, places: places{}, in: in}
	setDefaults(&f.Config)
	if len(text) > maxFile {
		f.src = newSource(name, nil)
		f.findings = []Finding{f.src.finding(place{}, "", fmt.Sprintf("larger than %d bytes", maxFile))}
		return f
	}
	text = normalize(text)
	f.src = newSource(name, text)
	body, bad := f.readTree(text)
	if bad != nil {
		f.findings = []Finding{*bad}
		return f
	}
	d := &decoder{src: f.src, in: f.in, places: f.places, aliases: map[*ast.AliasNode]ast.Node{}, texts: map[string]scalarAt{}}
	d.document(body, &f.Config)
	f.findings, f.tainted, f.texts = d.findings, d.tainted, d.texts
	f.in.room().Give(f.tree)
	f.cut = d.full || d.enough || f.in.over()
	if d.full {
		// What was decoded is not the whole: nothing else about it is worth its cost.
		f.findings = d.findings[len(d.findings)-1:]
		return f
	}
	f.graft(host)
	if !d.enough {
		f.checkValues()
		f.placeACME()
	}
	f.findings = f.some(f.findings)
	return f
}

// some sorts findings, mistakes before warnings, and leaves the first of them,
// with a word about how many more there are.
func (f *File) some(fs []Finding) []Finding {
	Sort(fs)
	if len(fs) <= maxFindings {
		return fs
	}
	more := f.src.finding(place{}, "", fmt.Sprintf("and %d more", len(fs)-maxFindings))
	more.Warning = fs[maxFindings].Warning
	return append(fs[:maxFindings:maxFindings], more)
}

// readTree is the one call of the YAML library. What it says is located; a
// panic of it is a syntax error like any other, for it never reads anything
// but this file.
func (f *File) readTree(text []byte) (body ast.Node, bad *Finding) {
	fail := func(t *token.Token, format string, args ...any) *Finding {
		b := f.src.finding(f.src.at(t), "", fmt.Sprintf(format, args...))
		return &b
	}
	defer func() {
		if r := recover(); r != nil {
			body, bad = nil, fail(nil, "cannot be read as YAML: %s", quote(fmt.Sprint(r)))
		}
	}()
	if b := f.notText(text); b != nil {
		return nil, b
	}
	if b := f.tooMany(text); b != nil {
		return nil, b
	}
	n := marks(text)
	if !f.in.take(n * (markCost + valueCost)) {
		return nil, fail(nil, "not read: %v", f.in.err)
	}
	f.tree = n * markCost
	tokens := lexer.Tokenize(string(text))
	if t := tooDeep(tokens); t != nil {
		return nil, fail(t, "nested deeper than %d levels", maxDepth)
	}
	tree, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		var y yaml.Error
		if errors.As(err, &y) {
			return nil, fail(y.GetToken(), "%s", syntaxMessage(y.GetMessage()))
		}
		return nil, fail(nil, "cannot be read as YAML: %s", quote(err.Error()))
	}
	var docs []*ast.DocumentNode
	for _, doc := range tree.Docs {
		if doc.Body == nil {
			continue
		}
		switch doc.Body.(type) {
		case *ast.DirectiveNode:
			return nil, fail(doc.Body.GetToken(), "YAML directives are not supported: remove the line")
		case *ast.CommentGroupNode:
			continue
		}
		docs = append(docs, doc)
	}
	switch len(docs) {
	case 0:
		return nil, fail(nil, "the file is empty: it needs at least `version: 1`, `capture` and `policy`")
	case 1:
		return docs[0].Body, nil
	}
	t := docs[1].Start
	if t == nil {
		t = docs[1].Body.GetToken()
	}
	return nil, fail(t, "a second YAML document: a configuration is one document")
}

// notText finds a byte that no YAML text has (YAML 1.2.2, sections 5.1 and 5.2).
func (f *File) notText(text []byte) *Finding {
	msg, i := "a NUL byte: this is no text file", bytes.IndexByte(text, 0)
	if !utf8.Valid(text) {
		msg = "not UTF-8: save the file in this encoding"
		for i = 0; i < len(text); {
			r, size := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && size == 1 {
				break
			}
			i += size
		}
	}
	if i < 0 {
		return nil
	}
	begin := bytes.LastIndexByte(text[:i], '\n') + 1
	b := f.src.finding(place{line: bytes.Count(text[:i], []byte("\n")) + 1, col: utf8.RuneCount(text[begin:i]) + 1}, "", msg)
	return &b
}

// tooMany finds the place where a text has more values than are read. Between
// two of them is a comma or the end of a line; the library takes a kilobyte for
// each, so they are counted before it is asked.
func (f *File) tooMany(text []byte) *Finding {
	n, line, begin := 0, 1, 0
	for i, c := range text {
		if c == ',' || c == '\n' {
			n++
		}
		if n > maxNodes {
			b := f.src.finding(place{line: line, col: utf8.RuneCount(text[begin:i]) + 1}, "", fmt.Sprintf("more than %d values: write lists as a set in a file (policy.sets)", maxNodes))
			return &b
		}
		if c == '\n' {
			line, begin = line+1, i+1
		}
	}
	return nil
}

// tooDeep returns the first token that nests deeper than the library may be
// asked to recurse. Flow style is counted; block style is bounded by its
// indentation.
func tooDeep(tokens token.Tokens) *token.Token {
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			if depth++; depth > maxDepth {
				return t
			}
		case token.SequenceEndType, token.MappingEndType:
			depth = max(0, depth-1)
		case token.SequenceEntryType, token.MappingKeyType, token.MappingValueType, token.TagType, token.AnchorType:
			if depth == 0 && t.Position.Column > maxColumn {
				return t
			}
		default: // no level
		}
	}
	return nil
}

// syntaxMessage adds what to do to the messages people meet most.
func syntaxMessage(msg string) string {
	switch {
	case strings.Contains(msg, "'\t'"):
		return "YAML syntax: a tab cannot begin a value: indent with spaces"
	case strings.Contains(msg, "could not find end character"):
		return "YAML syntax: " + msg + ": a quote is not closed"
	}
	return "YAML syntax: " + strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, msg)
}

// abs resolves a path of the configuration against the directory of the file.
func (f *File) abs(path string) string {
	if socket, ok := signerSocket(path); ok {
		return signerPlace + fileset.Place(filepath.Dir(f.Name), socket)
	}
	return fileset.Place(filepath.Dir(f.Name), path)
}

// has says whether a path stands in the file (a default does not).
func (f *File) has(path string) bool {
	_, ok := f.places[path]
	return ok
}

// echo says whether a finding at path only repeats a mistake already reported.
func (f *File) echo(path string) bool {
	for _, t := range f.tainted {
		if within(t, path) {
			return true
		}
	}
	return false
}
