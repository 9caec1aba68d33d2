package config

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// entry is one "key: value" of a mapping.
type entry struct {
	key   ast.MapKeyNode
	value ast.Node
}

func isMapping(n ast.Node) bool {
	_, ok := n.(ast.MapNode)
	return ok
}

func isContainer(n ast.Node) bool {
	_, list := n.(*ast.SequenceNode)
	return list || isMapping(n)
}

func isNull(n ast.Node) bool {
	_, ok := n.(*ast.NullNode)
	return ok
}

func mappingEntries(n ast.Node) []entry {
	switch m := n.(type) {
	case *ast.MappingValueNode:
		return []entry{{m.Key, m.Value}}
	case *ast.MappingNode:
		es := make([]entry, len(m.Values))
		for i, v := range m.Values {
			es[i] = entry{v.Key, v.Value}
		}
		return es
	}
	return nil
}

// placeOf is where a node begins. The library's own token of a block mapping
// is its first colon.
func (d *decoder) placeOf(n ast.Node) place {
	switch t := n.(type) {
	case nil:
		return d.src.clamp(place{})
	case *ast.LiteralNode:
		if strings.TrimSpace(t.Value.Value) == "" {
			return d.src.at(t.Start)
		}
		return d.src.blockScalar(t.Start)
	case *ast.MappingValueNode:
		return d.src.at(t.Key.GetToken())
	case *ast.MappingNode:
		if !t.IsFlowStyle && len(t.Values) > 0 {
			return d.src.at(t.Values[0].Key.GetToken())
		}
	case *ast.NullNode:
		// An absent value has a token that is not in the text.
		p := place{}
		if t.Token != nil && t.Token.Position != nil {
			p = place{line: t.Token.Position.Line, col: t.Token.Position.Column}
		}
		return d.src.clamp(p)
	}
	return d.src.at(n.GetToken())
}

// scalarText is a scalar as it is written, without quotes.
func scalarText(n ast.Node) string {
	switch t := n.(type) {
	case *ast.StringNode:
		return t.Value
	case *ast.LiteralNode:
		// No value of the configuration ends with a line break; block scalars do.
		return strings.TrimRight(t.Value.Value, "\n")
	}
	return nodeText(n)
}

// nodeText is the text of the token a node begins with.
func nodeText(n ast.Node) string {
	if n == nil || n.GetToken() == nil {
		return ""
	}
	return n.GetToken().Value
}

// describe names what was found where something else was wanted.
func describe(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "keys and values"
	case *ast.SequenceNode:
		return "a list"
	case *ast.StringNode, *ast.LiteralNode:
		return "the text " + quote(scalarText(n))
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "the number " + quote(nodeText(n))
	case *ast.BoolNode:
		return nodeText(n)
	}
	return quote(nodeText(n))
}

func isQuoted(n ast.Node) bool {
	t := n.GetToken()
	return t != nil && (t.Type == token.SingleQuoteType || t.Type == token.DoubleQuoteType)
}

// printable says whether a text is fit for a terminal: no line breaks, no
// control characters, none that turn the direction of writing. None of the
// configuration's values has a use for these.
func printable(s string) bool {
	return utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) })
}

// fieldsOf lists the keys of a struct in order of its fields.
func fieldsOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

// keysOf lists the keys of a struct for a message.
func keysOf(t reflect.Type) string {
	keys := fieldsOf(t)
	if len(keys) > 5 {
		keys = append(slices.Clone(keys[:5]), "...")
	}
	return strings.Join(keys, ", ")
}

// bindAliases finds what each alias stands for: the last anchor of its name
// before it (YAML 1.2.2, section 7.1). An alias inside of its own anchor stays
// unbound, so there are no cycles.
func bindAliases(d *decoder, root ast.Node) {
	anchors := map[string]ast.Node{}
	var walk func(ast.Node)
	walk = func(n ast.Node) {
		switch t := n.(type) {
		case *ast.AnchorNode:
			// What an earlier anchor of this name stood for is hidden inside.
			name := nodeText(t.Name)
			delete(anchors, name)
			walk(t.Value)
			anchors[name] = t.Value
		case *ast.AliasNode:
			if target, ok := anchors[nodeText(t.Value)]; ok {
				d.aliases[t] = target
			}
		case *ast.TagNode:
			walk(t.Value)
		case *ast.SequenceNode:
			for _, v := range t.Values {
				walk(v)
			}
		case *ast.MappingNode, *ast.MappingValueNode:
			for _, e := range mappingEntries(t) {
				walk(e.key)
				walk(e.value)
			}
		case *ast.MappingKeyNode:
			walk(t.Value)
		}
	}
	walk(root)
}
