package policy

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/sslgate/sslgate/policy/pattern"
)

// YAML writes the policy section as it would be written by hand: what is not
// set is left out, sets and rules in block style, short lists in one line.
// Reading it back gives an equal Spec.
func (s Spec) YAML() string {
	var p printer
	p.structure(reflect.ValueOf(s), 0, "")
	if p.Len() == 0 {
		return "{}\n"
	}
	return p.String()
}

// YAML writes one rule like an entry of rules, without the leading "- ".
func (r RuleSpec) YAML() string {
	var p printer
	p.structure(reflect.ValueOf(r), 0, "")
	return p.String()
}

type printer struct{ strings.Builder }

// structure writes the fields of a struct that are set, one a line. first is
// what stands before the first line instead of its indentation.
func (p *printer) structure(v reflect.Value, depth int, first string) {
	begin := func() {
		if first != "" {
			p.WriteString(first)
			first = ""
			return
		}
		p.WriteString(strings.Repeat("  ", depth))
	}
	for i := range v.NumField() {
		f := v.Field(i)
		if f.IsZero() {
			continue
		}
		begin()
		p.WriteString(v.Type().Field(i).Tag.Get("yaml") + ":")
		p.value(f, depth)
	}
	if first != "" {
		// A list entry without a field: an empty mapping.
		p.WriteString(strings.TrimRight(first, " ") + " {}\n")
	}
}

// value writes what stands behind a key and its colon.
func (p *printer) value(v reflect.Value, depth int) {
	switch x := v.Interface().(type) {
	case SetSpec:
		if x.File != "" {
			p.WriteString(" {file: " + scalar(x.File) + "}\n")
			return
		}
		p.list(reflect.ValueOf(x.Members))
		return
	case Expression:
		p.expression(string(x), depth)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		p.value(v.Elem(), depth)
	case reflect.Struct:
		if v.IsZero() {
			p.WriteString(" {}\n")
			return
		}
		p.WriteString("\n")
		p.structure(v, depth+1, "")
	case reflect.Map:
		p.names(v, depth)
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct || v.Len() == 0 {
			p.list(v)
			return
		}
		p.WriteString("\n")
		indent := strings.Repeat("  ", depth+1)
		for i := range v.Len() {
			p.structure(v.Index(i), depth+2, indent+"- ")
		}
	case reflect.String:
		p.WriteString(" " + scalar(v.String()) + "\n")
	case reflect.Int, reflect.Bool:
		fmt.Fprintf(p, " %v\n", v.Interface())
	default:
		// A new kind of field: a mistake of the programmer, which the test over
		// all fields finds.
		panic("policy: no way to print a " + v.Type().String())
	}
}

func (p *printer) names(v reflect.Value, depth int) {
	if v.Len() == 0 {
		p.WriteString(" {}\n")
		return
	}
	p.WriteString("\n")
	byName := map[string]reflect.Value{}
	for it := v.MapRange(); it.Next(); {
		byName[it.Key().String()] = it.Value()
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		p.WriteString(strings.Repeat("  ", depth+1) + scalar(name) + ":")
		p.value(byName[name], depth+1)
	}
}

func (p *printer) list(v reflect.Value) {
	entries := make([]string, v.Len())
	for i := range entries {
		entries[i] = scalar(v.Index(i).String())
	}
	p.WriteString(" [" + strings.Join(entries, ", ") + "]\n")
}

// expression writes one of several lines as a literal block, if that keeps it
// as it is.
func (p *printer) expression(text string, depth int) {
	lines := strings.Split(text, "\n")
	block := len(lines) > 1 && !strings.HasSuffix(text, "\n") && lines[0] != "" && lines[0][0] != ' '
	for _, l := range lines {
		block = block && pattern.PlainText(l) && strings.TrimRight(l, " \t") == l && !strings.Contains(l, "\t")
	}
	if !block {
		p.WriteString(" " + scalar(text) + "\n")
		return
	}
	p.WriteString(" |-\n")
	indent := strings.Repeat("  ", depth+1)
	for _, l := range lines {
		if l != "" {
			l = indent + l
		}
		p.WriteString(l + "\n")
	}
}

// scalar writes a text: as it is where YAML cannot take it for anything else,
// else in double quotes with the escapes that YAML and Go share.
func scalar(s string) string {
	plain := s != "" && pattern.IsLetterOrDigit(s[0]) && !isYAMLWord(s)
	for i := range len(s) {
		c := s[i]
		plain = plain && (pattern.IsLetterOrDigit(c) || c == '-' || c == '_' || c == '.' || c == '/')
	}
	if plain && strings.Trim(s, "0123456789.-_abcdefABCDEFxXoO") != "" {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case strconv.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// isYAMLWord says whether YAML, 1.1 or 1.2, may read a word as no text.
func isYAMLWord(s string) bool {
	return slices.Contains([]string{"true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"}, strings.ToLower(strings.Trim(s, ".")))
}
