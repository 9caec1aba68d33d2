package e2e

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// A host whose clients have only IPv4 need not forward IPv6, and may have none. All commands work
// there, and what a client sends by IPv6 goes nowhere.
func TestIPv4Only(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "ip")
	testenv.Tool(t, "unshare")
	for _, c := range []struct {
		name   string
		lines  string // typed on the gateway
		hidden bool   // /proc/sys/net/ipv6, as with ipv6.disable=1
	}{
		{"link-local addresses, not forwarded", "sysctl -qw net.ipv6.conf.all.forwarding=0; ip -6 addr flush dev lan0 scope global", false},
		{"disabled at the interfaces", "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.lan0.disable_ipv6=1 net.ipv6.conf.wan0.disable_ipv6=1", false},
		{"disabled in the namespace", "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1", false},
		{"none in the kernel", "sysctl -qw net.ipv6.conf.all.forwarding=0 net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveEcho)
			config := w.config(payRule, "")
			w.sh(c.lines)
			// hide replaces the command by one for which the kernel has no IPv6.
			hide := func(cmd *lab.Cmd) *lab.Cmd {
				if !c.hidden {
					return cmd
				}
				args := append([]string{"unshare", "--mount", "sh", "-ec", `mount -t tmpfs none /proc/sys/net/ipv6; exec "$@"`, "sh"}, cmd.Args...)
				path, err := exec.LookPath(args[0])
				if err != nil {
					t.Fatal(err)
				}
				cmd.Path, cmd.Args = path, args
				return cmd
			}
			say := func(args ...string) (string, error) {
				out, err := hide(w.command(append(args, "-c", config)...)).CombinedOutput()
				return string(out), err
			}
			for _, what := range []string{"check", "guard"} {
				if out, err := say(what); err != nil {
					t.Fatalf("%s: %v\n%s", what, err, out)
				}
			}
			g := w.launch(hide(w.command("run", "-c", config)))
			conn, err := w.dialTLS(false, nil)
			if err != nil {
				t.Fatal(err)
			}
			echo(t, conn, 1<<20)
			_ = conn.Close()
			if out, _ := say("doctor"); strings.Contains(out, "IPv6 is not forwarded (") || strings.Contains(strings.ToLower(out), "eacces") {
				t.Errorf("doctor says:\n%s", out)
			}
			for _, bad := range []string{"not repaired", "IPv6"} {
				if said := g.stderr.String(); strings.Contains(said, bad) {
					t.Errorf("%q in the log:\n%s", bad, said)
				}
			}
			g.stop(syscall.SIGTERM)
			if out, err := say("release", "--yes"); err != nil {
				t.Errorf("release: %v\n%s", err, out)
			}
			if left, _ := w.lab.Command(lab.Gateway, "sh", "-c", "nft list tables; ip rule; ip -6 rule; ip route show table 5519; ip -6 route show table 5519").CombinedOutput(); strings.Contains(string(left), "5519") || strings.Contains(string(left), "sslgate") {
				t.Errorf("left:\n%s", left)
			}
		})
	}
}
