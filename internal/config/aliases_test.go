package config

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// A file that is small and becomes large is refused early, with its place, and
// costs little.
func TestAliasesAreBounded(t *testing.T) {
	head := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\npolicy:\n  rules:\n"
	list := "    - {name: r0, action: deny, to: &to [" + strings.TrimSuffix(strings.Repeat("\"10.0.0.1:443\", ", 2000), ", ") + "]}\n"
	var rules, exprs strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&rules, "    - {name: r%d, action: deny, to: *to}\n", i+1)
	}
	for i := range 3000 {
		fmt.Fprintf(&exprs, "    - &r%d {name: x, to: [\"10.0.0.1:443\"], client: {allow: [*a, *a, *a, *a, *a, *a, *a, *a]}}\n", i)
	}
	for name, text := range map[string]string{
		"a list in every rule": head + list + rules.String(),
		"lists of aliases":     head + "    - {name: a, client: {allow: [&a {san_dns: [\"a\", \"b\", \"c\"]}]}}\n" + exprs.String(),
		"a rule again and again": head + "    - &r {name: a, to: [\"10.0.0.1:443\"], from: [10.0.0.0/8], sni: [a, b, c, d]}\n" +
			strings.Repeat("    - *r\n", 20000),
		"values without aliases": head + "    - {name: a, action: deny, to: [" + strings.TrimSuffix(strings.Repeat("x, ", 500_000), ", ") + "]}\n",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		f := parse("x.yaml", []byte(text))
		runtime.ReadMemStats(&after)
		if len(f.findings) != 1 || f.findings[0].Line < 4 || f.findings[0].Col < 2 || !strings.Contains(f.findings[0].Msg, "values") {
			t.Errorf("%s: %d findings: %.300v", name, len(f.findings), f.findings)
		}
		t.Logf("%s: %d bytes of text, %d MiB allocated", name, len(text), (after.TotalAlloc-before.TotalAlloc)>>20)
	}
}
