package metrics

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

const dist = "../../dist"

func promtool(t *testing.T, dir, stdin string, args ...string) {
	t.Helper()
	cmd := exec.Command(testenv.Tool(t, "promtool"), args...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// The shipped alert rules are rules, and fire when they should.
func TestAlertRules(t *testing.T) {
	promtool(t, filepath.Join(dist, "alerts"), "", "check", "rules", "sslgate.rules.yml")
	promtool(t, filepath.Join(dist, "alerts"), "", "test", "rules", "sslgate.test.yml")
}

// Every alert is shown to fire, and not to fire.
func TestAlertsAreTested(t *testing.T) {
	read := func(name string, into any) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(dist, "alerts", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert string `yaml:"alert"`
			} `yaml:"rules"`
		} `yaml:"groups"`
	}
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name   string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	read("sslgate.rules.yml", &rules)
	read("sslgate.test.yml", &tests)
	fires, silent := map[string]bool{}, map[string]bool{}
	for _, set := range tests.Tests {
		for _, a := range set.Alerts {
			if len(a.Expect) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	n := 0
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			n++
			if !fires[r.Alert] || !silent[r.Alert] {
				t.Errorf("%s: shown to fire: %t, not to: %t", r.Alert, fires[r.Alert], silent[r.Alert])
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d alerts were found", n)
	}
}

// Prometheus' own linter has nothing to say.
func TestPromtoolLint(t *testing.T) {
	m := full()
	m.Finished(record("pay", reason.OK))
	promtool(t, ".", scrape(t, m), "check", "metrics")
}

// dashboard has the expressions of the shipped dashboard.
func dashboard(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dist, "grafana", "sslgate.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	var all []string
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: %d targets", p.ID, p.Title, len(p.Targets))
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	if len(all) < 20 {
		t.Fatalf("only %d expressions", len(all))
	}
	return all
}

// Each expression of the dashboard is PromQL: promtool reads them as rules.
func TestDashboard(t *testing.T) {
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	fill := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	for _, e := range dashboard(t) {
		rules = append(rules, rule{"dashboard:expression", fill.Replace(e)})
	}
	raw, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "d", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "d.yml"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, dir, "", "check", "rules", "--lint=none", "d.yml")
}

// Whatever metric dashboard, rules or docs/metrics.md name exists, and
// docs/metrics.md names every one.
func TestNamesExist(t *testing.T) {
	m := full()
	for _, code := range []reason.Code{reason.OK, reason.DialRefused} {
		r := record("pay", code)
		r.AlertSent, r.End, r.Step = 48, reason.EndClean, 9
		m.Finished(r)
	}
	gathered, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	exist := map[string]bool{
		// They come with the first handshake.
		"sslgate_handshakes_total": true, "sslgate_handshake_step_seconds": true,
	}
	for _, f := range gathered {
		exist[f.GetName()] = true
	}
	doc, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	rules, err := os.ReadFile(filepath.Join(dist, "alerts", "sslgate.rules.yml"))
	if err != nil {
		t.Fatal(err)
	}
	ruleTests, err := os.ReadFile(filepath.Join(dist, "alerts", "sslgate.test.yml"))
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`sslgate_[a-z0-9_]+`)
	for where, text := range map[string]string{"docs/metrics.md": string(doc), "the rules": string(rules), "their tests": string(ruleTests), "the dashboard": strings.Join(dashboard(t), "\n")} {
		for _, name := range names.FindAllString(text, -1) {
			if !exist[name] && !exist[strings.TrimSuffix(name, "_bucket")] {
				t.Errorf("%s: there is no %s", where, name)
			}
		}
	}
	for name := range exist {
		if strings.HasPrefix(name, "sslgate_") && !strings.Contains(string(doc), "`"+name) {
			t.Errorf("docs/metrics.md lacks %s", name)
		}
	}
}
