package e2e

import (
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// flushConntrack is `conntrack -F`.
func (w *world) flushConntrack() {
	w.t.Helper()
	if err := w.lab.Do(lab.Gateway, func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) }); err != nil {
		w.t.Fatal(err)
	}
}

// hang sends a word through each, which must not come back, and must not end it either.
func (h *held) hang(what string) {
	h.t.Helper()
	for _, c := range h.conns {
		_ = c.NetConn().SetDeadline(time.Now().Add(testenv.Scaled(200 * time.Millisecond)))
		raw := c.NetConn()
		n, err := raw.Read(make([]byte, 1))
		var timeout net.Error
		if n > 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
			h.t.Errorf("a flow %s: %d bytes, %v, want silence", what, n, err)
		}
	}
}

// say sends a word through each and waits for nothing.
func (h *held) say() {
	h.t.Helper()
	for _, c := range h.conns {
		_ = c.SetDeadline(testenv.Deadline())
		if _, err := c.Write([]byte("word")); err != nil {
			h.t.Error(err)
		}
	}
}

// hear waits for the word that say has sent.
func (h *held) hear(when string) {
	h.t.Helper()
	for _, c := range h.conns {
		_ = c.SetDeadline(testenv.Deadline())
		if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
			h.t.Errorf("%s: %v", when, err)
		}
	}
}

// What others do to connection tracking (docs/upgrade.md). One gateway alone does not need it.
// While one takes over from another, each trouble has one outcome, and nothing passes
// uninspected. Where a hand-over cannot work it is refused, with the rule's place.
func TestConntrackTroubles(t *testing.T) {
	t.Parallel()
	const mark = "table inet others {\nchain C {\ntype filter hook prerouting priority -150;\ntcp dport 443 ct mark set 0x1\n}\n}\n"
	const notrack = "table inet others {\nchain C {\ntype filter hook prerouting priority -300;\ntcp dport 443 notrack\n}\n}\n"
	const fast = "table inet others {\nflowtable f {\nhook ingress priority 0;\ndevices = { lan0 }\n}\nchain C {\ntype filter hook forward priority 0;\nmeta l4proto tcp flow add @f\n}\n}\n"
	for _, c := range []struct {
		name    string
		table   string // of others
		refused string // by sslgate upgrade; "": it is not
		young   string // what becomes of the newer one's held flows: "live", "reset", "hang"
		old     string // of the older one's
		fresh   bool   // new flows are served
		loose0  bool   // nf_conntrack_tcp_loose=0
		flush   bool   // conntrack -F, once
	}{
		{name: "conntrack -F", flush: true, old: "live", young: "reset", fresh: true},
		{name: "conntrack -F with nf_conntrack_tcp_loose=0", flush: true, loose0: true, old: "hang", young: "hang", fresh: true},
		{name: "notrack", table: notrack, refused: "exempts from connection tracking IPv4 from lan0 to ", old: "live", young: "reset", fresh: true},
		{name: "the whole ct mark", table: mark, refused: "sets the whole connection mark (ct mark) of IPv4 from lan0 to ", old: "live", young: "reset", fresh: false},
		{name: "a flowtable", table: fast, old: "live", young: "live", fresh: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, config := upgradeWorld(t)
			w.patient()
			begin := func() {
				if c.loose0 {
					w.sh("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=0")
				}
				if c.table != "" {
					cmd := w.lab.Command(lab.Gateway, "nft", "-f", "-")
					cmd.Stdin = strings.NewReader(c.table)
					if out, err := cmd.CombinedOutput(); err != nil {
						if exit := new(exec.ExitError); c.name == "a flowtable" && errors.As(err, &exit) {
							t.Skipf("this kernel has no flowtables: %s", out)
						}
						t.Fatalf("%v\n%s", err, out)
					}
				}
				if c.flush {
					w.flushConntrack()
				}
			}
			end := func() {
				if c.table != "" {
					w.sh("nft delete table inet others")
				}
				if c.loose0 {
					w.sh("sysctl -qw net.netfilter.nf_conntrack_tcp_loose=1")
				}
			}
			g := w.start(config)
			leaks := w.leak()
			first := w.hold(4)
			begin()
			first.talk("one gateway alone")
			w.echo("one gateway alone")
			if c.refused != "" {
				out, code, _ := w.upgrade("-c", config, "--watch", "0s")
				if code != 1 || !strings.Contains(out, c.refused) || !strings.Contains(out, "goes on, with all new flows") {
					t.Errorf("exit code %d, want 1 and %q:\n%s", code, c.refused, out)
				}
				first.talk("after the upgrade was refused")
				testenv.Eventually(t, "status names the rule", func() bool {
					out, _ := w.sslgate("status", "--socket", w.socket())
					return strings.Contains(out, c.refused)
				})
				if out, _ := w.sslgate("doctor", "-c", config); !strings.Contains(out, c.refused) {
					t.Errorf("doctor does not name the rule:\n%s", out)
				}
			}
			end()
			first.close() // what has lived through notrack is invalid to connection tracking for good
			first = w.hold(4)

			out, code, _ := w.upgrade("-c", config, "--watch", "0s")
			if code != 0 {
				t.Fatalf("exit code %d:\n%s", code, out)
			}
			young := w.hold(4)
			first.talk("two gateways")
			begin()
			hangs := false
			for what, of := range map[string]struct {
				flows *held
				want  string
			}{"of the older gateway": {first, c.old}, "of the newer gateway": {young, c.young}} {
				switch of.want {
				case "live":
					of.flows.talk(what)
				case "reset":
					of.flows.reset(what)
				case "hang":
					hangs = true
					of.flows.say()
					of.flows.hang(what)
				}
			}
			if fresh, err := w.dialTLS(false, nil); (err == nil) != c.fresh {
				t.Errorf("a new flow: %v", err)
			} else if err == nil {
				_ = fresh.Close()
			}
			if hangs { // until the newer gateway is alone
				g.stop(syscall.SIGKILL)
				young.hear("the newer gateway is alone")
				first.reset("of the dead gateway")
			}
			end()
			w.echo("the trouble is over")
			w.nothingLeaked(leaks, "with two gateways")
		})
	}
}
