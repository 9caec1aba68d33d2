package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/sslgate/sslgate/policy"
)

// decodeScalar decodes a value whose text has a grammar of its own.
func decodeScalar[T any](d *decoder, n ast.Node, v reflect.Value, path string, at place, want string, parse func(string) (T, error)) {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode:
	default:
		d.addf(at, path, "wants %s, not %s", want, describe(n))
		return
	}
	x, err := parse(scalarText(n))
	if err != nil {
		d.addf(at, path, "%s", err)
		return
	}
	v.Set(reflect.ValueOf(x))
}

// scalar decodes texts, numbers, and true or false.
func (d *decoder) scalar(n ast.Node, v reflect.Value, path string, at place) {
	switch v.Kind() {
	case reflect.String:
		d.text(n, v, path, at)
	case reflect.Bool:
		b, ok := n.(*ast.BoolNode)
		if !ok {
			d.addf(at, path, "wants true or false, not %s", describe(n))
			return
		}
		v.SetBool(b.Value)
	case reflect.Int, reflect.Uint32:
		i, ok := d.number(n, path, at)
		switch {
		case !ok:
		case v.Kind() == reflect.Int:
			if v.OverflowInt(i) {
				d.addf(at, path, "%d is too large", i)
				return
			}
			v.SetInt(i)
		case i < 0 || v.OverflowUint(uint64(i)):
			d.addf(at, path, "must be from 0 to 0xffffffff, not %d", i)
		default:
			v.SetUint(uint64(i))
		}
	default:
		// A new kind of field in config.go: a mistake of the programmer, which
		// the test over all fields finds.
		panic("config: no decoder for " + v.Type().String())
	}
}

// text decodes a string. Numbers are taken as they are written, so that
// `versions: [1.2]` is what it looks like; true, false and null are not.
func (d *decoder) text(n ast.Node, v reflect.Value, path string, at place) {
	switch n.(type) {
	case *ast.StringNode, *ast.LiteralNode, *ast.IntegerNode, *ast.FloatNode:
	case *ast.BoolNode:
		d.addf(at, path, `wants text, not %s: quote it if it is meant: "%[1]s"`, nodeText(n))
		return
	default:
		d.addf(at, path, "wants text, not %s", describe(n))
		return
	}
	s := scalarText(n)
	switch {
	case s == "":
		d.addf(at, path, "is empty: fill it, or take the key out")
	case v.Type() == reflect.TypeFor[policy.Expression]() && printable(strings.NewReplacer("\n", "", "\t", "").Replace(s)):
		d.noteText(n, path, at, s)
		v.SetString(s)
	case !printable(s):
		d.addf(at, path, "has line breaks or invisible characters: %s", quote(s))
	default:
		v.SetString(s)
	}
}

func (d *decoder) number(n ast.Node, path string, at place) (int64, bool) {
	switch n.(type) {
	case *ast.IntegerNode, *ast.FloatNode:
		i, err := parseInt(nodeText(n))
		if err != nil {
			d.addf(at, path, "%s", err)
			return 0, false
		}
		return i, true
	}
	if isQuoted(n) {
		if _, err := parseInt(scalarText(n)); err == nil {
			d.addf(at, path, "wants a whole number: take the quotes off %s", quote(scalarText(n)))
			return 0, false
		}
	}
	d.addf(at, path, "wants a whole number, not %s", describe(n))
	return 0, false
}

// localWord decodes capture.local where it is a word. False: it is none of them.
func (d *decoder) localWord(n ast.Node, v reflect.Value) bool {
	if isContainer(n) {
		return false
	}
	word := scalarText(n)
	if word != "capture" && word != "drop" {
		return false
	}
	v.Set(reflect.ValueOf(Local{In: word == "capture"}))
	return true
}

// ports decodes capture.ports: "all" or a list.
func (d *decoder) ports(n ast.Node, v reflect.Value, path string, at place) {
	seq, ok := n.(*ast.SequenceNode)
	if !ok {
		text := scalarText(n)
		_, notNumber := parseInt(text)
		switch {
		case !isContainer(n) && text == "all":
			v.Set(reflect.ValueOf(Ports{All: true}))
		case !isContainer(n) && notNumber == nil:
			d.addf(at, path, "wants a list of ports: write [%s]", text)
		default:
			d.addf(at, path, `wants a list of ports such as [443, 8443], or "all", not %s`, describe(n))
		}
		return
	}
	var list []uint16
	seen := map[int]bool{}
	if len(seq.Values) == 0 {
		d.addf(at, path, `an empty list captures nothing: name ports, or write "all"`)
	}
	for i, e := range seq.Values {
		var port int
		bad := len(d.findings)
		p := indexPath(path, i)
		d.value(e, reflect.ValueOf(&port).Elem(), p, d.placeOf(e))
		switch {
		case len(d.findings) != bad:
		case port < 1 || port > 65535:
			d.addf(d.places[p], p, "%d is no port: 1 to 65535", port)
		case seen[port]:
			d.addf(d.places[p], p, "port %d is listed twice", port)
		default:
			seen[port] = true
			list = append(list, uint16(port))
		}
	}
	slices.Sort(list)
	v.Set(reflect.ValueOf(Ports{List: list}))
}
