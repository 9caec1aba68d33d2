package testenv

import (
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
)

// A shell that a test starts can trap what the test's own starter has ignored; after
// the test it is ignored again.
func TestSignals(t *testing.T) {
	sh := Tool(t, "sh")
	for name, sig := range map[string]syscall.Signal{"HUP": syscall.SIGHUP, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT} {
		signal.Ignore(sig)
		t.Cleanup(func() { signal.Reset(sig) })
		traps := func() string {
			out, err := exec.Command(sh, "-c", `trap "echo heard" "$1"; kill -s "$1" $$; echo end`, "sh", name).Output()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			return strings.Join(strings.Fields(string(out)), " ")
		}
		if got := traps(); got != "end" {
			t.Errorf("%s is ignored, and the shell says %q", name, got)
		}
		t.Run(name, func(t *testing.T) {
			Signals(t, sig)
			if got := traps(); got != "heard end" {
				t.Errorf("the shell says %q", got)
			}
		})
	}
}
