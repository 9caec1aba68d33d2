package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// fleetDesk is what stands on the desk where docs/fleet.md begins.
const fleetDesk = `exec sslgate pki init --name 'Staff CA'
exec sslgate pki issue --server pay.example
cp pki/ca.pem policy/ca.pem
cp pki/pay.example.pem policy/pay.pem
`

const fleetDeskFiles = `
-- still-revoked.txt --
# what alice has lost
4f:3a:99
-- policy/oslo/networks.txt --
203.0.113.0/24
-- policy/networks.txt --
192.0.2.0/24
-- policy/sslgate.yaml --
version: 1
authorities:
  staff: {roots: ca.pem}
identities:
  pay: {certificate: pay.pem, key: /etc/sslgate/pay.key}
policy:
  sets:
    offices: {file: networks.txt}
  rules:
    - name: pay
      from: ["@offices"]
      to: ["203.0.113.0/24:443"]
      identity: pay
      client: {certificate: required, authorities: [staff]}
      destination: {tls: plain}
`

// What docs/fleet.md shows is what is said, from its first command to its last. Dots stand for anything.
// What needs an etcd is not run here: TestFleetOfThree of package e2e pushes.
func TestFleetTranscript(t *testing.T) {
	text, err := os.ReadFile("../../docs/fleet.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	script.WriteString(fleetDesk)
	ran := 0
	for i, block := range strings.Split(string(text), "```") {
		if i%2 == 0 || !strings.HasPrefix(strings.TrimSpace(block), "$ ") {
			continue
		}
		for _, step := range strings.Split("\n"+strings.TrimSpace(block), "\n$ ")[1:] {
			command, said, _ := strings.Cut(step, "\n")
			if strings.Contains(command, "etcd://") {
				continue
			}
			ran++
			fmt.Fprintf(&script, "exec %s\n", command)
			if said == "" {
				t.Errorf("%q: what does it say?", command)
			}
			var lines []string
			for line := range strings.SplitSeq(strings.TrimSpace(said), "\n") {
				if line == "..." {
					lines = append(lines, ".*") // lines
					continue
				}
				lines = append(lines, strings.ReplaceAll(regexp.QuoteMeta(line), `\.\.\.`, `[^\n]*`))
			}
			fmt.Fprintf(&script, "stdout '(?s)^%s\\n$'\n", strings.ReplaceAll(strings.Join(lines, `\n`), "'", "''"))
		}
	}
	if ran < 8 {
		t.Fatalf("%d commands", ran)
	}
	script.WriteString(fleetDeskFiles)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fleet.txtar"), []byte(script.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{Dir: dir, Setup: func(e *testscript.Env) error {
		e.Setenv("COLUMNS", "5000") // lines stay whole
		return nil
	}})
}
