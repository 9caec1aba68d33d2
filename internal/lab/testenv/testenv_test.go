package testenv

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What is missing skips for a developer and fails in CI: run this very test
// binary both ways.
func TestMissingToolSkipsButFailsInCI(t *testing.T) {
	if os.Getenv("TESTNEED_INNER") == "1" {
		Tool(t, "no-such-program-anywhere")
		return
	}
	for ci, want := range map[string]string{"": "--- SKIP", "true": "--- FAIL"} {
		cmd := exec.Command(os.Args[0], "-test.v", "-test.run", "^TestMissingToolSkipsButFailsInCI$")
		cmd.Env = append(os.Environ(), "TESTNEED_INNER=1", "CI="+ci)
		out, _ := cmd.CombinedOutput() // its exit code differs between the two
		if !strings.Contains(string(out), want) {
			t.Errorf("CI=%q: want %q in:\n%s", ci, want, out)
		}
	}
}
