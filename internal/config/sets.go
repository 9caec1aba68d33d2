package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	_ "time/tzdata" // hosts of gateways often have no zoneinfo files

	"github.com/goccy/go-yaml/ast"

	"github.com/sslgate/sslgate/policy"
)

// maxSetFile is the size of a set's file in bytes: a million members of a
// usual length.
const maxSetFile = 64 << 20

// set decodes an entry of policy.sets: a list of members, or {file: FILE}.
func (d *decoder) set(n ast.Node, v reflect.Value, path string, at place) {
	spec := policy.SetSpec{}
	switch {
	case isMapping(n):
		from := struct {
			File string `yaml:"file"`
		}{}
		d.structure(mappingEntries(n), reflect.ValueOf(&from).Elem(), path)
		if spec.File = from.File; spec.File == "" {
			d.addf(at, path, "a set is a list of members, or {file: FILE} with one member a line")
		}
	case isContainer(n):
		d.list(n, reflect.ValueOf(&spec.Members).Elem(), path, at)
	default:
		d.addf(at, path, "a set is a list of members, or {file: FILE} with one member a line, not %s", describe(n))
	}
	v.Set(reflect.ValueOf(spec))
}

// setFile is the file of a set: its members, and the line each stands in.
type setFile struct {
	name    string
	members []string
	lines   []int
}

// sets reads the files of sets into env.
func (b *builder) sets(env *policy.Environment) {
	env.Sets, env.Zone = map[string][]string{}, time.LoadLocation
	b.setFiles = map[string]setFile{}
	specs := b.file.Config.Policy.Sets
	for _, name := range slices.Sorted(maps.Keys(specs)) {
		if specs[name].File == "" {
			continue
		}
		path := keyPath("policy.sets", name)
		file := b.file.abs(specs[name].File)
		from, err := b.readSet(file)
		switch {
		case b.file.in.over():
			return
		case err != nil:
			b.add(path, err.Error())
		default:
			env.Sets[name], b.setFiles[name] = from.members, from
			if len(from.members) == 0 {
				b.add(path, file+" has no members")
			}
			continue
		}
		b.failed[path] = true
	}
}

func (b *builder) readSet(file string) (setFile, error) {
	f, err := b.file.in.readNear(file, maxSetFile, memberCost)
	if err != nil {
		return setFile{}, err
	}
	defer b.file.in.files.Done(file)
	if !utf8.Valid(f.Text) || bytes.IndexByte(f.Text, 0) >= 0 {
		return setFile{}, errors.New(file + " is no text in UTF-8")
	}
	return parseSet(file, f.Text), nil
}

// parseSet takes one member a line. Blank lines and those that begin with "#"
// say nothing.
func parseSet(name string, text []byte) setFile {
	from := setFile{name: name}
	n := 0
	for line := range strings.Lines(string(normalize(text))) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		from.members = append(from.members, line)
		from.lines = append(from.lines, n)
	}
	return from
}

var memberPath = regexp.MustCompile(`^policy\.sets(?:\.([\w-]+)|\["([\w.-]+)"\])\[(\d+)\]$`)

// member locates a mistake in the file of a set; false if path leads to none.
func (b *builder) member(path, msg string) (Finding, bool) {
	m := memberPath.FindStringSubmatch(path)
	if m == nil {
		return Finding{}, false
	}
	f, ok := b.setFiles[m[1]+m[2]]
	i, err := strconv.Atoi(m[3])
	if !ok || err != nil || i >= len(f.lines) {
		return Finding{}, false
	}
	shown := []rune(f.members[i])
	shown = shown[:min(len(shown), maxExcerpt)]
	for k, r := range shown {
		if !unicode.IsPrint(r) {
			shown[k] = '?'
		}
	}
	return Finding{File: f.name, Line: f.lines[i], Col: 1, Path: path, Msg: msg, Excerpt: fmt.Sprintf("%5d | %s\n      | ^", f.lines[i], string(shown))}, true
}
