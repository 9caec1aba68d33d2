package policy

import (
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// bounded are the functions of CEL's extensions that make more of their operands
// or take longer than their length, each with its bound.
func bounded() []cel.EnvOption {
	list, text, whole := cel.ListType(cel.StringType), cel.StringType, cel.IntType
	things := cel.ListType(cel.TypeParamType("T"))
	member := func(name, id string, result *cel.Type, f func(...ref.Val) ref.Val, args ...*cel.Type) cel.EnvOption {
		return cel.Function(name, cel.MemberOverload(id, args, result, cel.FunctionBinding(f)))
	}
	sets := func(name, id string, f func(a, b traits.Lister) ref.Val) cel.EnvOption {
		return cel.Function(name, cel.Overload(id, []*cel.Type{things, things}, cel.BoolType, cel.BinaryBinding(func(a, b ref.Val) ref.Val {
			left, ok := a.(traits.Lister)
			right, too := b.(traits.Lister)
			if !ok || !too {
				return types.NoSuchOverloadErr()
			}
			if n := sizeOf(a) * sizeOf(b); n > maxPairs {
				return types.NewErr("%s of lists with %d and %d entries: at most %d pairs are compared", name, sizeOf(a), sizeOf(b), maxPairs)
			}
			return f(left, right)
		})))
	}
	return []cel.EnvOption{
		member("replace", "string_replace_string_string", text, replaceText, text, text, text),
		member("replace", "string_replace_string_string_int", text, replaceText, text, text, text, whole),
		member("join", "list_join", text, joinTexts, list),
		member("join", "list_join_string", text, joinTexts, list, text),
		member("indexOf", "string_index_of_string", whole, indexIn, text, text),
		member("indexOf", "string_index_of_string_int", whole, indexIn, text, text, whole),
		member("lastIndexOf", "string_last_index_of_string", whole, lastIndexIn, text, text),
		member("lastIndexOf", "string_last_index_of_string_int", whole, lastIndexIn, text, text, whole),
		cel.Function("strings.quote", cel.Overload("strings_quote", []*cel.Type{text}, text, cel.UnaryBinding(quoteText))),
		sets("sets.contains", "list_sets_contains_list", containsAllOf),
		sets("sets.intersects", "list_sets_intersects_list", intersects),
		sets("sets.equivalent", "list_sets_equivalent_list", func(a, b traits.Lister) ref.Val {
			if r := containsAllOf(a, b); r != types.True {
				return r
			}
			return containsAllOf(b, a)
		}),
	}
}

func tooLong(n int) ref.Val {
	return types.NewErr("a text of %d bytes would be made: at most %d", n, maxText)
}

// stringsOf takes strings apart; false where one is none.
func stringsOf(values []ref.Val) ([]string, bool) {
	out := make([]string, len(values))
	for i, v := range values {
		s, ok := v.(types.String)
		if !ok {
			return nil, false
		}
		out[i] = string(s)
	}
	return out, true
}

func replaceText(values ...ref.Val) ref.Val {
	s, ok := stringsOf(values[:min(3, len(values))])
	if !ok || len(s) != 3 {
		return types.NoSuchOverloadErr()
	}
	n := -1
	if len(values) == 4 {
		limit, ok := values[3].(types.Int)
		if !ok {
			return types.NoSuchOverloadErr()
		}
		n = int(limit)
	}
	times := strings.Count(s[0], s[1])
	if n >= 0 {
		times = min(times, n)
	}
	if size := len(s[0]) + times*(len(s[2])-len(s[1])); size > maxText {
		return tooLong(size)
	}
	return types.String(strings.Replace(s[0], s[1], s[2], n))
}

func joinTexts(values ...ref.Val) ref.Val {
	list, ok := values[0].(traits.Lister)
	if !ok {
		return types.NoSuchOverloadErr()
	}
	separator := ""
	if len(values) == 2 {
		s, ok := values[1].(types.String)
		if !ok {
			return types.NoSuchOverloadErr()
		}
		separator = string(s)
	}
	var b strings.Builder
	for i, it := 0, list.Iterator(); it.HasNext() == types.True; i++ {
		s, ok := it.Next().(types.String)
		if !ok {
			return types.NoSuchOverloadErr()
		}
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(string(s))
		if b.Len() > maxText {
			return tooLong(b.Len())
		}
	}
	return types.String(b.String())
}

// indexIn and lastIndexIn count characters and answer as CEL's own do, in time
// linear in the text.
func indexIn(values ...ref.Val) ref.Val {
	s, size, from, bad := searched(values)
	switch {
	case bad != nil:
		return bad
	case s[1] == "":
		return types.Int(min(from, size))
	case from >= size:
		return types.Int(-1)
	}
	begin := byteAt(s[0], from)
	if at := strings.Index(s[0][begin:], s[1]); at >= 0 {
		return types.Int(from + utf8.RuneCountInString(s[0][begin:begin+at]))
	}
	return types.Int(-1)
}

func lastIndexIn(values ...ref.Val) ref.Val {
	s, size, from, bad := searched(values)
	given := len(values) == 3
	switch {
	case bad != nil:
		return bad
	case s[1] == "" && given:
		return types.Int(min(from, size))
	case s[1] == "":
		return types.Int(size)
	case given && from >= size:
		return types.Int(-1)
	}
	end := len(s[0])
	if given {
		end = min(end, byteAt(s[0], from)+len(s[1]))
	}
	if at := strings.LastIndex(s[0][:end], s[1]); at >= 0 {
		return types.Int(utf8.RuneCountInString(s[0][:at]))
	}
	return types.Int(-1)
}

// searched reads the arguments of a search: the text and what is looked for, the
// text's size and the offset, 0 where none is given, in characters.
func searched(values []ref.Val) (s []string, size, from int, bad ref.Val) {
	s, ok := stringsOf(values[:min(2, len(values))])
	if !ok || len(s) != 2 {
		return nil, 0, 0, types.NoSuchOverloadErr()
	}
	size = utf8.RuneCountInString(s[0])
	if len(values) == 3 {
		at, ok := values[2].(types.Int)
		if !ok {
			return nil, 0, 0, types.NoSuchOverloadErr()
		}
		if at < 0 {
			return nil, 0, 0, types.NewErr("index out of range: %d", at)
		}
		from = int(at)
	}
	return s, size, from, nil
}

// byteAt is where the n-th character begins.
func byteAt(s string, n int) int {
	for i := range s {
		if n == 0 {
			return i
		}
		n--
	}
	return len(s)
}

func quoteText(v ref.Val) ref.Val {
	s, ok := v.(types.String)
	if !ok {
		return types.NoSuchOverloadErr()
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range strings.ToValidUTF8(string(s), "\uFFFD") {
		if at := strings.IndexRune("\a\b\f\n\r\t\v\\\"", r); at >= 0 {
			b.WriteByte('\\')
			b.WriteByte("abfnrtv\\\""[at])
		} else {
			b.WriteRune(r)
		}
		if b.Len() > maxText {
			return tooLong(b.Len())
		}
	}
	b.WriteByte('"')
	return types.String(b.String())
}

func containsAllOf(a, b traits.Lister) ref.Val {
	for it := b.Iterator(); it.HasNext() == types.True; {
		if a.Contains(it.Next()) != types.True {
			return types.False
		}
	}
	return types.True
}

func intersects(a, b traits.Lister) ref.Val {
	for it := a.Iterator(); it.HasNext() == types.True; {
		if b.Contains(it.Next()) == types.True {
			return types.True
		}
	}
	return types.False
}
