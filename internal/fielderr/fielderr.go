// Package fielderr carries the place of a mistake in a configuration from the package that
// understands the value to the one that knows the file: policy and handshake say
// "rules[2].sni[0]", internal/config adds file, line and column.
package fielderr

import (
	"errors"
	"fmt"
	"strings"
)

// Error is one mistake. The zero value is useless.
type Error struct {
	// Path from the root of the section that was compiled, in the form
	// "rules[2].client.allow[0].san_uri[1]". A mapping key that is not a plain
	// word is written ["..."].
	Path string
	// Offset is the position of the mistake in the value, in characters of the decoded
	// text; 0 is the beginning, and also means the value as a whole.
	Offset int
	// Msg says what is wrong and, where one is known, what to write instead.
	Msg string
	// Warning marks a mistake that is reported but does not stop `run`.
	Warning bool
	// Also are the paths of other places that the mistake involves, such as a rule that
	// another rule bypasses; from the same root as Path.
	Also []string
}

// Error is "path: msg".
func (e *Error) Error() string { return e.Path + ": " + e.Msg }

// List collects mistakes, so that all of them are reported at once.
type List struct{ errs []error }

// Addf adds a mistake.
func (l *List) Addf(path, format string, args ...any) {
	l.errs = append(l.errs, &Error{Path: path, Msg: fmt.Sprintf(format, args...)})
}

// AddAt adds a mistake inside a text, at an offset in characters.
func (l *List) AddAt(path string, offset int, format string, args ...any) {
	l.errs = append(l.errs, &Error{Path: path, Offset: offset, Msg: fmt.Sprintf(format, args...)})
}

// Warnf adds a warning.
func (l *List) Warnf(path, format string, args ...any) {
	l.errs = append(l.errs, &Error{Path: path, Msg: fmt.Sprintf(format, args...), Warning: true})
}

// WarnAlso adds a warning that is about other places too.
func (l *List) WarnAlso(path string, also []string, format string, args ...any) {
	l.errs = append(l.errs, &Error{Path: path, Msg: fmt.Sprintf(format, args...), Warning: true, Also: also})
}

// Add adds all mistakes inside err with prefix before their path. An error
// that is not an Error gets the prefix as its path.
func (l *List) Add(prefix string, err error) {
	for _, e := range All(err) {
		moved := *e
		moved.Path, moved.Also = Join(prefix, e.Path), make([]string, len(e.Also))
		for i, path := range e.Also {
			moved.Also[i] = Join(prefix, path)
		}
		l.errs = append(l.errs, &moved)
	}
}

// Err returns all collected mistakes as one error, nil if there are none.
func (l *List) Err() error { return errors.Join(l.errs...) }

// Failed says whether anything but warnings was collected.
func (l *List) Failed() bool {
	for _, e := range All(l.Err()) {
		if !e.Warning {
			return true
		}
	}
	return false
}

// All splits an error into its mistakes. An error that is not an Error becomes one with an empty
// path.
func All(err error) []*Error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, e := range j.Unwrap() {
			all = append(all, All(e)...)
		}
		return all
	}
	var e *Error
	if errors.As(err, &e) {
		return []*Error{e}
	}
	return []*Error{{Msg: err.Error()}}
}

// Join puts two paths together: Join("a", "b") is "a.b", Join("a", "[0]") is "a[0]".
func Join(a, b string) string {
	switch {
	case a == "":
		return b
	case b == "", strings.HasPrefix(b, "["):
		return a + b
	}
	return a + "." + b
}

// Suggest returns ` (did you mean "x"?)` for the candidate nearest to word, or
// the empty string if none is near: at most a third of the letters differ.
func Suggest(word string, candidates []string) string {
	best, bestDist := "", len(word)/3+1
	for _, c := range candidates {
		if d := distance(strings.ToLower(word), strings.ToLower(c)); d < bestDist || (d == bestDist && best == "") {
			best, bestDist = c, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	prev := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur := make([]int, len(b)+1)
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
		}
		prev = cur
	}
	return prev[len(b)]
}
