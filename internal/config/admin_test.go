package config

import (
	"strings"
	"testing"
)

func TestAdminHTTP(t *testing.T) {
	for _, c := range []struct{ admin, want string }{
		{`{http: "127.0.0.1:9440", token_file: t}`, ""},
		{`{http: "[::1]:9440", token_file: t}`, ""},
		{`{http: "127.0.0.1:9440"}`, "token_file"},
		{`{token_file: t}`, "not set"},
		{`{http: "0.0.0.0:9440", token_file: t}`, "loopback"},
		{`{http: "192.0.2.1:9440", token_file: t}`, "loopback"},
		{`{http: "[::]:9440", token_file: t}`, "loopback"},
		{`{http: "[::ffff:127.0.0.1]:9440", token_file: t}`, "loopback"},
		{`{http: "localhost:9440", token_file: t}`, "loopback"},
		{`{http: ":9440", token_file: t}`, "loopback"},
		{`{http: "127.0.0.1:0", token_file: t}`, "loopback"},
		{`{http: "127.0.0.1", token_file: t}`, "loopback"},
	} {
		f := parse("x.yaml", []byte("version: 1\nadmin: "+c.admin+"\n"))
		var got string
		for _, finding := range f.findings {
			if s := finding.String(); strings.Contains(s, "admin") || strings.Contains(s, "token") || strings.Contains(s, "loopback") {
				got += s + "\n"
			}
		}
		if (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.admin, got, c.want)
		}
	}
}

// A view has what is set, in the words of the file, and nothing that is not.
func TestView(t *testing.T) {
	f := parse("x.yaml", []byte(`version: 1
capture: {interfaces: [eth1], ports: all, except_ports: [22]}
limits: {idle: 90s, hello: 4KiB}
identities: {pay: {certificate: c, key: k}}
policy: {rules: [{name: a, to: ["*:443"], action: deny}]}
`))
	v := View(f.Config)
	capture, _ := v["capture"].(map[string]any)
	limits, _ := v["limits"].(map[string]any)
	rules, _ := v["policy"].(map[string]any)["rules"].([]any)
	if capture["ports"] != "all" || limits["idle"] != "1m30s" || len(rules) != 1 {
		t.Errorf("view %v", v)
	}
	if rule := View(f.Config.Policy.Rules[0]); len(rule) != 3 || rule["action"] != "deny" {
		t.Errorf("rule %v", rule)
	}
	if pay, _ := v["identities"].(map[string]any)["pay"].(map[string]any); pay["key"] != "k" {
		t.Errorf("identities %v", v["identities"])
	}
	if _, has := v["profiles"]; has {
		t.Errorf("what is not set is shown: %v", v)
	}
}
