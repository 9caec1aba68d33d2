package config

import (
	"strconv"
	"unicode"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// scalarAt is a text and where it is written, for places inside of it.
type scalarAt struct {
	place place
	quote rune   // ' or "; 0 for a plain text and for the lines of a block
	text  []rune // as it was decoded
}

// noteText remembers a text that others find mistakes inside of.
func (d *decoder) noteText(n ast.Node, path string, at place, text string) {
	s := scalarAt{place: at, text: []rune(text)}
	if t := n.GetToken(); t != nil {
		switch t.Type {
		case token.SingleQuoteType:
			s.quote = '\''
		case token.DoubleQuoteType:
			s.quote = '"'
		default: // plain, or a block
		}
	}
	d.texts[path] = s
}

// within is the place of a character of a text, given its offset there. YAML
// folds and strips white space in five ways, but whatever the style, the other
// characters stand in the file in the same order, so these are counted.
func (s *source) within(t scalarAt, offset int) place {
	if offset <= 0 || len(t.text) == 0 {
		return t.place
	}
	offset = min(offset, len(t.text))
	before, last := 0, -1 // characters before offset that are no white space; the last of them
	for i, r := range t.text[:offset] {
		if !unicode.IsSpace(r) {
			before, last = before+1, i
		}
	}
	inText := offset < len(t.text) && !unicode.IsSpace(t.text[offset])
	c := cursor{s: s, line: t.place.line, col: t.place.col, quote: t.quote}
	if t.quote != 0 {
		c.col++
	}
	p := t.place // of the character that was found last
	for range before {
		next, ok := c.next()
		if !ok {
			return s.clamp(p)
		}
		p = next
	}
	if inText {
		if next, ok := c.next(); ok {
			return s.clamp(next)
		}
	}
	if before == 0 {
		return t.place
	}
	// White space, or the end: as far behind the last character as in the text.
	return s.clamp(place{line: p.line, col: p.col + offset - last})
}

// cursor walks over the characters of a scalar in the file.
type cursor struct {
	s         *source
	line, col int
	quote     rune
}

// next returns the place of the next character that is no white space.
func (c *cursor) next() (place, bool) {
	for c.line <= len(c.s.lines) {
		line := c.s.line(c.line)
		if c.col > len(line) {
			c.line, c.col = c.line+1, 1
			continue
		}
		at := place{line: c.line, col: c.col, width: 1}
		r, size := line[c.col-1], 1
		switch {
		case c.quote == '"' && r == '\\':
			r, size = escaped(line[c.col-1:])
		case c.quote == '\'' && r == '\'':
			size = 2 // two stand for one (YAML 1.2.2, section 7.3.2)
		}
		c.col += size
		if !unicode.IsSpace(r) {
			return at, true
		}
	}
	return place{}, false
}

// escaped reads an escape of a text in double quotes (YAML 1.2.2, section
// 5.7): what it stands for and how many characters it has. An escaped line
// break counts as white space.
func escaped(line []rune) (r rune, size int) {
	if len(line) < 2 {
		return ' ', 1
	}
	digits := map[rune]int{'x': 2, 'u': 4, 'U': 8}[line[1]]
	if digits > 0 && len(line) >= 2+digits {
		if n, err := strconv.ParseUint(string(line[2:2+digits]), 16, 32); err == nil {
			return rune(n), 2 + digits
		}
	}
	switch line[1] {
	case 't', '\t', 'n', 'v', 'f', 'r', ' ', 'N', '_', 'L', 'P':
		return ' ', 2
	}
	return 'x', 2
}

// FindingAt is Finding for a mistake inside of a text, at an offset in its
// characters.
func (f *File) FindingAt(path string, offset int, msg string) Finding {
	if t, ok := f.texts[joinSegments(segments(path))]; ok && offset > 0 {
		return f.src.finding(f.src.within(t, offset), path, msg)
	}
	return f.Finding(path, msg)
}
