package config

import (
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/stdtls"
)

// What the documentation tells people to write can be written: alpn: [] is no
// mistake and answers none, while an empty list of selectors stays one. A misspelt
// alpn is one mistake and no second one.
func TestEmptyALPN(t *testing.T) {
	for _, c := range []struct{ name, with, want string }{
		{"none meant", "alpn: []", ""},
		{"some", "alpn: [h2]", ""},
		{"left out", "ledger: full", "policy.rules[0].alpn: rule \"pay\" answers no client"},
		{"misspelt", "aplm: [h2]", "policy.rules[0].aplm: unknown key"},
		{"no list", "alpn: h2", "policy.rules[0].alpn: wants a list"},
		{"empty alpn_offered", "alpn: []\n      alpn_offered: []", "policy.rules[0].alpn_offered: an empty list says nothing"},
		{"empty sni", "alpn: []\n      sni: []", "policy.rules[0].sni: an empty list says nothing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			writePKI(t, dir)
			t.Chdir(dir)
			text := `version: 1
capture: {interfaces: [eth1], ports: [443]}
authorities: {staff: {roots: staff-ca.pem}}
identities: {pay: {certificate: pay.pem, key: pay.key}}
policy:
  rules:
    - name: pay
      to: ["10.20.0.0/16:443"]
      identity: pay
      ` + c.with + `
      client: {authorities: [staff]}
      destination: {tls: plain}
`
			_, found := build(parse("a.yaml", []byte(text)), stdtls.New(), testNow)
			if c.want == "" && len(found) > 0 {
				t.Errorf("found %v", found)
			}
			if c.want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), c.want)) {
				t.Errorf("found %v, want one with %q", found, c.want)
			}
		})
	}
}
