package policytest

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/handshake/stdtls"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/policy"
)

const examples = "../../docs/examples/"

// run is `sslgate test` without the command.
func run(t *testing.T, file string) *Report {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tests, err := Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	f, set, stand := tryOut(t, tests.PolicyFile())
	r, err := tests.Run(set, f.Config.Policy.Rules, stand, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// tryOut compiles a policy that nothing may be said about.
func tryOut(t *testing.T, file string) (*config.File, *policy.Set, *StandIns) {
	t.Helper()
	f, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	stand := NewStandIns()
	id, err := stand.Identity()
	if err != nil {
		t.Fatal(err)
	}
	set, _, found := config.TryPolicy(f, stdtls.New(), config.StandIns{Identity: id, Authority: stand.Authority})
	if set == nil {
		t.Fatal(found)
	}
	for _, x := range found {
		t.Errorf("an example with a finding: %s", x)
	}
	return f, set, stand
}

// The first configuration that a newcomer copies has no finding either.
func TestReadmeIsGood(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "\n```yaml\n")
	text, _, found := strings.Cut(rest, "\n```\n")
	file := filepath.Join(t.TempDir(), "sslgate.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); !found || err != nil {
		t.Fatal(found, err)
	}
	if _, set, _ := tryOut(t, file); set.ID() == "" {
		t.Error("no policy")
	}
}

// The policies that are shipped do what their tests promise, every rule of
// them has a test, and the documentation leads to each.
func TestExamples(t *testing.T) {
	var all []string
	docs := map[string]string{} // by the directory of the examples that they lead to
	for dir, page := range map[string]string{"": "policy.md", "keepalived/": "failover.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		docs[dir] = string(text)
		some, err := filepath.Glob(examples + dir + "*.yaml")
		if err != nil || len(some) == 0 {
			t.Fatal(dir, err)
		}
		all = append(all, some...)
	}
	policies := slices.DeleteFunc(all, func(s string) bool { return strings.HasSuffix(s, "_test.yaml") })
	if len(policies) < 4 {
		t.Fatalf("only %d examples", len(policies))
	}
	for _, file := range policies {
		name := strings.TrimSuffix(strings.TrimPrefix(file, examples), ".yaml")
		dir := name[:strings.LastIndex(name, "/")+1]
		t.Run(name, func(t *testing.T) {
			r := run(t, examples+name+"_test.yaml")
			for _, result := range r.Results {
				if len(result.Wrong) > 0 {
					t.Errorf("%s: %s", result.Case.Name, strings.Join(result.Wrong, "; "))
				}
			}
			if left := r.Uncovered(); len(left) > 0 {
				t.Errorf("no test comes to %v", left)
			}
			for _, file := range []string{"examples/" + name + ".yaml", "examples/" + name + "_test.yaml"} {
				if !strings.Contains(docs[dir], "]("+file+")") {
					t.Errorf("the documentation of %q has no link to %s", dir, file)
				}
			}
		})
	}
}

// A hello of words is one that a real client could send.
func TestHello(t *testing.T) {
	h, err := Hello{SNI: "Pay.Corp.Example", ALPN: []string{"h2", "http/1.1"}}.ClientHello()
	if err != nil {
		t.Fatal(err)
	}
	if h.ServerName != "pay.corp.example" || !slices.Equal(h.ALPN, []string{"h2", "http/1.1"}) || !slices.Equal(h.SupportedVersions, []uint16{tls.VersionTLS13, tls.VersionTLS12}) {
		t.Errorf("%+v", h)
	}
	for _, p := range handshake.NamedProfiles() {
		if e := h.Acceptable(p); e != nil && (p.Name == "modern" || p.Name == "intermediate") {
			t.Errorf("%s: %v", p.Name, e)
		}
	}
	old, err := Hello{Versions: []string{"1.2"}, Suites: []string{"ECDHE-RSA-AES128-GCM-SHA256"}, Groups: []string{"P-256"}}.ClientHello()
	if err != nil || old.SNIPresent || !slices.Contains(old.SupportedVersions, tls.VersionTLS12) || slices.Contains(old.SupportedVersions, tls.VersionTLS13) {
		t.Errorf("%+v, %v", old, err)
	}
	odd, err := Hello{SNI: "10.0.0.1"}.ClientHello()
	if err != nil || !odd.SNIInvalid || odd.ServerName != "" {
		t.Errorf("an address as the name: %+v, %v", odd, err)
	}
	for name, bad := range map[string]Hello{
		"version": {Versions: []string{"1.7"}}, "suite": {Suites: []string{"x"}}, "group": {Groups: []string{"x"}}, "none": {Groups: []string{}},
		"long ALPN": {ALPN: []string{strings.Repeat("x", 256)}}, "empty ALPN": {ALPN: []string{""}}, "long name": {SNI: strings.Repeat("x", 1<<16)},
	} {
		if h, err := bad.ClientHello(); err == nil || h != nil {
			t.Errorf("%s: %v", name, h)
		}
	}
}

func TestAgreed(t *testing.T) {
	h, err := Hello{ALPN: []string{"http/1.1", "h2"}, Groups: []string{"X25519", "P-256"}}.ClientHello()
	if err != nil {
		t.Fatal(err)
	}
	var p handshake.Profile
	for _, named := range handshake.NamedProfiles() {
		if named.Name == "intermediate" {
			p = named
		}
	}
	s := Agreed(h, p, []string{"h2"})
	if s.Version != tls.VersionTLS13 || s.Suite != tls.TLS_AES_128_GCM_SHA256 || s.Group != uint16(tls.X25519) || s.ALPN != "h2" {
		t.Errorf("%+v", s)
	}
}

// Every mistake of a test file is said at its place.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "t.yaml:1:1: the file is empty",
		"tests: []":           "t.yaml:1:1: tests: an empty list says nothing",
		"policy: x":           "t.yaml:1:1: tests: there are no tests",
		"a":                   "t.yaml:1:1: the file wants keys and values",
		"now: x\ntests: [{}]": "t.yaml:1:6: now: \"x\" is no time",
		"tests: [{nam: x}]":   `t.yaml:1:10: tests[0].nam: unknown key (did you mean "name"?)`,
		"tests: [{name: x}]":  `t.yaml:1:9: tests[0].from: "" is no address`,
		"tests: [{name: x, from: 10.0.0.1, to: 10.0.0.2}]":                                                                     `t.yaml:1:39: tests[0].to: "10.0.0.2" is no destination`,
		"tests: [{name: x, from: 10.0.0.1, to: '10.0.0.2:1', want: {verdict: alow}}]":                                          `t.yaml:1:69: tests[0].want.verdict: "alow" is no verdict: allow, bypass, originate or deny (did you mean "allow"?)`,
		"tests: [{name: x, from: 10.0.0.1, to: '10.0.0.2:1', want: {verdict: deny, reason: no_rul}}]":                          `tests[0].want.reason: "no_rul" is no reason (did you mean "no_rule"?)`,
		"tests: [{name: x, from: 10.0.0.1, to: '10.0.0.2:1', tls: ['9'], want: {verdict: deny}}]":                              `tests[0]: such a client hello cannot be: unknown TLS version "9"`,
		"tests: [{name: x, from: 10.0.0.1, to: '10.0.0.2:1', certificate: {file: a, untrusted: true}, want: {verdict: deny}}]": "tests[0].certificate.file: the certificate stands in a file",
	} {
		f, err := Parse("t.yaml", []byte(text))
		var found config.Findings
		if f != nil || !errors.As(err, &found) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n is %v,\nwant %s", text, err, want)
		}
	}
}

// FuzzTestFile: whatever a test file holds, it is read or has mistakes, each
// with a place; what is read can be run against a policy.
func FuzzTestFile(f *testing.F) {
	files, err := filepath.Glob(examples + "*_test.yaml")
	if err != nil || len(files) == 0 {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte("tests: [{name: x, from: 10.0.0.1, to: '10.0.0.2:1', certificate: {authority: staff, key: rsa-1024, valid_left: -1d, eku: [1.2.3], policies: [1.2], serial: ff}, want: {verdict: deny, would: none}}]"))
	gate, err := config.Load(examples + "gateway.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tests, err := Parse("fuzz.yaml", text)
		var found config.Findings
		if err != nil {
			if tests != nil || !errors.As(err, &found) || len(found) == 0 {
				t.Fatalf("%v, %v", tests, err)
			}
			for _, x := range found {
				if x.Line < 1 || x.Col < 1 || x.Msg == "" {
					t.Fatalf("finding %+v", x)
				}
			}
			return
		}
		if len(tests.Spec.Tests) > 3 {
			return
		}
		stand := NewStandIns()
		id, err := stand.Identity()
		if err != nil {
			t.Fatal(err)
		}
		set, _, findings := config.TryPolicy(gate, stdtls.New(), config.StandIns{Identity: id, Authority: stand.Authority})
		if set == nil {
			t.Fatal(findings)
		}
		r, err := tests.Run(set, gate.Config.Policy.Rules, stand, nil)
		if err == nil && len(r.Results) != len(tests.Spec.Tests) || err != nil && !errors.As(err, &found) {
			t.Fatalf("%v, %v", r, err)
		}
	})
}
