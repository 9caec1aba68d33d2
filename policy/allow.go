package policy

import (
	"fmt"
	"slices"
	"strings"
)

// alternative is one compiled entry of allow: every demand must be met.
type alternative struct {
	demands []demand
	named   bool // something but the subject tells one owner from another
}

// demand is one field of an alternative.
type demand struct {
	field  string
	met    func(*claims) bool
	seen   func(*claims) []string // what the certificate has instead; may quote the peer
	wanted string                 // for a person
	// canonical is what was written, for the digest and to find repeats.
	canonical string
	// To compare two demands of one field: the entries of a list, sorted, or the
	// smallest or largest number that will do.
	entries     []string
	least, most int64
}

// unmet is the first demand that a certificate does not meet; nil if it meets
// all of them.
func (a *alternative) unmet(c *claims) *demand {
	for i := range a.demands {
		if d := &a.demands[i]; !d.met(c) {
			return d
		}
	}
	return nil
}

func (a *alternative) canonical() string {
	var parts []string
	for _, d := range a.demands {
		parts = append(parts, d.field+" "+d.canonical)
	}
	return strings.Join(parts, "; ")
}

// allowed says whether one of the alternatives fits; none demands nothing.
func allowed(allow []alternative, c *claims) bool {
	return len(allow) == 0 || slices.ContainsFunc(allow, func(a alternative) bool { return a.unmet(c) == nil })
}

// allowText is equal for lists that say the same, in whatever order.
func allowText(list []alternative) string {
	texts := make([]string, len(list))
	for i := range list {
		texts[i] = list[i].canonical()
	}
	slices.Sort(texts)
	return strings.Join(texts, "\n")
}

func equal(a, b string) bool { return a == b }

// Bounds of a NotAllowed detail, which would else grow with the rule and with
// the certificate: about 8 x (4 x 128 + 32) bytes, 4.4 KB.
const (
	maxAlternatives = 8
	maxValues       = 4
)

// refusals says for every alternative the first field that did not fit, with
// what the certificate has instead.
func refusals(allow []alternative, c *claims) string {
	var b strings.Builder
	for i := range allow {
		if i > 0 {
			b.WriteString("; ")
		}
		if i == maxAlternatives {
			fmt.Fprintf(&b, "and %d more", len(allow)-i)
			break
		}
		if d := allow[i].unmet(c); d != nil {
			fmt.Fprintf(&b, "allow[%d]: %s%s", i, d.field, quoted(d.seen(c)))
		}
	}
	return b.String()
}

// quoted lists what a certificate has, bounded: " (none)", " (a, b and 3 more)".
func quoted(values []string) string {
	values = slices.DeleteFunc(slices.Clone(values), func(s string) bool { return s == "" })
	if len(values) == 0 {
		return " (none)"
	}
	more := ""
	if n := len(values) - maxValues; n > 0 {
		values, more = values[:maxValues], fmt.Sprintf(" and %d more", n)
	}
	for i := range values {
		values[i] = clip(values[i])
	}
	return " (" + strings.Join(values, ", ") + more + ")"
}
