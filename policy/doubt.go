package policy

import (
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"

	"github.com/sslgate/sslgate/internal/certname"
)

// This file finds what can be read, but is hardly what was meant: patterns where
// texts are compared as they are, and names in a form that no certificate's is
// written in.

const (
	wildcard   = `"*" stands for itself here, for the text is compared as it is; san_dns, san_uri and san_email take patterns, and a condition (when) has startsWith and matches`
	expression = "the text is compared as it is, and this looks like a regular expression; a condition (when) has matches"
)

// doubtText is about a text that is compared as it is.
func doubtText(s string) string {
	switch {
	case strings.Contains(s, "*"):
		return wildcard
	case strings.HasPrefix(s, "^") || strings.HasSuffix(s, "$"):
		return expression
	case strings.TrimSpace(s) != s:
		return fmt.Sprintf("the space at its end is compared too; write %q", strings.TrimSpace(s))
	}
	return ""
}

// doubtCountry: a country is two capital letters (X.520, section 6.3.1; ISO 3166).
func doubtCountry(s string) string {
	if len(s) == 2 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
		return ""
	}
	if upper := strings.ToUpper(s); len(s) == 2 && upper != s {
		return fmt.Sprintf("a country in a certificate is two capital letters (ISO 3166), and compared as it is; write %q", upper)
	}
	if why := doubtText(s); why != "" {
		return why
	}
	return `a country in a certificate is two capital letters (ISO 3166), such as "DE"`
}

// dnTypes are the attribute types whose names are written in capitals (RFC 4514,
// section 3).
const dnTypes = " CN L ST O OU C STREET DC UID SERIALNUMBER POSTALCODE "

// doubtDN is about a distinguished name, in the one form of RFC 4514 that is
// compared, or as it was written where it cannot be read.
func doubtDN(s string) string {
	if strings.Contains(s, "*") {
		return wildcard
	}
	_, err := certname.Canonical(s)
	if err == nil {
		return ""
	}
	const never = "no certificate's name is written like this (RFC 4514), so it never fits; "
	if want, err := certname.Canonical(plainDN(s)); err == nil {
		return never + fmt.Sprintf("write %q", want)
	}
	return never + err.Error()
}

// plainDN writes a name as RFC 4514 does: the first RDN last, nothing between them
// but a comma.
func plainDN(s string) string {
	if rest, slashes := strings.CutPrefix(s, "/"); slashes {
		parts := strings.Split(rest, "/") // the old form of openssl, first RDN first
		for i, j := 0, len(parts)-1; i < j; i, j = i+1, j-1 {
			parts[i], parts[j] = parts[j], parts[i]
		}
		s = strings.Join(parts, ",")
	}
	rdns := splitUnescaped(s, ',')
	for i, rdn := range rdns {
		kind, value, ok := strings.Cut(strings.TrimLeft(rdn, " "), "=")
		if !ok {
			continue
		}
		kind = strings.TrimSpace(kind)
		if upper := strings.ToUpper(kind); strings.Contains(dnTypes, " "+upper+" ") {
			kind = upper
		}
		value = strings.TrimLeft(value, " ")
		if i < len(rdns)-1 && !strings.HasSuffix(value, `\ `) {
			value = strings.TrimRight(value, " ")
		}
		rdns[i] = kind + "=" + value
	}
	return strings.Join(rdns, ",")
}

// splitUnescaped splits at a byte that no backslash stands before (RFC 4514,
// section 2.4).
func splitUnescaped(s string, at byte) []string {
	var out []string
	from := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case at:
			out, from = append(out, s[from:i]), i+1
		}
	}
	return append(out, s[from:])
}

// doubtProtocols: protocols are compared byte by byte (RFC 7301, section 3.1).
func doubtProtocols(at scope, field string, protocols []string) {
	for i, p := range protocols {
		if strings.Contains(p, "*") {
			at.warnf(fmt.Sprintf("%s[%d]", field, i), `%q: "*" stands for itself here, for protocols are compared as they are`, clip(p))
		}
	}
}

// doubtCondition warns where a condition compares with a text that has a "*".
func doubtCondition(at scope, field string, compiled *cel.Ast) {
	said := false
	literal := func(e ast.Expr) {
		if e.Kind() != ast.LiteralKind || said {
			return
		}
		if s, ok := e.AsLiteral().Value().(string); ok && strings.Contains(s, "*") {
			said = true
			at.warnf(field, `%q: "*" stands for itself here, for == and in compare texts as they are; write startsWith, endsWith or matches for a pattern`, clip(s))
		}
	}
	ast.PostOrderVisit(compiled.NativeRep().Expr(), ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind {
			return
		}
		switch e.AsCall().FunctionName() {
		case operators.Equals, operators.NotEquals, operators.In:
			for _, arg := range e.AsCall().Args() {
				literal(arg)
				if arg.Kind() == ast.ListKind {
					for _, element := range arg.AsList().Elements() {
						literal(element)
					}
				}
			}
		}
	}))
}
