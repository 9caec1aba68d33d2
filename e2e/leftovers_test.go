package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// everything is what a gateway may change of its host: nftables, rules and routes of all tables,
// devices and their settings.
func (w *world) everything() string {
	w.t.Helper()
	var all strings.Builder
	for _, line := range []string{
		"nft list ruleset", "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all", "ip -br link", "ip tuntap",
		"ethtool -k " + lab.LANIface, "ethtool -k " + lab.WANIface, "sysctl -a -r ^net\\.(ipv4|ipv6|core)\\.",
	} {
		words := strings.Fields(line)
		out, err := w.lab.Command(lab.Gateway, words[0], words[1:]...).CombinedOutput()
		if err != nil {
			w.t.Fatalf("%s: %v\n%s", line, err, out)
		}
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		if words[0] != "nft" && words[1] != "rule" { // these have an order that counts
			slices.Sort(lines)
		}
		fmt.Fprintf(&all, "# %s\n%s\n", line, strings.Join(slices.DeleteFunc(lines, changing.MatchString), "\n"))
	}
	return all.String()
}

// changing are lines that the kernel changes by itself.
var changing = regexp.MustCompile(`^net\.ipv4\.(route\.flush|tcp_available|tcp_fastopen_key)|^net\.ipv6\.route\.flush|stable_secret|random`)

// A gateway that is killed at any moment of its start, its life and its stop leaves nothing that
// the next start does not take over and `sslgate release` does not remove: then the host is as it
// was before the first start.
func TestKilledAtAnyMomentLeavesNothing(t *testing.T) {
	for _, tool := range []string{"ip", "nft", "ethtool", "sysctl"} {
		testenv.Tool(t, tool)
	}
	w := newWorld(t, lab.Options{})
	// Settings that the gateway changes and must give back.
	for _, line := range []string{"sysctl -qw net.ipv4.conf.all.send_redirects=1", "sysctl -qw net.ipv4.conf." + lab.LANIface + ".send_redirects=1", "ethtool -K " + lab.LANIface + " gro off"} {
		words := strings.Fields(line)
		if out, err := w.lab.Command(lab.Gateway, words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", line, err, out)
		}
	}
	w.config(payRule, "admin: {socket: off}\ndial: {source: client}")
	plain := w.read("sslgate.yaml")
	configs := []string{
		w.pem("local.yaml", []byte(strings.Replace(plain, "ports: [443, 8443]", "ports: [443, 8443], local: capture", 1))),
		w.pem("other.yaml", []byte(strings.Replace(plain, "ports: [443, 8443]", "ports: [80, 443, 8443], local: drop, table: 77, preference: 78, mark: 0x40", 1))),
	}
	before := w.everything()
	began := time.Now()
	g := w.start(configs[0])
	start := time.Since(began)
	if now := w.everything(); now == before {
		t.Fatal("a running gateway changes nothing that is looked at")
	}
	g.stop(syscall.SIGKILL)
	release := func(when, config string) {
		t.Helper()
		if out, err := w.sslgate("release", "-c", config, "--yes"); err != nil {
			t.Errorf("%s: release: %v\n%s", when, err, out)
		}
		if now := w.everything(); now != before {
			t.Errorf("%s: the host is not as it was:\n%s", when, difference(before, now))
		}
	}
	release("ready, and killed", configs[0])

	const moments = 4
	for i := range moments {
		first, second := configs[i%2], configs[(i+i/2)%2]
		after := start * time.Duration(i) / (moments - 1)
		cmd := w.command("run", "-c", first)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(after) // the moment itself, not something that is waited for
		_ = cmd.Process.Kill()
		<-cmd.Done()
		when := fmt.Sprintf("killed after %v of the start with %s", after, first)
		if i%2 == 0 {
			release(when, second)
			continue
		}
		// The next start takes it over, and is killed while it stops.
		g := w.start(second)
		if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(i) * 5 * time.Millisecond)
		g.stop(syscall.SIGKILL)
		release(when+", started with "+second+", and killed while it stopped", first)
	}
}

// difference has the lines that only one of two texts has.
func difference(before, now string) string {
	var all []string
	only := func(mark string, a, b string) {
		have := strings.Split(b, "\n")
		for _, line := range strings.Split(a, "\n") {
			if !slices.Contains(have, line) {
				all = append(all, mark+line)
			}
		}
	}
	only("- ", before, now)
	only("+ ", now, before)
	return strings.Join(all, "\n")
}
