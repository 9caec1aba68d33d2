package demo

import (
	"os"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/reason"
)

// The table must make sense in itself: a scenario that wants nothing could
// not fail.
func TestScenariosAreSound(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Scenarios() {
		w := s.Want
		if seen[s.Name] || s.Name == "" || len(s.Name) > 16 {
			t.Errorf("%q: the name is not unique, or does not fit the table", s.Name)
		}
		seen[s.Name] = true
		if s.Title == "" || w.Saw == "" {
			t.Errorf("%s: without title, or without what the client must see", s.Name)
		}
		if n := len(w.summary()); n == 0 || n > 29 {
			t.Errorf("%s: %q does not fit the table", s.Name, w.summary())
		}
		if s.special == nil && s.client.dest == 0 {
			t.Errorf("%s: nothing is done", s.Name)
		}
		if w.NoRecord {
			continue
		}
		e, ok := reason.Lookup(w.Reason)
		switch {
		case !ok || w.Proven == AnyProof:
			t.Errorf("%s: reason %q or proof is not said", s.Name, w.Reason)
		case e.Kind == reason.Allowed && (w.Alert != handshake.AlertNone || w.Saw != SeenAnswer):
			t.Errorf("%s: allowed, but %+v", s.Name, w)
		case e.Kind != reason.Allowed && w.Saw == SeenAnswer:
			t.Errorf("%s: not allowed, but the client has its answer", s.Name)
		}
	}
	// What was promised; adding is fine, losing one is not.
	for _, name := range strings.Fields(`good-tls13 good-tls12 good-ipv6 good-mlkem no-certificate optional-none
		optional-bad other-ca expired not-yet-valid wrong-eku rsa-1024 thief-tls13 thief-tls12 tls11-only
		forbidden-suite unknown-name no-name plain-http garbage byte-by-byte silent bypass destination-down
		wrong-name default-deny two-gateways fragments killed`) {
		if !seen[name] {
			t.Errorf("scenario %s is gone", name)
		}
	}
}

func TestFind(t *testing.T) {
	if all, err := Find(nil); err != nil || len(all) != len(Scenarios()) {
		t.Errorf("all: %d, %v", len(all), err)
	}
	if two, err := Find([]string{"killed", "expired"}); err != nil || len(two) != 2 || two[0].Name != "killed" {
		t.Errorf("two: %v, %v", two, err)
	}
	if _, err := Find([]string{"expird"}); err == nil || !strings.Contains(err.Error(), `"expired"`) {
		t.Errorf("a misspelt name: %v", err)
	}
}

// `check` has nothing to say about the configurations that are handed out,
// not even a warning.
func TestConfigurationsAreSound(t *testing.T) {
	p, err := NewPKI()
	if err != nil {
		t.Fatal(err)
	}
	demoDir := t.TempDir()
	demoFile, err := p.Write(demoDir, demoConfig)
	if err != nil {
		t.Fatal(err)
	}
	labDir := t.TempDir() + "/new"
	if err := WriteLab(labDir, false); err != nil {
		t.Fatal(err)
	}
	twoDir := t.TempDir() + "/two"
	if err := WriteLab(twoDir, true); err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"shop": twoDir + "/near.yaml"} // rules of another gateway than the demo's
	for _, file := range []string{demoFile, labDir + "/sslgate.yaml", twoDir + "/near.yaml", twoDir + "/far.yaml"} {
		rt, found := config.Check(file, stdtls.New())
		for _, f := range found {
			t.Error(f.Format(false))
		}
		if rt == nil {
			t.Fatalf("%s cannot be used", file)
		}
		for _, s := range Scenarios() {
			where := demoFile
			if other := own[s.Want.Rule]; other != "" {
				where = other
			}
			if file == where && s.Want.Rule != "" && !hasRule(rt.Config, s.Want.Rule) {
				t.Errorf("%s: no rule %q in the configuration", s.Name, s.Want.Rule)
			}
		}
	}
	for _, name := range []string{"client.key", "gateway.key", "sslgate.yaml"} {
		if info, err := os.Stat(labDir + "/" + name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
}

func hasRule(c *config.Config, name string) bool {
	for _, r := range c.Policy.Rules {
		if r.Name == name {
			return true
		}
	}
	return false
}
