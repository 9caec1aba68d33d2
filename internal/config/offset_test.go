package config

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// A mistake inside of an expression is located at its line and column in the
// file, in every style that YAML has for a text.
func TestPlacesInTexts(t *testing.T) {
	const begin = "version: 1\npolicy:\n  rules:\n    - client:\n"
	for name, tt := range map[string]struct {
		yaml string
		want string // the X of the text, found by its offset
	}{
		"plain":             {"        when: aaa X bbb\n", "5:19"},
		"plain, two lines":  {"        when: aaa\n          bbb X\n", "6:15"},
		"plain, first":      {"        when: X aaa\n", "5:15"},
		"single quotes":     {"        when: 'a == ''b'' X'\n", "5:27"},
		"single, lines":     {"        when: 'a ==\n\n          ''b''\n          X'\n", "8:11"},
		"double quotes":     {`        when: "a == \"b\" \x41\u00e4\t X"` + "\n", "5:40"},
		"double, lines":     {"        when: \"a ==\\\n          b\n          X\"\n", "7:11"},
		"literal":           {"        when: |\n          aaa\n            bbb X\n", "7:17"},
		"literal, stripped": {"        when: |-\n          aaa\n\n\n          X\n", "9:11"},
		"folded":            {"        when: >\n          aaa\n          bbb\n          X\n", "8:11"},
		"folded, stripped":  {"        when: >-\n\n          aaa == 'ä'\n          ccc X d\n", "8:15"},
		"folded, indicated": {"        when: >2\n            aaa\n          bbb X\n", "7:15"},
		"alias":             {"        when: *w\n    - name: &w aaa X\n", ""},
		"flow":              {"        {when: aaa X, certificate: none}\n", "5:20"},
	} {
		t.Run(name, func(t *testing.T) {
			f := parse("x.yaml", []byte(begin+tt.yaml))
			s, ok := f.texts["policy.rules[0].client.when"]
			if !ok {
				if tt.want == "" {
					return // an alias has no anchor before it here
				}
				t.Fatalf("no text: %v", Findings(f.findings))
			}
			offset := strings.IndexRune(string(s.text), 'X')
			offset = len([]rune(string(s.text)[:offset]))
			got := f.FindingAt("policy.rules[0].client.when", offset, "m")
			if where := fmt.Sprintf("%d:%d", got.Line, got.Col); where != tt.want {
				t.Errorf("at %s, want %s:\n%s\n%q", where, tt.want, got.Excerpt, string(s.text))
			}
		})
	}
}

// No offset leads out of the file, and the place of a character that is no
// white space shows that character where nothing is escaped.
func FuzzPlaceInText(f *testing.F) {
	f.Add(">-\n          a ==\n          b", 5)
	f.Add("'it''s'", 4)
	f.Add("\"a\\u0020b\\\"\"", 3)
	f.Fuzz(func(t *testing.T, value string, offset int) {
		file := parse("x.yaml", []byte("version: 1\npolicy:\n  rules:\n    - client:\n        when: "+value+"\n"))
		s, ok := file.texts["policy.rules[0].client.when"]
		if !ok {
			return
		}
		x := file.FindingAt("policy.rules[0].client.when", offset, "m")
		if x.Line < 1 || x.Line > len(file.src.lines) || x.Col < 1 || x.Col > len(file.src.line(x.Line))+1 {
			t.Fatalf("outside of the file: %s", x)
		}
		if s.quote == 0 && offset > 0 && offset < len(s.text) && !strings.ContainsRune(" \t\n\u0085\u00a0", s.text[offset]) {
			if got := file.src.line(x.Line); x.Col > len(got) || got[x.Col-1] != s.text[offset] {
				t.Fatalf("%q at %d is %q, but %s shows another", string(s.text), offset, s.text[offset], x)
			}
		}
	})
}

// What is wrong with a condition is said at its line and column; so is what is
// wrong with a member of a set that stands in a file.
func TestConditionsAndSets(t *testing.T) {
	dir := t.TempDir()
	writePKI(t, dir)
	t.Chdir(dir)
	if err := os.WriteFile("clients.txt", []byte("# who may\n10.1.0.0/16\n\n10.2.0.1/16\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	text := `version: 1
capture: {interfaces: [eth1], ports: [443]}
policy:
  sets:
    clients: {file: clients.txt}
    lost: {file: gone.txt}
    spare: [a.example]
  rules:
    - name: pay
      from: ["@clients"]
      to: ["10.0.0.1:443"]
      time: {days: [mon-fri], from: "08:00", to: "18:00", zone: "Europe/Berlin"}
      action: deny
    - name: other
      from: ["@lost"]
      to: ["10.0.0.2:443"]
      identity: pay
      client:
        certificate: none
        when: >-
          sni.startsWith('a')
          && cert.not_aftre > now
      destination: {tls: plain}
`
	_, found := build(parse("gate.yaml", []byte(text)), stdtls.New(), testNow)
	var lines []string
	for _, f := range found {
		lines = append(lines, f.String())
	}
	got := strings.Join(lines, "\n")
	for _, want := range []string{
		`gate.yaml:22:14: policy.rules[1].client.when: there is no variable or function "cert.not_aftre" (did you mean "cert.not_after"?)`,
		`clients.txt:4:1: policy.sets.clients[1]: "10.2.0.1/16": bits are set`,
		`gate.yaml:6:5: policy.sets.lost: gone.txt: no such file`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	if strings.Contains(got, "policy.sets.lost[") || strings.Contains(got, "rules[1].from") {
		t.Errorf("an echo of the lost set:\n%s", got)
	}
}
