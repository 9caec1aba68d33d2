package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf16"

	"golang.org/x/term"

	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/escape"
)

// Bounds of a width in columns. Below the least one nothing can be read.
const (
	usualColumns = 80
	leastColumns = 40
	mostColumns  = 10000
)

// columns is how wide the text on w may be: the variable COLUMNS (POSIX, Base
// Definitions, section 8.3) if it is set, else the width of the terminal that w is,
// else 80.
func columns(w io.Writer) int {
	n, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err != nil || n < 1 {
		n = usualColumns
		if f, ok := w.(*os.File); ok {
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				n = width
			}
		}
	}
	return min(max(n, leastColumns), mostColumns)
}

// wrap breaks a text into lines of at most width columns, at spaces; a word
// that is longer stays whole, so that it can be copied.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		switch {
		case line == "":
			line = word
		case len([]rune(line))+1+len([]rune(word)) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

// printWrapped prints a text, escaped, behind a first indentation, and what does
// not fit the lines below it.
func printWrapped(w io.Writer, indent, text string) error {
	return printHanging(w, indent, strings.Repeat(" ", len([]rune(indent))), escape.String(text, 0))
}

// printHanging prints a text behind first, and what does not fit on lines below it
// behind rest. first is no longer than rest, or the text's own beginning.
func printHanging(w io.Writer, first, rest, text string) error {
	var b strings.Builder
	for _, line := range wrap(text, columns(w)-len([]rune(rest))) {
		b.WriteString(strings.TrimRight(first+line, " ") + "\n")
		first = rest
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// say prints a sentence.
func say(w io.Writer, format string, args ...any) error {
	return printHanging(w, "", "", fmt.Sprintf(format, args...))
}

// printFinding prints a mistake with its place. The excerpt below it stays as
// it is: the mark in it shows a column.
func printFinding(w io.Writer, f config.Finding) error {
	head, excerpt, _ := strings.Cut(f.Format(isTerminal(w)), "\n")
	lines := wrap(head, columns(w)-4)
	_, err := io.WriteString(w, strings.Join(lines, "\n    ")+"\n"+excerpt)
	return err
}

// table is rows of a name and a text. The texts stand below each other, and are
// wrapped there.
type table struct{ names, texts []string }

func (t *table) row(name, format string, args ...any) {
	t.names, t.texts = append(t.names, name), append(t.texts, fmt.Sprintf(format, args...))
}

func (t *table) print(w io.Writer) error {
	widest := 0
	for _, name := range t.names {
		widest = max(widest, len(name))
	}
	for i, name := range t.names {
		if err := printHanging(w, fmt.Sprintf("%-*s", widest+2, name), strings.Repeat(" ", widest+2), t.texts[i]); err != nil {
			return err
		}
	}
	return nil
}

// writeJSON prints one JSON value on one line. It writes all non-ASCII characters as \uXXXX (RFC
// 8259, section 7): the value is the same for a program, but no control or direction-changing
// character reaches a terminal.
func writeJSON(w io.Writer, v any) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	out := make([]byte, 0, b.Len())
	for _, r := range b.String() {
		switch {
		case r < 0x7f:
			out = append(out, byte(r))
		case r > 0xffff:
			hi, lo := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	_, err := w.Write(out)
	return err
}
