package metrics

import (
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

// alertRule is one of dist/alerts.
type alertRule struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func readAlerts(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dist, "alerts", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func alertRules(t *testing.T) []alertRule {
	t.Helper()
	var file struct {
		Groups []struct {
			Rules []alertRule `yaml:"rules"`
		} `yaml:"groups"`
	}
	readAlerts(t, "sslgate.rules.yml", &file)
	var all []alertRule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 30 {
		t.Fatalf("only %d alerts were found", len(all))
	}
	return all
}

// The shipped alert rules are rules, and fire when they should.
func TestAlertRules(t *testing.T) {
	promtool(t, filepath.Join(dist, "alerts"), "", "check", "rules", "sslgate.rules.yml")
	promtool(t, filepath.Join(dist, "alerts"), "", "test", "rules", "sslgate.test.yml")
}

// Every alert is shown to fire, and not to fire.
func TestAlertsAreTested(t *testing.T) {
	var tests struct {
		Tests []struct {
			Alerts []struct {
				Name   string `yaml:"alertname"`
				Expect []any  `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		} `yaml:"tests"`
	}
	readAlerts(t, "sslgate.test.yml", &tests)
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
	for _, r := range alertRules(t) {
		if !fires[r.Alert] || !silent[r.Alert] {
			t.Errorf("%s: shown to fire: %t, not to: %t", r.Alert, fires[r.Alert], silent[r.Alert])
		}
	}
}

// Prometheus' own linter has nothing to say.
func TestPromtoolLint(t *testing.T) {
	m := full()
	m.Finished(record("pay", reason.OK))
	promtool(t, ".", scrape(t, m), "check", "metrics")
}

// Each expression of the dashboard is PromQL: promtool reads them as rules.
func TestDashboard(t *testing.T) {
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	fill := strings.NewReplacer("$__rate_interval", "5m", "$instance", ".*")
	for _, e := range expressions(dashboard(t)) {
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
	for where, text := range map[string]string{"docs/metrics.md": string(doc), "the rules": string(rules), "their tests": string(ruleTests), "the dashboard": strings.Join(expressions(dashboard(t)), "\n")} {
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
