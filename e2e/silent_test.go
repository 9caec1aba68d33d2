package e2e

import (
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// With the wrong interface name nothing is captured, and every client waits in vain. Status,
// readiness, metrics and doctor name the right one.
func TestWrongInterfaceIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	const token = "silent-test-token-0123456789"
	w.pem("token", []byte(token+"\n"))
	w.config(payRule, `admin: {socket: admin.sock, http: "127.0.0.1:9440", token_file: token}`)
	config := w.rewrite("interfaces: ["+lab.LANIface+"]", "interfaces: ["+lab.WANIface+"]")
	g := w.start(config)
	w.knock(43001)
	want := "captured ports arrive on " + lab.LANIface + ", which is not captured"
	testenv.Eventually(w.t, "status names the interface", func() bool {
		out, err := w.sslgate("status", "--socket", w.socket())
		return err == nil && strings.Contains(out, want) && strings.Contains(out, "interface_not_captured")
	})
	if !g.stderr.wait(want, g.cmd.Done()) {
		t.Error("the log does not name it")
	}
	if ready := w.get9440(token, "/v1/ready"); !strings.Contains(ready, want) {
		t.Errorf("ready: %s", ready)
	}
	metrics := w.get9440(token, "/metrics")
	if !strings.Contains(metrics, `sslgate_guard_dropped_packets_total{reason="interface_not_captured"}`) || strings.Contains(metrics, `{reason="interface_not_captured"} 0`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	if out, _ := w.sslgate("doctor", "-c", config); !strings.Contains(out, want) || !strings.Contains(out, "interface_not_captured") {
		t.Errorf("doctor:\n%s", out)
	}
}

// If somebody changes the host so that nothing is captured any more, the gateway reports that
// with the command that repairs it; doctor says the same.
func TestHostChangesAreTold(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "nft")
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	config := w.config(payRule, "admin: {socket: admin.sock}")
	w.start(config)
	for _, c := range []struct{ fault, says, fix string }{
		{"sysctl -qw net.ipv4.ip_forward=0", "IPv4 is not forwarded", "sysctl -w net/ipv4/ip_forward=1"},
		{"sysctl -qw net.ipv4.conf." + lab.LANIface + ".rp_filter=1 net.ipv4.conf." + lab.LANIface + ".src_valid_mark=1", "strict reverse path filter", "sysctl -w net/ipv4/conf/" + lab.LANIface + "/rp_filter=2"},
		{"nft add table ip t_f; nft 'add chain ip t_f FORWARD { type filter hook forward priority 0 ; policy drop ; }'; nft add rule ip t_f FORWARD oifname docker0 accept",
			"chain FORWARD of table ip t_f drops IPv4 from " + lab.LANIface + " to sslgate0", "nft insert rule ip t_f FORWARD iifname " + lab.LANIface + " oifname sslgate0 accept"},
	} {
		w.sh(c.fault)
		status := func() string {
			out, err := w.sslgate("status", "--socket", w.socket())
			if err != nil {
				t.Fatalf("status: %v %s", err, out)
			}
			return strings.Join(strings.Fields(out), " ")
		}
		testenv.Eventually(t, c.says, func() bool { return strings.Contains(status(), c.says) })
		out := status()
		if !strings.Contains(out, "not ready") || !strings.Contains(out, c.fix) {
			t.Errorf("%s: %s", c.fault, out)
		}
		if out, _ := w.sslgate("doctor", "-c", config); !strings.Contains(out, c.says) {
			t.Errorf("%s: doctor:\n%s", c.fault, out)
		}
		_, fix, _ := strings.Cut(out, c.says)
		_, fix, _ = strings.Cut(fix, "`")
		fix, _, _ = strings.Cut(fix, "`")
		w.sh(fix)
		testenv.Eventually(t, "mended: "+c.fault, func() bool { return !strings.Contains(status(), c.says) })
	}
}
