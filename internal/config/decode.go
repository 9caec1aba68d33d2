package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/sslgate/sslgate/internal/fielderr"
	"github.com/sslgate/sslgate/policy"
)

// decoder walks the YAML tree along the Go types, because the library's own
// decoder stops at the first mistake. It notes where each value stands.
type decoder struct {
	src      *source
	in       *loading
	places   places
	findings []Finding
	tainted  []string
	aliases  map[*ast.AliasNode]ast.Node // what each alias stands for
	texts    map[string]scalarAt         // expressions, by path
	nodes    int                         // decoded so far, for maxNodes
	depth    int
	inAlias  int  // how many aliases lead to the value being decoded
	aliased  int  // values decoded behind aliases, for maxAliased
	enough   bool // so many mistakes that more are of no use
	full     bool // a bound was reached and reported: nothing more is decoded
	// emptyOK: inside permits, where an empty list permits no name.
	emptyOK bool
}

func (d *decoder) addf(p place, path, format string, args ...any) {
	d.findings = append(d.findings, d.src.finding(p, path, fmt.Sprintf(format, args...)))
	d.tainted = append(d.tainted, path)
	if len(d.findings) >= 5*maxFindings {
		d.enough = true // a mistake in a value that aliases repeat is there again and again
	}
}

// document decodes the top of the file. What is missing entirely is reported
// by checkValues.
func (d *decoder) document(body ast.Node, c *Config) {
	bindAliases(d, body)
	if !isMapping(body) {
		d.addf(d.placeOf(body), "", "the file wants keys such as `version: 1`, not %s", describe(body))
		return
	}
	d.places[""] = d.placeOf(body)
	d.structure(mappingEntries(body), reflect.ValueOf(c).Elem(), "")
}

// value decodes one node into v. where is the place of the key or list entry
// that holds the node.
func (d *decoder) value(n ast.Node, v reflect.Value, path string, where place) {
	d.depth++
	defer func() { d.depth-- }()
	if d.full || d.enough {
		return
	}
	if isAlias(n) {
		d.inAlias++
		defer func() { d.inAlias-- }()
	}
	n, at, ok := d.resolve(n, path, where)
	if !ok {
		return
	}
	d.places[path] = at
	if isNull(n) {
		d.addf(where, path, "has no value: write one, or take the key out")
		return
	}
	switch v.Interface().(type) {
	case Duration:
		decodeScalar(d, n, v, path, at, "a duration such as 10s", parseDuration)
		return
	case Size:
		decodeScalar(d, n, v, path, at, "a size such as 64KiB", parseSize)
		return
	case Ports:
		d.ports(n, v, path, at)
		return
	case policy.SetSpec:
		d.set(n, v, path, at)
		return
	case Local:
		if d.localWord(n, v) {
			return
		}
	case *LocalOut:
		if b, ok := n.(*ast.BoolNode); ok {
			if b.Value {
				v.Set(reflect.ValueOf(new(LocalOut)))
			}
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.depth--
		d.value(n, v.Elem(), path, where)
		d.depth++
	case reflect.Struct:
		if !isMapping(n) {
			d.addf(at, path, "wants keys (%s), not %s", keysOf(v.Type()), describe(n))
			return
		}
		d.structure(mappingEntries(n), v, path)
	case reflect.Map:
		if !isMapping(n) {
			d.addf(at, path, "wants names, each with its own keys below it, not %s", describe(n))
			return
		}
		d.names(mappingEntries(n), v, path)
	case reflect.Slice:
		d.list(n, v, path, at)
	default:
		d.scalar(n, v, path, at)
	}
}

func isAlias(n ast.Node) bool {
	_, yes := n.(*ast.AliasNode)
	return yes
}

// resolve follows anchors and aliases and counts what they cost.
func (d *decoder) resolve(n ast.Node, path string, where place) (_ ast.Node, at place, ok bool) {
	d.nodes++
	if d.inAlias > 0 {
		d.aliased++
		if d.aliased%1024 == 1 {
			d.in.take(1024 * aliasedCost)
		}
	}
	if d.nodes%1024 == 0 && d.in.over() {
		d.enough = true // nobody waits for it any more
		return nil, place{}, false
	}
	switch {
	case d.aliased > maxAliased:
		d.full = true
		d.addf(where, path, "more than %d values behind aliases: are aliases (*name) repeated too often? A list for many rules is a set (policy.sets)", maxAliased)
		return nil, place{}, false
	case d.nodes > maxNodes:
		d.full = true
		d.addf(where, path, "more than %d values: write lists as a set in a file (policy.sets)", maxNodes)
		return nil, place{}, false
	}
	if d.depth > maxDepth {
		d.addf(where, path, "nested deeper than %d levels", maxDepth)
		return nil, place{}, false
	}
	// An alias may lead to an anchor on an alias: bounded, for an anchor
	// stands before its alias.
	for hops := 0; hops <= maxDepth; hops++ {
		switch t := n.(type) {
		case *ast.AnchorNode:
			n = t.Value
			continue
		case *ast.AliasNode:
			target, known := d.aliases[t]
			if !known {
				d.addf(d.src.at(t.GetToken()), path, "no anchor %s before this alias, or the alias is inside of it", quote(nodeText(t.Value)))
				return nil, place{}, false
			}
			n = target
			continue
		case *ast.TagNode:
			d.addf(d.src.at(t.GetToken()), path, "YAML tags (%s) are not supported: remove it", quote(nodeText(t)))
			return nil, place{}, false
		}
		if n == nil {
			n = &ast.NullNode{BaseNode: &ast.BaseNode{}}
		}
		at = where
		if !isContainer(n) {
			at = d.placeOf(n)
		}
		return n, at, true
	}
	d.addf(where, path, "too many aliases of aliases")
	return nil, place{}, false
}

// structure decodes a mapping with known keys.
func (d *decoder) structure(entries []entry, v reflect.Value, path string) {
	defer func(was bool) { d.emptyOK = was }(d.emptyOK)
	d.emptyOK = v.Type() == reflect.TypeFor[policy.PermitsSpec]()
	fields := fieldsOf(v.Type())
	seen := map[string]place{}
	for _, e := range entries {
		key, ok := d.key(e, path, seen)
		if !ok {
			continue
		}
		i := slices.Index(fields, key)
		if i < 0 {
			at, hint := d.src.at(e.key.GetToken()), fielderr.Suggest(key, fields)
			kp := keyPath(path, key)
			d.places[kp] = at
			if hint == "" {
				hint = "; known here: " + strings.Join(fields, ", ")
			} else {
				// What else is said of the key that was meant is an echo.
				d.tainted = append(d.tainted, keyPath(path, strings.Split(hint, `"`)[1]))
			}
			d.addf(at, kp, "unknown key%s", hint)
			continue
		}
		d.value(e.value, v.Field(i), keyPath(path, key), d.src.at(e.key.GetToken()))
	}
}

// names decodes a mapping whose keys are names of the operator.
func (d *decoder) names(entries []entry, v reflect.Value, path string) {
	v.Set(reflect.MakeMap(v.Type()))
	seen := map[string]place{}
	for _, e := range entries {
		key, ok := d.key(e, path, seen)
		if !ok {
			continue
		}
		at := d.src.at(e.key.GetToken())
		if !isName(key) {
			d.addf(at, keyPath(path, key), "a name consists of letters, digits, \"-\", \"_\" and \".\", at most %d of them", maxName)
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		d.value(e.value, elem, keyPath(path, key), at)
		v.SetMapIndex(reflect.ValueOf(key), elem)
	}
}

// maxName is the number of bytes of a name: it stands in every record of a flow.
const maxName = 64

func isName(s string) bool {
	return s != "" && len(s) <= maxName && isWord(strings.ReplaceAll(s, ".", "_"))
}

// key returns the text of a key. It refuses what is no plain key, and a
// repeated one: YAML 1.2.2 (section 3.2.1.1) wants keys to be unique.
func (d *decoder) key(e entry, path string, seen map[string]place) (string, bool) {
	at := d.src.at(e.key.GetToken())
	switch k := e.key.(type) {
	case *ast.MergeKeyNode:
		d.addf(at, path, "merge keys (<<) are not supported: write the keys out, or alias whole values")
		return "", false
	case ast.ScalarNode:
		switch k.(type) {
		case *ast.AnchorNode, *ast.AliasNode, *ast.TagNode, *ast.LiteralNode:
		default:
			key := scalarText(k)
			if first, twice := seen[key]; twice {
				// Not tainted: the first one counts, and is checked like any other.
				d.findings = append(d.findings, d.src.finding(at, keyPath(path, key), fmt.Sprintf("the key is there twice: first in line %d", first.line)))
				return "", false
			}
			seen[key] = at
			return key, true
		}
	}
	d.addf(at, path, "a key must be a plain word before the colon")
	return "", false
}

func (d *decoder) list(n ast.Node, v reflect.Value, path string, at place) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		hint := ""
		if !isContainer(n) {
			hint = ": write [" + asEntry(scalarText(n)) + "]"
		} else if v.Type().Elem().Kind() == reflect.Struct {
			hint = `: begin each entry with "- "`
		}
		d.addf(at, path, "wants a list, not %s%s", describe(n), hint)
		return
	}
	v.Set(reflect.MakeSlice(v.Type(), len(seq.Values), len(seq.Values)))
	if len(seq.Values) == 0 && !d.emptyOK && !saysNone(path, v.Type()) {
		d.addf(at, path, "an empty list says nothing: fill it, or take the key out for the default")
	}
	for i, e := range seq.Values {
		if d.full || d.enough {
			return
		}
		d.value(e, v.Index(i), indexPath(path, i), d.placeOf(e))
	}
}

// saysNone says whether an empty list has a meaning that leaving it out has not:
// no rules deny everything, no excepted ports except none, and no alpn answers
// none. (One of permitted names permits none: emptyOK.) Anywhere else a reader may
// take it for "none" where it would mean "any".
func saysNone(path string, list reflect.Type) bool {
	return path == exceptPorts || list == reflect.TypeFor[[]policy.RuleSpec]() ||
		strings.HasPrefix(path, "policy.rules[") && strings.HasSuffix(path, "].alpn")
}

// asEntry writes a text so that it can stand in a list.
func asEntry(text string) string {
	switch {
	case len(text) > 40 || !printable(text):
		return "..."
	case strings.ContainsAny(text, "*&!%@`'\"#,[]{}:?|> "):
		return strconv.Quote(text)
	}
	return text
}
