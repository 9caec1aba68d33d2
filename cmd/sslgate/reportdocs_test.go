package main

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// update writes what the commands of docs/report.md say now into it.
var update = flag.Bool("update", false, "write golden files anew")

// The transcripts of docs/report.md are what sslgate says of a day that was recorded in the
// lab (TestDayIsSuggested, which keeps it), line by line.
func TestTranscriptsOfReports(t *testing.T) {
	const doc = "../../docs/report.md"
	path, err := filepath.Abs(doc)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// Any CA will do: the flows were decided on that day. One that was kept would end, and no
	// configuration that names it could then be used.
	ca := testpki.Must(testpki.NewCA(testpki.Options{}))
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sslgate.yaml", "next.yaml", "day.jsonl"} {
		b, err := os.ReadFile(filepath.Join("testdata/day", name))
		if err == nil && name == "day.jsonl" {
			b, err = underPolicy(filepath.Join(dir, "sslgate.yaml"), b)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	t.Setenv("COLUMNS", "80")
	// How many days are left is as of today.
	days := regexp.MustCompile(`(?m)^(EXPIRED|\d+ days?) +`)
	block := regexp.MustCompile("(?ms)^```\n\\$ sslgate ((?:report|suggest|replay) [^\n]*)\n(.*?)^```$")
	ran := map[string]int{}
	now := block.ReplaceAllStringFunc(string(text), func(b string) string {
		m := block.FindStringSubmatch(b)
		words := strings.Fields(m[1])
		code, out, errs := called(words...)
		if code != 0 && (words[0] != "replay" || code != 1) || errs != "" {
			t.Errorf("sslgate %s: exit code %d\n%s", m[1], code, errs)
		}
		ran[words[0]]++
		if shown, says := days.ReplaceAllString(m[2], "DAYS "), days.ReplaceAllString(out, "DAYS "); !*update && shown != says {
			t.Errorf("sslgate %s says\n%s\nand %s shows\n%s", m[1], says, doc, shown)
		}
		return "```\n$ sslgate " + m[1] + "\n" + out + "```"
	})
	if ran["report"] < 3 || ran["suggest"] < 1 || ran["replay"] < 1 {
		t.Errorf("only %v were tried", ran)
	}
	if *update && !t.Failed() {
		if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
