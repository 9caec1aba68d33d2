package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/probe"
	"github.com/sslgate/sslgate/internal/reason"
)

// The page names only codes, reasons and profiles that exist.
func TestHandshakeDoc(t *testing.T) {
	page, err := os.ReadFile(alertDoc)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(page), "## Profiles")
	places := regexp.MustCompile("`([a-z0-9_/]+\\.go)`(?: ([A-Za-z0-9]+))?").FindAllStringSubmatch(text, -1)
	if len(places) < 15 {
		t.Errorf("only %d places in the code are named", len(places))
	}
	for _, m := range places {
		src, err := os.ReadFile(filepath.Join("..", m[1]))
		if err != nil {
			t.Error(err)
		} else if !regexp.MustCompile(`func (\([^)]*\) )?` + m[2]).Match(src) {
			t.Errorf("%s has no func %s", m[1], m[2])
		}
	}
	// Codes with an alert behind them: "`sni_missing` 109", "`a`, `b` 71".
	for _, m := range regexp.MustCompile("((?:`[a-z_]+`, )*`[a-z_]+`) ([0-9]+)").FindAllStringSubmatch(text, -1) {
		for _, code := range regexp.MustCompile("[a-z_]+").FindAllString(m[1], -1) {
			e, ok := reason.Lookup(reason.Code(code))
			if !ok || fmt.Sprint(e.Alert) != m[2] {
				t.Errorf("%s with alert %s: the reason has %d (known: %v)", code, m[2], e.Alert, ok)
			}
		}
	}
	for _, p := range handshake.NamedProfiles() {
		if !strings.Contains(string(page), "| `"+p.Name+"` |") {
			t.Errorf("profile %s is not in the table", p.Name)
		}
	}
	probed, err := os.ReadFile("../docs/probe.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(probed), fmt.Sprintf("at most %d of them", probe.MaxConnections)) {
		t.Errorf("docs/probe.md does not say %d connections", probe.MaxConnections)
	}
}
