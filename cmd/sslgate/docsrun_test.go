package main

import (
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// given is a command of a document, with the output that is shown below it.
type given struct {
	page   string
	line   int
	words  []string
	output []string // lines; "..." is anything between
}

// commandsGiven are those that run without a gateway and without root.
func commandsGiven(t *testing.T) []given {
	t.Helper()
	alone := []string{"check", "explain", "pki", "probe", "profiles", "reason", "test", "version"}
	var all []given
	for _, p := range pages(t) {
		if strings.HasSuffix(p.name, "CHANGELOG.md") {
			continue
		}
		p.code(func(line int, text string, prose bool) {
			for _, words := range calls(strings.TrimSpace(text)) {
				if len(words) == 0 || !slices.Contains(alone, words[0]) || prose && names(words) && words[0] != "profiles" || strings.Contains(text, "lab exec") {
					continue
				}
				g := given{page: p.name, line: line, words: words}
				if !prose && strings.HasPrefix(text, "$ ") {
					g.output = shownBelow(p, line)
				}
				all = append(all, g)
			}
		})
	}
	return all
}

// shownBelow are the lines below a command, up to the next one or the block's end.
func shownBelow(p page, line int) []string {
	var out []string
	for _, l := range p.lines[line:] {
		if strings.HasPrefix(l, "```") || strings.HasPrefix(l, "$ ") {
			break
		}
		if l = strings.Join(strings.Fields(l), " "); l != "" {
			out = append(out, l)
		}
	}
	return out
}

// missing is the first of the lines which is not in text, in their order.
func missing(lines []string, text string) string {
	rest := "\n"
	for l := range strings.Lines(text) {
		rest += strings.Join(strings.Fields(l), " ") + "\n"
	}
	for _, l := range lines {
		if l == "..." {
			continue
		}
		_, after, ok := strings.Cut(rest, l)
		if !ok {
			return l
		}
		rest = after
	}
	return ""
}

// scene is a directory with what the documents' commands name, and a server to
// probe; it becomes the working directory.
func scene(t *testing.T) (server string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/examples/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	l := &library{t: t, dir: t.TempDir(), roots: map[string]*testpki.CA{}}
	c := parsed(t, string(text)).(tree)
	l.fill(c)
	raw, err := yaml.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	l.put("gateway.yaml", raw)
	l.put("sslgate.yaml", raw)
	if err := os.Mkdir(filepath.Join(l.dir, "sslgate-lab"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../sslgate.yaml", filepath.Join(l.dir, "sslgate-lab", "sslgate.yaml")); err != nil {
		t.Fatal(err)
	}
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	l.put("ca.pem", ca.PEM())
	if _, _, err := testpki.Must(ca.Issue(testpki.Leaf{CN: "me"})).WritePEM(l.dir, "me"); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	pair := testpki.Must(ca.Issue(testpki.Leaf{CN: "server", DNS: []string{"pay.internal", "pay.example", "localhost"}, IPs: []string{"127.0.0.1"}})).TLS()
	web.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
	web.StartTLS()
	t.Cleanup(web.Close)
	t.Chdir(l.dir)
	return web.Listener.Addr().String()
}

// meant puts what is there in the place of words that stand for something.
func meant(words []string, server string) []string {
	out := slices.Clone(words)
	for i, w := range out {
		switch {
		case w == "FILE":
			out[i] = "sslgate.yaml"
		case w == "CODE":
			out[i] = "unknown_ca"
		case w == "NAME":
			out[i] = "modern"
		case words[0] == "probe" && i == 1:
			out[i] = server
		}
	}
	return out
}

// The commands of the documents do what the documents say, where they need neither
// a gateway nor root; what is shown of their output is in it.
func TestCommandsOfDocumentsRun(t *testing.T) {
	all := commandsGiven(t)
	if len(all) < 12 {
		t.Fatalf("only %d commands", len(all))
	}
	server := scene(t)
	if _, _, err := net.SplitHostPort(server); err != nil {
		t.Fatal(err)
	}
	// They need what only a host or a record has; the scripts in testdata run them.
	elsewhere := func(words []string) bool {
		return len(words) == 1 && words[0] == "check" || slices.Contains(words, "--flow") || len(words) < 3 && words[0] == "pki"
	}
	shown := 0
	for _, g := range all {
		if elsewhere(g.words) {
			continue
		}
		words := meant(g.words, server)
		want := []int{0}
		if words[0] == "probe" {
			want = append(want, 1) // --against finds something to say
		}
		if words[0] == "explain" {
			want = append(want, 1) // denied
		}
		code, out, errs := called(words...)
		if !slices.Contains(want, code) {
			t.Errorf("%s:%d: sslgate %s: exit code %d\n%s%s", g.page, g.line, strings.Join(words, " "), code, out, errs)
		}
		if len(g.output) > 0 {
			shown++
		}
		if l := missing(g.output, out+errs); l != "" {
			t.Errorf("%s:%d: sslgate %s does not print %q, but\n%s%s", g.page, g.line, strings.Join(words, " "), l, out, errs)
		}
	}
	if shown < 1 {
		t.Errorf("output is shown of %d commands", shown)
	}
}

// What the test of shown output must find is found.
func TestMistakesInShownOutputAreFound(t *testing.T) {
	const out = "rules tried\n  [ ] pay:   to does not fit\nverdict  deny\n"
	for _, c := range []struct {
		lines []string
		want  string
	}{
		{[]string{"rules tried", "[ ] pay: to does not fit", "verdict deny"}, ""},
		{[]string{"...", "verdict deny"}, ""},
		{[]string{"rules tried", "...", "verdict allow"}, "verdict allow"},
		{[]string{"verdict deny", "rules tried"}, "rules tried"}, // in another order
	} {
		if got := missing(c.lines, out); got != c.want {
			t.Errorf("%q: %q, want %q", c.lines, got, c.want)
		}
	}
}

// The commands that an alert names are such.
func TestCommandsInAlerts(t *testing.T) {
	text, err := os.ReadFile("../../dist/alerts/sslgate.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, m := range regexp.MustCompile("`(sslgate [^`]*)`").FindAllStringSubmatch(string(text), -1) {
		for _, words := range calls(strings.ReplaceAll(m[1], "{{ $labels.rule }}", "RULE")) {
			n++
			if err := takes(words); err != nil {
				t.Errorf("%s: %v", m[1], err)
			}
		}
	}
	if n < 15 {
		t.Errorf("only %d commands", n)
	}
}
