package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sslgate/sslgate/internal/fielderr"
)

// Finding is one mistake in a configuration file, or one warning about it.
type Finding struct {
	File string // as it was named by the caller
	Line int    // from 1
	Col  int    // from 1, in characters
	// Path of the key in the form of fielderr.Error; "" where the mistake
	// belongs to no key, such as a syntax error.
	Path string
	Msg  string
	// Excerpt is the source line with its number and a line below it with a
	// caret under the place. "" where there is no line to show.
	Excerpt string
	// Mend says what to do where the configuration is right, but what a file
	// holds ends or has ended; "" elsewhere.
	Mend string
	// Warning marks what is worth saying but does not stop `run`.
	Warning bool
}

// String is one line: "gateway.yaml:3:7: tun.mtu: wants a whole number".
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Col)
	if f.Warning {
		b.WriteString("warning: ")
	}
	if f.Path != "" {
		b.WriteString(f.Path)
		b.WriteString(": ")
	}
	b.WriteString(f.Msg)
	return b.String()
}

// The escape sequences of Format (ECMA-48, SGR).
const (
	sgrBold   = "\x1b[1m"
	sgrRed    = "\x1b[31m"
	sgrYellow = "\x1b[33m"
	sgrReset  = "\x1b[0m"
)

// Format is String and the excerpt below it, with a newline at the end.
// Colour is for terminals only.
func (f Finding) Format(color bool) string {
	head, excerpt := f.String(), f.Excerpt
	if color {
		mark := sgrRed
		if f.Warning {
			mark = sgrYellow
		}
		head = sgrBold + head + sgrReset
		if line, caret, ok := strings.Cut(excerpt, "\n"); ok {
			excerpt = line + "\n" + mark + caret + sgrReset
		}
	}
	if excerpt == "" {
		return head + "\n"
	}
	return head + "\n" + excerpt + "\n"
}

// Findings is what Load and Parse return as their error: everything wrong
// with a file.
type Findings []Finding

// Error has one line a finding.
func (fs Findings) Error() string {
	lines := make([]string, len(fs))
	for i, f := range fs {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// Failed says whether anything but warnings was found.
func Failed(fs []Finding) bool {
	return slices.ContainsFunc(fs, func(f Finding) bool { return !f.Warning })
}

// Sort puts errors before warnings, each by position.
func Sort(fs []Finding) {
	slices.SortStableFunc(fs, func(a, b Finding) int {
		switch {
		case a.Warning != b.Warning && b.Warning:
			return -1
		case a.Warning != b.Warning:
			return 1
		case a.Line != b.Line:
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
}

// Finding locates a mistake: at the value of the path, or at its nearest
// parent that stands in the file.
func (f *File) Finding(path, msg string) Finding {
	path = joinSegments(segments(path))
	return f.sourceOf(path).finding(f.places.nearest(path), path, msg)
}

// Warning is Finding for what does not stop `run`.
func (f *File) Warning(path, msg string) Finding {
	w := f.Finding(path, msg)
	w.Warning = true
	return w
}

// others says where the other places stand that a mistake in a section is about:
// " (also gateway.yaml:17:7)"; "" for none.
func (f *File) others(section string, e *fielderr.Error) string {
	if len(e.Also) == 0 {
		return ""
	}
	places := make([]string, len(e.Also))
	for i, path := range e.Also {
		at := f.Finding(fielderr.Join(section, path), "")
		places[i] = fmt.Sprintf("%s:%d:%d", at.File, at.Line, at.Col)
	}
	return " (also " + strings.Join(places, ", ") + ")"
}

// Locate is Finding for every *fielderr.Error inside err, with section put
// before each path. Any other error is located at the section.
func (f *File) Locate(section string, err error) []Finding {
	var fs []Finding
	for _, e := range fielderr.All(err) {
		l := f.Finding(fielderr.Join(section, e.Path), e.Msg)
		l.Warning = e.Warning
		fs = append(fs, l)
	}
	return fs
}
