package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake/engines"
)

// What docs/identities.md has of SPIFFE is a configuration, together with a rule: nobody needs to be
// asked for it, and nothing is trusted until the agent has answered.
func TestSPIFFEOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../docs/identities.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "\n## From an agent: the SPIFFE Workload API\n")
	_, block, found := strings.Cut(section, "```yaml\n")
	block, _, closed := strings.Cut(block, "```\n")
	if !found || !closed {
		t.Fatal("docs/identities.md has no such configuration")
	}
	file := filepath.Join(t.TempDir(), "gate.yaml")
	text := "version: 1\ncapture: {interfaces: [eth1], ports: [443]}\n" + block + `policy:
  rules:
    - name: pay
      to: ["10.20.0.0/16:443"]
      identity: gateway
      client: {authorities: [home, partner], allow: [{san_uri: ["spiffe://example.org/pay/*"]}]}
      destination: {tls: plain}
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rt, findings := Check(file, engines.New())
	if rt == nil {
		t.Fatal(findings)
	}
	if got := rt.Agents(); !slices.Equal(got, []string{"/run/spire/agent.sock"}) {
		t.Errorf("agents %q", got)
	}
	if len(rt.Own) != 1 || !rt.Own[0].Unanswered() || rt.Own[0].Failed() == nil {
		t.Errorf("%d identities", len(rt.Own))
	}
	if len(rt.Trusted) != 2 || len(rt.Trusted[0].Current().Roots) > 0 || !rt.Trusted[0].Unanswered() {
		t.Errorf("%d authorities", len(rt.Trusted))
	}
	if kinds := rt.Environment.Identities["gateway"].Source.Is(); len(kinds) != 1 || kinds[0].String() != "ECDSA P-256 for uri:spiffe://example.org/gateway" {
		t.Errorf("%v", kinds)
	}
	again, _ := Check(file, engines.New())
	if again.Set.ID() != rt.Set.ID() {
		t.Error("the policy has another id each time")
	}
}
