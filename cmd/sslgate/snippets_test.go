package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/lab/testpki"
)

// tree is a part of a configuration.
type tree = map[string]any

// snippet is YAML in a document.
type snippet struct {
	page string
	line int
	text string
}

// snippets are the blocks of YAML of the documents, and the spans which are a part
// of a configuration in braces.
func snippets(t *testing.T) []snippet {
	t.Helper()
	var all []snippet
	span := regexp.MustCompile("`((?:admin|audit|authorities|capture|dial|identities|limits|log|policy|profiles|reload|tun): \\{[^`.…]*\\})`")
	for _, p := range pages(t) {
		if strings.HasSuffix(p.name, "CHANGELOG.md") {
			continue // it quotes what was
		}
		for i := 0; i < len(p.lines); i++ {
			l := p.lines[i]
			indented := i > 0 && p.lines[i-1] == "" && regexp.MustCompile(`^    [a-z]+:( |$)`).MatchString(l)
			if l != "```yaml" && !indented {
				for _, m := range span.FindAllStringSubmatch(l, -1) {
					if strings.Contains(m[1], "FILE") {
						continue // a word that stands for a value
					}
					all = append(all, snippet{p.name, i + 1, m[1]})
				}
				continue
			}
			s := snippet{p.name, i + 1, ""}
			if !indented {
				i++
			}
			for ; i < len(p.lines) && p.lines[i] != "```" && (!indented || strings.HasPrefix(p.lines[i], "    ")); i++ {
				s.text += strings.TrimPrefix(p.lines[i], map[bool]string{true: "    "}[indented]) + "\n"
			}
			all = append(all, s)
		}
	}
	return all
}

func parsed(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// whole is a configuration that a part of one is put into.
func whole(t *testing.T) tree {
	t.Helper()
	return parsed(t, `
version: 1
capture: {interfaces: [eth1], ports: [443]}
authorities: {staff: {roots: staff.pem}, ops: {roots: ops.pem}}
identities: {pay: {certificate: pay.pem, key: pay.key}, gateway: {certificate: gateway.pem, key: gateway.key}, web: {certificate: web.pem, key: web.key}}
policy:
  rules:
    - {name: pay, to: ["10.20.0.9:443"], sni: [pay.corp.example], identity: pay, client: {authorities: [staff]}, destination: {tls: plain}}
`).(tree)
}

// over puts part over base: maps are put together, all else is replaced, and of
// rules those of the same name.
func over(base, part tree) {
	if part["spiffe"] != nil { // in the place of files
		for _, file := range []string{"certificate", "key", "roots"} {
			delete(base, file)
		}
	}
	for k, v := range part {
		had, hadMap := base[k].(tree)
		if put, isMap := v.(tree); isMap && hadMap {
			over(had, put)
			continue
		}
		if k == "rules" {
			v = withRules(base[k].([]any), v.([]any))
		}
		base[k] = v
	}
}

func withRules(base, part []any) []any {
	out := append([]any(nil), base...)
next:
	for _, r := range part {
		for i, b := range base {
			if b.(tree)["name"] == r.(tree)["name"] {
				rule := maps.Clone(b.(tree))
				over(rule, r.(tree))
				out[i] = rule
				continue next
			}
		}
		rule := maps.Clone(base[0].(tree))
		over(rule, r.(tree))
		if rule["action"] == "bypass" {
			rule = r.(tree)
		}
		out = append(out, rule)
	}
	return out
}

// library makes the files that configurations name.
type library struct {
	t     *testing.T
	dir   string
	roots map[string]*testpki.CA
}

func (l *library) put(name string, text []byte) string {
	l.t.Helper()
	path := filepath.Join(l.dir, filepath.Base(name))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// fill makes what a configuration names, and names it where it is now.
func (l *library) fill(c tree) {
	part := func(name string) tree { m, _ := c[name].(tree); return m }
	for name, v := range part("authorities") {
		a := v.(tree)
		if a["spiffe"] != nil && a["roots"] == nil {
			continue // an agent's
		}
		root := l.roots[name]
		if root == nil {
			root = testpki.Must(testpki.NewCA(testpki.Options{CN: name}))
			l.roots[name] = root
		}
		a["roots"] = l.put(name+"-roots.pem", root.PEM())
		if a["intermediates"] != nil {
			a["intermediates"] = l.put(name+"-issuing.pem", testpki.Must(root.Intermediate(testpki.Options{CN: name + " issuing"})).PEM())
		}
		if lists, ok := a["crl"].([]any); ok {
			for i, where := range lists {
				if file := where.(string); !strings.Contains(file, "://") {
					lists[i] = l.put(file, testpki.CRLPEM(testpki.Must(root.CRL(1, time.Now().Add(time.Hour)))))
				}
			}
		}
	}
	ca := testpki.Must(testpki.NewCA(testpki.Options{CN: "servers"}))
	for name, v := range part("identities") {
		id := v.(tree)
		if id["certificate"] == nil {
			continue
		}
		chain, key, err := testpki.Must(ca.Issue(testpki.Leaf{CN: name, DNS: []string{
			name + ".corp.example", "*.corp.example", "*.pay.example"}})).PEM()
		if err != nil {
			l.t.Fatal(err)
		}
		id["certificate"], id["key"] = l.put(name+".pem", chain), l.put(name+".key", key)
	}
	if p := part("policy"); p != nil {
		sets, _ := p["sets"].(tree)
		for _, v := range sets {
			if s, ok := v.(tree); ok && s["file"] != nil {
				s["file"] = l.put(s["file"].(string), []byte("# one\n1234abcd\n"))
			}
		}
	}
	if a := part("admin"); a["token_file"] != nil {
		a["token_file"] = l.put("admin.token", []byte(strings.Repeat("t0ken", 8)+"\n"))
	}
	if a := part("audit"); a["file"] != nil {
		a["file"] = filepath.Join(l.dir, "audit.jsonl")
	}
	if c["state"] != nil {
		c["state"] = l.dir
	}
}

// checked says what `sslgate check` says to a configuration.
func (l *library) checked(c tree) (code int, text string) {
	l.t.Helper()
	l.fill(c)
	raw, err := yaml.Marshal(c)
	if err != nil {
		l.t.Fatal(err)
	}
	code, out, errs := called("check", l.put("sslgate.yaml", raw))
	return code, out + errs
}

// configuration puts a snippet into a whole configuration.
func configuration(t *testing.T, s snippet) tree {
	t.Helper()
	switch v := parsed(t, s.text).(type) {
	case []any: // rules
		c := whole(t)
		over(c["policy"].(tree), tree{"rules": v})
		return c
	case tree:
		if v["version"] != nil {
			return v
		}
		c := whole(t)
		if q, ok := v["tun"].(tree); ok && q["queues"] == "N" {
			q["queues"] = 2
		}
		if v["client"] != nil { // of a rule
			v["name"] = "pay"
			v = tree{"policy": tree{"rules": []any{v}}}
		}
		over(c, v)
		capture := c["capture"].(tree)
		if capture["ports"] == "all" && capture["except_ports"] == nil {
			capture["except_ports"] = []any{22} // asked for beside it
		}
		if tun, ok := c["tun"].(tree); ok && tun["attach"] == true {
			delete(capture, "interfaces") // instead of them
		}
		return c
	}
	t.Fatalf("%s:%d: neither a map nor a list", s.page, s.line)
	return nil
}

// What the documents write in YAML is what sslgate, its tests of policies, and
// Prometheus take.
func TestSnippetsOfDocuments(t *testing.T) {
	all := snippets(t)
	if len(all) < 12 {
		t.Fatalf("only %d snippets", len(all))
	}
	for _, s := range all {
		l := &library{t: t, dir: t.TempDir(), roots: map[string]*testpki.CA{}}
		at := strings.TrimPrefix(s.page, "../../")
		switch {
		case strings.HasPrefix(s.text, "# prometheus.yml"):
			file := l.put("prometheus.yml", []byte(regexp.MustCompile(`(?m)^rule_files:.*$`).ReplaceAllString(s.text, "")))
			for _, name := range []string{"gateway-ca.pem", "prometheus.pem", "prometheus.key"} {
				l.put(name, nil)
			}
			if out, err := exec.Command(testenv.Tool(t, "promtool"), "check", "config", "--syntax-only", file).CombinedOutput(); err != nil {
				t.Errorf("%s:%d: %v\n%s", at, s.line, err, out)
			}
		case strings.Contains(s.text, "\ntests:"):
			file := l.put("policy_test.yaml", []byte(s.text))
			if code, out, errs := called("test", "-c", "../../docs/examples/gateway.yaml", file); code != 0 {
				t.Errorf("%s:%d: %d\n%s%s", at, s.line, code, out, errs)
			}
		default:
			if code, text := l.checked(configuration(t, s)); code != 0 {
				t.Errorf("%s:%d: %d\n%s%s", at, s.line, code, s.text, text)
			}
		}
	}
}

// What the test of the snippets must find is found: a mistake in any part.
func TestMistakesInSnippetsAreFound(t *testing.T) {
	for _, text := range []string{
		"capture: {port: 443}",
		"admin: {metrics: {listen: \"[::]:9441\", identity: nobody}}",
		"limits: {memory: much}",
		"- {name: wiki, sni: [wiki.corp.example], same_service: [nobody]}",
		"client:\n  authorities: [staff]\n  when: cert.nothing == 1\n",
		"policy: {sets: {tills: {fil: x}}}",
	} {
		l := &library{t: t, dir: t.TempDir(), roots: map[string]*testpki.CA{}}
		if code, out := l.checked(configuration(t, snippet{text: text})); code != 2 {
			t.Errorf("%s: %d\n%s", text, code, out)
		}
	}
}
