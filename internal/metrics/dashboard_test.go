package metrics

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// panel of the shipped dashboard, as far as the tests look at it.
type panel struct {
	ID         int
	Type       string
	Title      string
	Datasource source
	Targets    []struct {
		RefID, Expr, LegendFormat string
		Datasource                source
	}
	GridPos     struct{ X, Y, W, H int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Panels      []panel
}

type source struct{ Type, UID string }

func dashboard(t *testing.T) []panel {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dist, "grafana", "sslgate.json"))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Title, UID    string
		SchemaVersion int
		Panels        []panel
	}
	if err := json.Unmarshal(raw, &d); err != nil {
		t.Fatal(err)
	}
	if d.Title == "" || d.UID == "" || d.SchemaVersion < 36 {
		t.Errorf("title %q, uid %q, schemaVersion %d", d.Title, d.UID, d.SchemaVersion)
	}
	if n := len(expressions(d.Panels)); n < 60 {
		t.Fatalf("only %d expressions", n)
	}
	return d.Panels
}

// expressions of all panels.
func expressions(panels []panel) []string {
	var all []string
	for _, p := range panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

// Grafana shows every panel: it has a place of its own in the 24 columns, a unit
// that Grafana knows, and asks the data source and the gateway that are chosen.
func TestDashboardSchema(t *testing.T) {
	units := []string{"short", "ops", "pps", "Bps", "bytes", "s", "h", "d", "percentunit"}
	ids, titles, taken := map[int]bool{}, map[string]bool{}, map[[2]int]string{}
	for _, p := range dashboard(t) {
		if ids[p.ID] || p.ID == 0 || titles[p.Title] || p.Title == "" {
			t.Errorf("panel %d %q is there twice, or lacks id or title", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		at := p.GridPos
		if at.X < 0 || at.W < 1 || at.H < 1 || at.X+at.W > 24 {
			t.Errorf("%q: gridPos %+v", p.Title, at)
		}
		for x := at.X; x < at.X+at.W; x++ {
			for y := at.Y; y < at.Y+at.H; y++ {
				if other := taken[[2]int{x, y}]; other != "" {
					t.Fatalf("%q lies over %q", p.Title, other)
				}
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type == "row" {
			if len(p.Targets)+len(p.Panels) > 0 {
				t.Errorf("row %q: its panels must stand behind it, or they are not looked at here", p.Title)
			}
			continue
		}
		if p.Type != "stat" && p.Type != "timeseries" || !slices.Contains(units, p.FieldConfig.Defaults.Unit) || len(p.Targets) == 0 {
			t.Errorf("%q: type %q, unit %q, %d targets", p.Title, p.Type, p.FieldConfig.Defaults.Unit, len(p.Targets))
		}
		want := source{"prometheus", "${datasource}"}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if refs[target.RefID] || target.RefID == "" || p.Datasource != want || target.Datasource != want {
				t.Errorf("%q: target %+v, source %+v", p.Title, target, p.Datasource)
			}
			refs[target.RefID] = true
			for _, s := range selectors(t, target.Expr) {
				if one := s.on["instance"]; one == nil || !one("$instance") {
					t.Errorf("%q: %s asks all gateways", p.Title, target.Expr)
				}
			}
		}
	}
}

// A legend names labels that its expression has.
func TestDashboardLegends(t *testing.T) {
	known := map[string]bool{"instance": true}
	for _, s := range series(t) {
		for name := range s {
			known[name] = true
		}
	}
	named := regexp.MustCompile(`\{\{(\w+)\}\}`)
	kept := regexp.MustCompile(`by \(([^)]*)\)`)
	words := regexp.MustCompile(`\w+`)
	for _, p := range dashboard(t) {
		for _, target := range p.Targets {
			have := known
			if by := kept.FindStringSubmatch(target.Expr); by != nil {
				have = map[string]bool{}
				for _, l := range words.FindAllString(by[1], -1) {
					have[l] = known[l]
				}
			}
			for _, m := range named.FindAllStringSubmatch(target.LegendFormat, -1) {
				if !have[m[1]] {
					t.Errorf("%q: %s has no label %s", p.Title, target.Expr, m[1])
				}
			}
		}
	}
}
