package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/config"
)

// Listeners are read in the kernel's format, and only those are named whose port is
// captured and that clients can reach.
func TestLocalServices(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	const head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
	for name, text := range map[string]string{
		"tcp": head + "   0: 0101580A:01BB 00000000:0000 0A 0:0 00:0 0 0 0 1\n" + // 10.88.1.1:443
			"   1: 00000000:0016 00000000:0000 0A 0:0 00:0 0 0 0 1\n" + // 0.0.0.0:22
			"   2: 0100007F:01BB 00000000:0000 0A 0:0 00:0 0 0 0 1\n" + // 127.0.0.1:443
			"   3: 0101580A:01BB 0201580A:9C40 01 0:0 00:0 0 0 0 1\n" + // established
			"garbage\n   4: zz:01BB 0:0 0A\n",
		"tcp6": head + "   0: B80D0120000000000000000001000000:01BB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 1\n" +
			"   1: 00000000000000000000000000000000:20FB 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 1\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "net", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for want, capture := range map[string]config.Capture{
		"10.88.1.1:443 [2001:db8::1]:443": {Ports: config.Ports{List: []uint16{443}}},
		"[::]:8443":                       {Ports: config.Ports{List: []uint16{8443}}},
		"":                                {Ports: config.Ports{List: []uint16{80}}},
		"0.0.0.0:22 10.88.1.1:443 [2001:db8::1]:443": {Ports: config.Ports{All: true}, ExceptPorts: []int{8443}},
	} {
		if got := strings.Join(LocalServices(dir, &config.Config{Capture: capture}), " "); got != want {
			t.Errorf("%+v: %q, want %q", capture.Ports, got, want)
		}
	}
}
