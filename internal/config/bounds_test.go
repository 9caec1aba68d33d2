package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// TestBounds: files that are meant to hurt. Each ends at once, with a reason.
func TestBounds(t *testing.T) {
	bomb := "version: 1\na: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 12; i++ {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	// Aliases where the schema has a list of structs, so that they are walked.
	rules := "version: 1\npolicy:\n  rules:\n    - &r\n      name: r\n      to: &l [" + strings.Repeat("a,", 2000) + "b]\n      sni: *l\n" +
		strings.Repeat("    - *r\n", 300)
	block := ""
	for i := range 2000 {
		block += strings.Repeat(" ", i) + "a:\n"
	}
	for name, c := range map[string]struct{ text, want string }{
		"too large":          {strings.Repeat("# comment\n", maxFile/10+1), "larger than 8388608 bytes"},
		"flow depth":         {"a: " + strings.Repeat("[", 200_000), "nested deeper than 32 levels"},
		"flow maps":          {"a: " + strings.Repeat("{a: ", 50_000), "nested deeper than 32 levels"},
		"compact lists":      {strings.Repeat("- ", 100_000), "nested deeper than 32 levels"},
		"complex keys":       {strings.Repeat("? ", 100_000), "nested deeper than 32 levels"},
		"block depth":        {block, ""},
		"tags":               {"a: " + strings.Repeat("!a ", 20_000), ""},
		"anchors":            {"a: " + strings.Repeat("&a ", 20_000), ""},
		"one line":           {"policy: {rules: [{sni: [" + strings.Repeat("ä,", 50_000) + "x]}]}", "version: is missing"},
		"one long text":      {"fail: " + strings.Repeat("x", 1_000_000), "wants \"closed\""},
		"colons":             {strings.Repeat("a: ", 40_000), ""},
		"laughs, unknown":    {bomb, "unknown key"},
		"laughs, known":      {rules, "more than 50000 values behind aliases"},
		"alias of itself":    {"version: &v [*v]\n", "wants a whole number"},
		"alias inside":       {"policy: &p\n  rules:\n    - *p\n", "no anchor \"p\" before this alias"},
		"anchor shadowed":    {"policy: &p\n  default: &p deny\n  rules: [*p]\n", "wants keys"},
		"alias before":       {"policy: *p\nlog: &p {}\n", "no anchor \"p\""},
		"findings":           {"version: 1\n" + strings.Repeat("x: 1\n", 2), "unknown key"},
		"NUL":                {"version: 1\n\n \x00", "NUL byte"},
		"documents":          {head + "---\nversion: 1\n", "a second YAML document"},
		"directive":          {"%YAML 1.2\n---\n" + head, "directives are not supported"},
		"empty":              {"", "the file is empty"},
		"comment":            {"# nothing\n", "the file is empty"},
		"header only":        {"---\n", "the file is empty"},
		"a text":             {"hello", "wants keys such as"},
		"a list":             {"- a\n", "wants keys such as"},
		"merge key":          {head + "log: &l {level: info}\naudit:\n  <<: *l\n", "merge keys (<<) are not supported"},
		"merge key, no map":  {head + "log: {<<: 1}\n", "merge keys (<<) are not supported"},
		"complex key":        {head + "? [a, b]\n: c\n", ""},
		"tag":                {head + "log: !!map {level: info}\n", "tags (\"!!map\") are not supported"},
		"tab":                {head + "log:\n\tlevel: info\n", "5:1: YAML syntax: a tab cannot begin a value: indent with spaces"},
		"quote":              {head + "log: {level: \"info}\n", "a quote is not closed"},
		"bracket":            {head + "log: {level: [info}\n", "YAML syntax"},
		"indentation":        {head + "log:\n    level: info\n  format: json\n", "YAML syntax"},
		"invalid UTF-8":      {head + "log: {level: \"\xff\"}\n", "4:15: not UTF-8"},
		"control characters": {head + "log: {level: \"a\\u0007\"}\n", "invisible characters"},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			fs := findings(t, c.text)
			if !strings.Contains(fs.Error(), c.want) {
				t.Errorf("want %q, got %.2000s", c.want, fs.Error())
			}
			if len(fs) > maxFindings+1 {
				t.Errorf("%d findings", len(fs))
			}
			// Generous, for a shared machine under -race; unbounded ones take minutes.
			if d := time.Since(start); d > testenv.Patience() {
				t.Errorf("took %s", d)
			}
			for _, f := range fs {
				if f.Line < 1 || f.Col < 1 {
					t.Errorf("no place: %s", f)
				}
			}
		})
	}
}

func TestManyFindings(t *testing.T) {
	text := head
	for i := range 1000 {
		text += fmt.Sprintf("unknown%d: 1\n", i)
	}
	fs := findings(t, text)
	if len(fs) != maxFindings+1 || fs[maxFindings].Msg != "and 800 more" {
		t.Errorf("%d findings, the last: %s", len(fs), fs[len(fs)-1])
	}
}
