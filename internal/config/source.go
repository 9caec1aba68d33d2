package config

import (
	"bytes"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// source is the text of one file, for excerpts.
type source struct {
	name  string
	lines []string
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
	return &source{name: name, lines: strings.Split(string(text), "\n")}
}

// line returns line n (from 1), "" outside the file.
func (s *source) line(n int) string {
	if n < 1 || n > len(s.lines) {
		return ""
	}
	return s.lines[n-1]
}

// clamp moves a place into the file.
func (s *source) clamp(p place) place {
	p.line = min(max(p.line, 1), len(s.lines))
	p.col = min(max(p.col, 1), utf8.RuneCountInString(s.line(p.line))+1)
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
	word := firstLine(t.Origin)
	p.width = utf8.RuneCountInString(word)
	if word == "" {
		return s.clamp(p)
	}
	for n := p.line; n <= min(p.line+maxDrift, len(s.lines)); n++ {
		line := s.line(n)
		if n == p.line && strings.HasPrefix(skipRunes(line, p.col-1), word) {
			return s.clamp(p)
		}
		if i := strings.Index(line, word); i >= 0 {
			return s.clamp(place{line: n, col: utf8.RuneCountInString(line[:i]) + 1, width: p.width})
		}
	}
	return s.clamp(p)
}

// maxDrift is the number of lines that at searches.
const maxDrift = 8

// blockScalar is the place of the text of a "|" or ">" scalar: its first line
// that is not blank below the indicator. The token of the text itself has the
// position of its last line and column 0.
func (s *source) blockScalar(indicator *token.Token) place {
	p := s.at(indicator)
	for n := p.line + 1; n <= len(s.lines); n++ {
		line := strings.TrimRight(s.line(n), " \t")
		text := strings.TrimLeft(line, " ")
		if text == "" {
			continue
		}
		// A block scalar without text: the next line is less or equally
		// indented and belongs to something else.
		if len(line)-len(text) <= indentOf(s.line(p.line)) && p.line != 1 {
			return p
		}
		return s.clamp(place{line: n, col: len(line) - len(text) + 1, width: utf8.RuneCountInString(text)})
	}
	return p
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

func firstLine(origin string) string {
	word, _, _ := strings.Cut(strings.TrimSpace(origin), "\n")
	return strings.TrimSpace(word)
}

// skipRunes drops the first n characters.
func skipRunes(s string, n int) string {
	for ; n > 0 && s != ""; n-- {
		_, size := utf8.DecodeRuneInString(s)
		s = s[size:]
	}
	return s
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
	line := []rune(strings.ToValidUTF8(s.line(p.line), "?"))
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
