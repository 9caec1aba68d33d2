package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// page is a document and its lines.
type page struct {
	name  string
	lines []string
}

func pages(t *testing.T) []page {
	t.Helper()
	names, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(names) < 10 {
		t.Fatalf("%d documents, %v", len(names), err)
	}
	var all []page
	for _, name := range append(names, "../../README.md", "../../CHANGELOG.md") {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{name, strings.Split(string(text), "\n")})
	}
	return all
}

// code calls f for what stands in code: each line of a block, with those that it
// goes on in, and each span within a line.
func (p page) code(f func(line int, text string, prose bool)) {
	span := regexp.MustCompile("`([^`]+)`")
	fenced := false
	for i := 0; i < len(p.lines); i++ {
		l, at := p.lines[i], i+1
		switch {
		case strings.HasPrefix(strings.TrimSpace(l), "```"):
			fenced = !fenced
		case fenced, strings.HasPrefix(l, "    "):
			for strings.HasSuffix(l, `\`) && i+1 < len(p.lines) {
				i++
				l = strings.TrimSuffix(l, `\`) + " " + p.lines[i]
			}
			f(at, l, false)
		default:
			// A span may go on in the next line of its paragraph.
			for strings.Count(l, "`")%2 == 1 && i+1 < len(p.lines) && p.lines[i+1] != "" {
				i++
				l += " " + strings.TrimSpace(p.lines[i])
			}
			for _, m := range span.FindAllStringSubmatch(l, -1) {
				f(at, strings.ReplaceAll(m[1], `\|`, "|"), true)
			}
		}
	}
}

// calls are the command lines of sslgate in a line of a shell, without what is
// piped on, and without the blanks and the words behind which explain one.
func calls(line string) [][]string {
	var all [][]string
	start := regexp.MustCompile(`(^|[|;&(] *|sudo |exec gateway |--no-new-privs |\$ ?)(?:[^\s=]*/)?sslgate( |$)`)
	for {
		m := start.FindStringIndex(line)
		if m == nil {
			return all
		}
		// What stands before it may be part of a word, or of prose.
		rest := line[m[1]:]
		words, n := shellWords(rest)
		all = append(all, words)
		line = rest[n:]
	}
}

// shellWords splits up to the end of the command; n is where that is. Brackets
// around what may be left out, and dots for more of the same, are taken away.
func shellWords(s string) (words []string, n int) {
	var word strings.Builder
	quote, begun := rune(0), false
	flush := func() {
		if w := strings.Trim(word.String(), "[]"); begun && w != "" && w != "..." {
			words = append(words, w)
		}
		word.Reset()
		begun = false
	}
	for i, r := range s {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
				continue
			}
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, begun = r, true
		case strings.ContainsRune("|;&><#)", r):
			flush()
			return words, i
		case r == ' ':
			flush()
			if strings.HasPrefix(s[i:], "  ") && !strings.HasPrefix(strings.TrimLeft(s[i:], " "), "-") {
				return words, len(s) // a column that explains it
			}
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	flush()
	return words, len(s)
}

// Every command of sslgate in the documents is one that the program takes: there is
// such a command, with these flags and so many arguments.
func TestCommandsInDocuments(t *testing.T) {
	n := 0
	for _, p := range pages(t) {
		p.code(func(line int, text string, prose bool) {
			for _, words := range calls(strings.TrimSpace(text)) {
				n++
				err := takes(words)
				if err != nil && prose && names(words) {
					err = nil // it speaks of a command, and does not give it
				}
				if err == nil && strings.Contains(text, "lab exec") {
					err = namesFile(words)
				}
				if err != nil {
					t.Errorf("%s:%d: sslgate %s: %v", p.name, line, strings.Join(words, " "), err)
				}
			}
		})
	}
	if n < 60 {
		t.Errorf("only %d commands were found: the test looks at the wrong place", n)
	}
}

// names says whether the words are the name of a command and nothing else.
func names(words []string) bool {
	_, rest := find(newRootCmd(nil, &bytes.Buffer{}, &bytes.Buffer{}), words)
	return len(words) > 0 && len(rest) == 0
}

// namesFile says whether a command that needs a configuration names one: the lab has
// none in /etc.
func namesFile(words []string) error {
	if i := slices.IndexFunc(words, func(w string) bool { return strings.HasSuffix(w, ".yaml") || w == "FILE" }); i < 0 &&
		slices.Contains([]string{"check", "run", "guard", "release", "explain"}, words[0]) {
		return errors.New("it names no configuration")
	}
	return nil
}

// takes says why the program would not take the words.
func takes(words []string) error {
	root := newRootCmd(strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{})
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err
	}
	cmd.InitDefaultHelpFlag()
	if err := cmd.ParseFlags(rest); err != nil {
		return flagError(cmd, err)
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// The commands that are given to whoever reads examples of the help are such too.
func TestCommandsInHelp(t *testing.T) {
	n := 0
	for _, words := range allCommands(t) {
		_, out, _ := called(append([]string{"help"}, words...)...)
		_, examples, ok := strings.Cut(out, "\nExamples:\n")
		if !ok {
			continue
		}
		examples, _, _ = strings.Cut(examples, "\n\n")
		for _, line := range strings.Split(strings.ReplaceAll(examples, "\\\n", " "), "\n") {
			for _, words := range calls(strings.TrimSpace(line)) {
				n++
				if err := takes(words); err != nil {
					t.Errorf("%q: %v", line, err)
				}
			}
		}
	}
	if n < 20 {
		t.Errorf("only %d examples", n)
	}
}

// slug is the anchor that a heading has, as GitHub and most others make it.
func slug(heading string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(strings.TrimSpace(heading)) {
		switch {
		case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
			b.WriteRune(r)
		case r == ' ':
			b.WriteByte('-')
		}
	}
	return b.String()
}

// Every link within the documents leads to a file that is there, and its anchor to
// a heading of that file.
func TestLinksInDocuments(t *testing.T) {
	anchors := map[string]map[string]bool{}
	of := func(name string) map[string]bool {
		if a, ok := anchors[name]; ok {
			return a
		}
		a := map[string]bool{}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
		}
		fenced := false
		for _, l := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(l, "```") {
				fenced = !fenced
			}
			if h := strings.TrimLeft(l, "#"); !fenced && h != l && strings.HasPrefix(h, " ") {
				a[slug(h)] = true
			}
		}
		anchors[name] = a
		return a
	}
	link := regexp.MustCompile(`\]\(([^()\s]+)\)`)
	n := 0
	for _, p := range pages(t) {
		fenced := false
		for i, l := range p.lines {
			if strings.HasPrefix(strings.TrimSpace(l), "```") {
				fenced = !fenced
			}
			if fenced {
				continue
			}
			for _, m := range link.FindAllStringSubmatch(l, -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				n++
				file, anchor, _ := strings.Cut(m[1], "#")
				path := p.name
				if file != "" {
					path = filepath.Join(filepath.Dir(p.name), file)
				}
				if _, err := os.Stat(path); err != nil {
					t.Errorf("%s:%d: %s is not there", p.name, i+1, m[1])
				} else if anchor != "" && !of(path)[anchor] {
					t.Errorf("%s:%d: %s has no such heading", p.name, i+1, m[1])
				}
			}
		}
	}
	if n < 60 {
		t.Errorf("only %d links were found", n)
	}
}

// What the test of the documents must find is found.
func TestMistakesInDocumentsAreFound(t *testing.T) {
	for line, wrong := range map[string]bool{
		"sslgate chek -c x":                                 true,
		"$ sudo bin/sslgate flows --whatch":                 true,
		"a && sslgate status now | jq .":                    true,
		"sudo scripts/lab exec gateway ../bin/sslgate chek": true,
		"setpriv --no-new-privs sslgate rum -c FILE":        true,
		"sslgate recent --since soon":                       true,
		"sslgate flows [--watch] [--rule pay]    the flows": false,
		"sslgate flows ID [--watch]              one":       false,
		"SSLGATE_BINARY=bin/sslgate go test -run x":         false,
		"sslgate trace --json | jq '.a > 3' # all":          false,
		"sslgate reason nosuch":                             false, // a value; there is no such flag or argument to miss
	} {
		var err error
		for _, words := range calls(line) {
			err = errors.Join(err, takes(words))
		}
		if (err != nil) != wrong {
			t.Errorf("%s: %v", line, err)
		}
	}
	if namesFile([]string{"release"}) == nil || namesFile([]string{"release", "a.yaml"}) != nil || namesFile([]string{"status"}) != nil {
		t.Error("a configuration is missed where none is needed, or not where one is")
	}
	if names([]string{"probe", "x"}) || !names([]string{"pki", "show"}) || names(nil) {
		t.Error("a command is taken for its name")
	}
}
