package config

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// source is the text of one file, for places and excerpts.
type source struct {
	name string
	// lines in characters, so that a column is an index: a file may well be one
	// line of 8 MiB. At most 32 MiB.
	lines [][]rune
}

// place is a stretch of one line. The zero value is the file as a whole.
type place struct {
	line, col int // from 1; col in characters
	width     int // characters to underline, at least 1
}

var utf8BOM = []byte("\xef\xbb\xbf")

// normalize takes away what YAML 1.2.2 allows and no editor shows: a byte
// order mark (section 5.2), and CR LF or a lone CR as line breaks (section 5.4).
func normalize(text []byte) []byte {
	text = bytes.TrimPrefix(text, utf8BOM)
	text = bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n"))
	return bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
}

func newSource(name string, text []byte) *source {
	s := &source{name: name}
	for line := range strings.SplitSeq(string(text), "\n") {
		s.lines = append(s.lines, []rune(line))
	}
	return s
}

// line returns line n (from 1), nothing outside the file.
func (s *source) line(n int) []rune {
	if n < 1 || n > len(s.lines) {
		return nil
	}
	return s.lines[n-1]
}

// clamp moves a place into the file.
func (s *source) clamp(p place) place {
	p.line = min(max(p.line, 1), len(s.lines))
	p.col = min(max(p.col, 1), len(s.line(p.line))+1)
	p.width = max(p.width, 1)
	return p
}

// at turns the position of a token into a place. goccy/go-yaml is right
// nearly always; where the text is not what the token begins with, the
// nearest following line that has it is taken, for the scanner errs to the
// front when scalars of several lines went before.
func (s *source) at(t *token.Token) place {
	if t == nil || t.Position == nil {
		return s.clamp(place{})
	}
	p := place{line: t.Position.Line, col: t.Position.Column}
	word := []rune(firstLine(t.Origin))
	p.width = len(word)
	line := s.line(p.line)
	if len(word) == 0 || p.col >= 1 && p.col <= len(line) && hasPrefix(line[p.col-1:], word) {
		return s.clamp(p)
	}
	for n := p.line; n <= p.line+maxDrift; n++ {
		line := s.line(n)
		for i := range line[:min(len(line), maxDriftLine)] {
			if hasPrefix(line[i:], word) {
				return s.clamp(place{line: n, col: i + 1, width: p.width})
			}
		}
	}
	return s.clamp(p)
}

// What at searches: so many lines, and so many characters of each.
const (
	maxDrift     = 8
	maxDriftLine = 400
)

func hasPrefix(line, word []rune) bool {
	return len(line) >= len(word) && slices.Equal(line[:len(word)], word)
}

func firstLine(origin string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(origin), "\n")
	return strings.TrimSpace(word)
}

// blockScalar is the place of the text of a "|" or ">" scalar: its first line
// that is not blank below the indicator. The token of the text itself has the
// position of its last line and column 0.
func (s *source) blockScalar(indicator *token.Token) place {
	p := s.at(indicator)
	for n := p.line + 1; n <= len(s.lines); n++ {
		line := strings.TrimRight(string(s.line(n)), " \t")
		if text := strings.TrimLeft(line, " "); text != "" {
			return s.clamp(place{line: n, col: len(line) - len(text) + 1, width: utf8.RuneCountInString(text)})
		}
	}
	return p
}

func (s *source) finding(p place, path, msg string) Finding {
	p = s.clamp(p)
	return Finding{File: s.name, Line: p.line, Col: p.col, Path: path, Msg: msg, Excerpt: s.excerpt(p)}
}

// maxExcerpt is the number of characters of a line that are shown: a screen
// of 120 columns less the margin.
const maxExcerpt = 110

// excerpt is the line with its number, and the caret below. Characters that a
// terminal would act on are shown as "?"; a tab as one space, so that the
// caret stays below its place.
func (s *source) excerpt(p place) string {
	line := slices.Clone(s.line(p.line))
	for i, r := range line {
		switch {
		case r == '\t':
			line[i] = ' '
		case !unicode.IsPrint(r):
			line[i] = '?'
		}
	}
	col := min(p.col-1, len(line))
	if len(line) > maxExcerpt {
		from := max(0, min(col-maxExcerpt/2, len(line)-maxExcerpt))
		col -= from
		line = line[from : from+maxExcerpt]
	}
	width := max(1, min(p.width, len(line)-col))
	return fmt.Sprintf("%5d | %s\n      | %s^%s", p.line, strings.TrimRight(string(line), " "),
		strings.Repeat(" ", col), strings.Repeat("~", width-1))
}
