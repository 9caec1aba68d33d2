package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// The newer process dies just after it has told the older one to drain, before systemd hears that
// it is the main one. Nobody will start another: the older one takes everything back and serves.
func TestUpgradeDiesUnheard(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	sd := newSystemd(t, filepath.Join(w.dir, "notify"))
	under := func(args ...string) *lab.Cmd {
		cmd := w.command(args...)
		cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+filepath.Join(w.dir, "notify"))
		return cmd
	}
	g := w.launch(under("run", "-c", config))
	before := w.host()
	s := w.leak()
	flows := w.hold(6)
	for i := range 2 {
		next := g.drains(under("run", "-c", config, "--take-over", "--watch", "0s"))
		next.stop(syscall.SIGKILL)
		g.saysTimes(i+1, "this one takes new flows again")
		testenv.Eventually(t, "it is ready", func() bool { return w.asked("/v1/ready") == http.StatusOK }, func() any { return g.stderr.String() })
		w.echo("the newer process is dead")
		flows.talk("the newer process is dead")
		sd.wait(fmt.Sprintf("MAINPID=%d", g.cmd.Process.Pid))
		sd.wait("READY=1")
		testenv.Eventually(t, "the host is as before", func() bool { return w.host() == before }, func() any { return difference(before, w.host()) })
	}
	// It is a gateway as before: the next upgrade takes over from it, and it drains.
	out, code, last := w.upgrade("-c", config, "--watch", "0s")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	flows.talk("after the next upgrade")
	flows.close()
	g.ends()
	w.echo("it has ended")
	w.end(last, syscall.SIGTERM)
	w.nothingLeaked(s, "at the end")
}

// An older process whose successor has died serves by the configuration of that one, not by its
// own of hours ago, and from the path that that one had. Where it cannot take that, it does not serve: what only the newer one captured
// would pass uninspected.
func TestUpgradeDiesLater(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	w.rewrite("ports: [443, 8443]", "ports: [443]")
	g := w.start(config)
	flows := w.hold(3)
	die := func(file, text string) {
		t.Helper()
		next := g.drains(w.takeOver(file, "0s"))
		next.stop(syscall.SIGKILL)
		g.says(text)
	}
	next := w.pem("next.yaml", []byte(strings.Replace(w.read("sslgate.yaml"), "authorities: [staff]", "authorities: [staff], allow: [{san_dns: [nobody.example]}]", 1)))
	die(next, "this one takes new flows again")
	if c, err := w.dialTLS(false, nil); err == nil {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("the rules of before decide")
		}
		_ = c.Close()
	}
	w.rewrite("ports: [443]", "ports: [443, 8443]")
	s := w.leak()
	die(config, "new flows are dropped until a process starts that can")
	for _, six := range []bool{false, true} {
		seg := lab.Segment{
			Src: netip.AddrPortFrom(lab.ClientAddr(six), 40123), Dst: netip.AddrPortFrom(lab.ServerAddr(0, six), 8443),
			Flags: lab.SYN, Seq: 1,
		}
		if err := w.lab.SendRaw(lab.Client, seg.Packet()); err != nil {
			t.Fatal(err)
		}
	}
	flows.talk("while nobody serves new ones")
	w.nothingLeaked(s, "while nobody serves new flows")
	last := w.start(config)
	w.echo("the next process serves")
	flows.close()
	last.stop(syscall.SIGTERM)
}

// `sslgate drain` while the newer process is watched means both: each ends, and none is started
// again.
func TestUpgradeDrained(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	w.rewrite("drain: 3s", "drain: 60s") // flows must talk once more
	g := w.start(config)
	s := w.leak()
	first := w.hold(3)
	next := w.taking(config)
	young := w.hold(3)
	if out, err := w.sslgate("drain", "--socket", w.socket()); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, p := range map[string]*gateway{"older": g, "newer": next} {
		p.says("draining")
	}
	first.talk("while both drain")
	young.talk("while both drain")
	first.close()
	young.close()
	for name, p := range map[string]*gateway{"older": g, "newer": next} {
		if code := p.ends(); code != 3 {
			t.Errorf("the %s process ends with %d, and would be started again:\n%s", name, code, p.stderr.String())
		}
		if log := p.stderr.String(); strings.Contains(log, "cannot") || strings.Contains(log, "is not told") {
			t.Errorf("the %s process:\n%s", name, log)
		}
	}
	w.knock(43000)
	w.nothingLeaked(s, "both have ended")
}

// Where an upgrade fails, the command says which process goes on.
func TestUpgradeSaysWhoGoesOn(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	w.rewrite("drain: 3s", "drain: 60s")
	g := w.start(config)
	flows := w.hold(3)
	fails := func(end func(newer int)) string {
		t.Helper()
		said := testFile(t, w.dir, "upgrade.out")
		cmd := w.command("upgrade", "-c", config, "--watch", "1h")
		cmd.Stdout, cmd.Stderr = said, said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		text := func() string {
			_, _ = said.Seek(0, io.SeekStart)
			b, _ := io.ReadAll(said)
			return string(b)
		}
		newer := 0
		testenv.Eventually(t, "the newer process is watched", func() bool {
			out := text()
			if ready := regexp.MustCompile(`(?m)^process (\d+) is ready`).FindStringSubmatch(out); ready != nil {
				newer, _ = strconv.Atoi(ready[1])
			}
			return newer != 0 && strings.Contains(out, "it is watched")
		}, func() any { return text() })
		end(newer)
		select {
		case <-cmd.Done():
		case <-time.After(testenv.Patience()):
			_ = cmd.Process.Kill()
			t.Fatalf("sslgate upgrade does not end:\n%s", text())
		}
		if code := cmd.ProcessState.ExitCode(); code != 1 {
			t.Errorf("exit code %d", code)
		}
		return text()
	}
	own := g.cmd.Process.Pid
	out := fails(func(newer int) { _ = syscall.Kill(newer, syscall.SIGKILL) })
	if want := fmt.Sprintf("process %d goes on, with all new flows", own); !strings.Contains(out, want) {
		t.Errorf("the newer one is killed: want %q\n%s", want, out)
	}
	w.echo("the newer one was killed")
	out = fails(func(int) { _ = g.cmd.Process.Signal(syscall.SIGTERM) })
	if want := fmt.Sprintf("process %d goes on until its flows have ended: it was told to stop", own); !strings.Contains(out, want) {
		t.Errorf("the older one is told to stop: want %q\n%s", want, out)
	}
	flows.close()
	<-g.cmd.Done()
	if out, code, _ := w.upgrade("-c", config, "--watch", "0s"); code != 1 || !strings.Contains(out, "no gateway answers") || !strings.Contains(out, "nothing was taken over") {
		t.Errorf("no gateway runs: exit code %d\n%s", code, out)
	}
}

// With `fail: open` the host is opened once both have ended in order, not before: the older
// one's flows still need the steering.
func TestUpgradeFailOpen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	w.origin(server(true), serveEcho)
	w.config(payRule, upgradeMore+"fail: open\n")
	config := w.rewrite("drain: 3s", "drain: 60s")
	g := w.start(config)
	s := w.leak()
	first := w.hold(3)
	next := g.drains(w.takeOver(config, "0s"))
	next.stop(syscall.SIGTERM)
	g.says("draining")
	w.knock(44000)
	w.nothingLeaked(s, "the older one has flows yet")
	first.talk("the newer one was stopped")
	first.close()
	<-g.cmd.Done()
	w.knock(44100)
	testenv.Eventually(t, "both have ended in order, and it passes", func() bool { return s.Count() > 0 }, func() any { return g.stderr.String() + next.stderr.String() })
	if left := w.everything(); strings.Contains(left, "sslgate") || strings.Contains(left, "lookup 55") {
		t.Errorf("left behind:\n%s", left)
	}
}

// A gateway whose steering another one has taken keeps its flows to their end, and takes
// everything back when the other one dies.
func TestUpgradeYields(t *testing.T) {
	t.Parallel()
	testenv.Tool(t, "nft")
	w, config := upgradeWorld(t)
	g := w.start(config)
	first := w.hold(3)
	next := g.drains(w.takeOver(config, "0s"))
	young := w.hold(3)
	// As if the older one had written the table: what a process does that was thought dead.
	w.sh(`nft add element inet sslgate owner '{ "sslgate0" }'`)
	next.says("another process takes the new flows; this one ends with its last flow")
	young.talk("it has yielded")
	first.talk("the other one has yielded")
	g.stop(syscall.SIGKILL)
	next.says("this one takes new flows again")
	testenv.Eventually(t, "it is ready", func() bool { return w.asked("/v1/ready") == http.StatusOK }, func() any { return next.stderr.String() })
	w.echo("it is back")
	young.talk("it is back")
	first.reset("of the dead process")
}

// A client has its flows_per_client once, not once in each process.
func TestUpgradeLimitOfClients(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	w.patient()
	w.rewrite("drain: 3s", "drain: 3s, flows_per_client: 3")
	g := w.start(config)
	old := w.hold4(2)
	next := g.drains(w.takeOver(config, "0s"))
	young := w.hold4(1)
	if c, err := w.dialTLS(false, nil); err == nil {
		_ = c.Close()
		t.Error("the fourth flow of a client is taken: two at the older process, one at the newer")
	}
	old.close()
	<-g.cmd.Done()
	next.says("the older process has ended")
	more := w.hold4(2)
	young.talk("the older process has ended")
	more.talk("the older process has ended")
}

// hold4 is hold over IPv4 alone: one client.
func (w *world) hold4(n int) *held {
	w.t.Helper()
	h := &held{t: w.t}
	w.t.Cleanup(h.close)
	for range n {
		c, err := w.dialTLS(false, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		h.conns = append(h.conns, c)
	}
	h.talk("at once")
	return h
}
