package dist

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

var (
	gateways = []string{"sslgate.service", "sslgate-guard.service"}
	units    = append([]string{"sslgate-signer.service"}, gateways...)
)

// systemd itself reads the units and finds nothing wrong.
func TestUnitsVerify(t *testing.T) {
	testenv.Tool(t, "systemd-analyze")
	dir := t.TempDir()
	args := []string{"verify", "--man=no", "--recursive-errors=no"}
	for _, u := range units {
		b, err := os.ReadFile(filepath.Join("systemd", u))
		if err != nil {
			t.Fatal(err)
		}
		// It looks whether the program is there.
		b = []byte(strings.ReplaceAll(string(b), "/usr/bin/sslgate", "/bin/true"))
		if err := os.WriteFile(filepath.Join(dir, u), b, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, filepath.Join(dir, u))
	}
	if out, err := exec.Command("systemd-analyze", args...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// Exposure by systemd's own measure, 0 to 10.
func TestUnitsExposure(t *testing.T) {
	testenv.Tool(t, "systemd-analyze")
	level := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`)
	for _, u := range units {
		out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", filepath.Join("systemd", u)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		m := level.FindSubmatch(out)
		if m == nil {
			t.Fatalf("no level in:\n%s", out)
		}
		if got, err := strconv.ParseFloat(string(m[1]), 64); err != nil || got >= 2.5 {
			t.Errorf("%s: %s, want less than 2.5\n%s", u, m[1], out)
		}
	}
}

// setting is the value of one key of a unit; all of them where it is repeated.
func setting(t *testing.T, unit, key string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("systemd", unit))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="); ok {
			all = append(all, v)
		}
	}
	return strings.Join(all, " ")
}

// What the gateway's safety rests on.
func TestUnitsSay(t *testing.T) {
	for _, u := range gateways {
		for key, want := range map[string]string{
			"User": "sslgate", "AmbientCapabilities": "CAP_NET_ADMIN", "CapabilityBoundingSet": "CAP_NET_ADMIN",
			"NoNewPrivileges": "yes", "LimitCORE": "0", "ProtectSystem": "strict",
		} {
			if got := setting(t, u, key); got != want {
				t.Errorf("%s: %s=%s, want %s", u, key, got, want)
			}
		}
	}
	for key, want := range map[string]string{
		"User": "sslgate-signer", "Group": "sslgate", "RuntimeDirectoryMode": "0750", "AmbientCapabilities": "", "CapabilityBoundingSet": "", "NoNewPrivileges": "yes",
		"LimitCORE": "0", "PrivateNetwork": "yes", "PrivateDevices": "yes", "ProtectSystem": "strict", "RestrictAddressFamilies": "AF_UNIX",
	} {
		if got := setting(t, "sslgate-signer.service", key); got != want {
			t.Errorf("sslgate-signer.service: %s=%s, want %s", key, got, want)
		}
	}
	for key, want := range map[string]string{"Type": "notify", "Restart": "always", "StartLimitIntervalSec": "0", "RestartSec": "100ms", "ExecReload": "/usr/bin/sslgate reload --pid $MAINPID --or-upgrade", "NotifyAccess": "all", "KillMode": "process", "DeviceAllow": "/dev/net/tun rw"} {
		if got := setting(t, "sslgate.service", key); got != want {
			t.Errorf("sslgate.service: %s=%s, want %s", key, got, want)
		}
	}
	if setting(t, "sslgate.service", "WatchdogSec") == "" {
		t.Error("no watchdog")
	}
	// A booting host is closed: the guard stands before any interface is
	// configured, and after what flushes the rules; a stop does not lift it.
	const guard = "sslgate-guard.service"
	if b := setting(t, guard, "Before"); !strings.Contains(b, "network-pre.target") || !strings.Contains(b, "sslgate.service") {
		t.Errorf("guard: Before=%s", b)
	}
	if a := setting(t, guard, "After"); !strings.Contains(a, "nftables.service") || strings.Contains(a, "network") {
		t.Errorf("guard: After=%s", a)
	}
	for _, key := range []string{"ExecStop", "ExecStopPost"} {
		if got := setting(t, guard, key); got != "" {
			t.Errorf("guard: %s=%s lets traffic pass", key, got)
		}
	}
}
