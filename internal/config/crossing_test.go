package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// A warning about two rules says where both stand, and what to type; what was
// typed silences it. A rule that cannot be read makes no other mistake.
func TestCrossingRulesArePlaced(t *testing.T) {
	rules := func(more string) func(string) string {
		return func(s string) string {
			i := strings.Index(s, "    - name: wiki")
			j := strings.Index(s, "limits:")
			if i < 0 || j < 0 {
				t.Fatal("the example has changed")
			}
			return s[:i] + `    - name: payroll
      to: ["10.20.0.7:443"]
      sni: [payroll.corp.example]
      identity: wiki
      alpn: [http/1.1]
      client: {authorities: [staff]}
      destination: {tls: verify, authorities: [services]}
` + more + "\n" + s[j:]
		}
	}
	find := func(edit func(string) string) (text string, findings []string) {
		file := copyExample(t, edit)
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, found := Check(file, stdtls.New())
		for _, f := range found {
			findings = append(findings, strings.ReplaceAll(f.String(), filepath.Dir(file)+string(filepath.Separator), ""))
		}
		return string(raw), findings
	}
	text, found := find(rules(""))
	line := func(of string) int { return strings.Count(text[:strings.Index(text, of)], "\n") + 1 }
	if len(found) != 1 || !strings.HasPrefix(found[0], standsAt(line("- name: payroll"))+": warning: ") ||
		!strings.Contains(found[0], `rule "payroll" asks for less than rule "pay"`) ||
		!strings.Contains(found[0], "same_service: [pay]") || !strings.HasSuffix(found[0], "(also "+standsAt(line("- name: pay\n"))+")") {
		t.Errorf("%q", found)
	}
	if _, found = find(rules("      same_service: [pay]")); len(found) != 0 {
		t.Errorf("accepted, and still: %q", found)
	}
	if _, found = find(rules("      same_service: [pay, wikki]")); len(found) != 1 || !strings.Contains(found[0], `no rule "wikki"`) {
		t.Errorf("an unknown rule: %q", found)
	}
	broken := func(s string) string {
		return strings.Replace(rules("      same_service: [pay]")(s), "sni: [pay.corp.example]", "sni: 7", 1)
	}
	_, found = find(broken)
	for _, f := range found {
		if strings.Contains(f, "same_service") {
			t.Errorf("the rule it names cannot be read: %s", f)
		}
	}
	if len(found) == 0 {
		t.Error("nothing was found wrong")
	}
}

func standsAt(line int) string { return "gateway.yaml:" + strconv.Itoa(line) + ":7" }
