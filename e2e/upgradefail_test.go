package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// counted sums up a metric over its labels, as the process on the socket has it.
func (w *world) counted(socket, name string) int {
	w.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}}
	res, err := c.Get("http://gateway/metrics")
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	sum := 0.0
	for _, m := range regexp.MustCompile(`(?m)^`+name+`(?:\{[^\n]*\})? (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		v, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			w.t.Fatal(err)
		}
		sum += v
	}
	return int(sum)
}

// asked returns the status with which the process on the socket answers.
func (w *world) asked(path string) int {
	w.t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", w.socket())
	}}}
	res, err := c.Get("http://gateway" + path)
	if err != nil {
		return 0
	}
	_ = res.Body.Close()
	return res.StatusCode
}

// The older process is killed while the newer one is watched: there is no way back, so the newer
// one stays at once. It loses no flow of its own, and takes new ones.
func TestUpgradeOldDies(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	g := w.start(config)
	s := w.leak()
	first := w.hold(6)
	next := w.taking(config)
	young := w.hold(6)
	g.stop(syscall.SIGKILL)
	young.talk("the older process is dead")
	next.says("this one goes on without it")
	first.reset("of the dead process")
	w.echo("the older process is dead")
	young.talk("later")
	out, err := w.sslgate("status", "--socket", w.socket())
	if err != nil {
		t.Errorf("status: %v\n%s", err, out)
	}
	// It is a gateway like any other: the next one takes over from it.
	out, code, third := w.upgrade("-c", config, "--watch", "0s")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	young.talk("after the next upgrade")
	// While that one has flows, both places are taken.
	out, code, _ = w.upgrade("-c", config, "--watch", "0s")
	if code != 1 || !strings.Contains(out, "there are two places only") {
		t.Errorf("an upgrade of an upgrade: exit code %d\n%s", code, out)
	}
	young.talk("after an upgrade that was refused")
	young.close()
	next.ends()
	w.end(third, syscall.SIGTERM)
	w.nothingLeaked(s, "at the end")
}

// The newer process hangs while it is watched. The older one takes everything back; when the
// newer one goes on, it finds that, and ends.
func TestUpgradeHangs(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	w.rewrite("drain: 3s", "drain: 60s") // its flows must talk once more before that
	g := w.start(config)
	first := w.hold(4)
	next := w.taking(config)
	young := w.hold(4)
	if err := next.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	g.says("this one goes on")
	w.echo("the newer process hangs")
	first.talk("the newer process hangs")
	if err := next.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	next.says("this one ends with its last flow")
	young.talk("its flows end in order")
	young.close()
	<-next.cmd.Done()
	if code := next.cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("it ends with %d", code)
	}
	w.echo("it has ended")
	first.talk("it has ended")
}

// alive keeps a hand-over until the function that it returns is called.
func (w *world) alive(c net.Conn) (silent func()) {
	var says sync.WaitGroup
	end := make(chan struct{})
	says.Go(func() {
		tick := time.NewTicker(3 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
				_, _ = io.WriteString(c, `{"do":"alive"}`+"\n")
			}
		}
	})
	silent = sync.OnceFunc(func() { close(end); says.Wait() })
	w.t.Cleanup(silent)
	return silent
}

// Whoever has the admin socket and lies keeps nobody from the next upgrade, and loses no flow.
func TestUpgradeLiars(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	g := w.start(config)
	before := w.host()
	flows := w.hold(4)
	const ask = "POST /v1/handover HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: sslgate-handover\r\nContent-Length: %d\r\n\r\n%s"
	offer := `{"protocol": 1, "version": "liar\u001b[2J", "process": 1}`
	lie := func(what, body string, orders ...string) string {
		t.Helper()
		c, err := net.Dial("unix", w.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(testenv.Deadline())
		if _, err := fmt.Fprintf(c, ask, len(body), body); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		r := bufio.NewReader(c)
		said := ""
		line := func() {
			text, err := r.ReadString('\n')
			said += text
			if err != nil {
				said += err.Error()
			}
		}
		line()
		if strings.HasPrefix(said, "HTTP/1.1 101") {
			for range 4 { // the headers, and the terms
				line()
			}
		}
		for _, o := range orders {
			_, _ = io.WriteString(c, o)
			if strings.HasSuffix(o, "\n") {
				line()
			}
		}
		flows.talk(what)
		return said
	}
	agreed := 0 // lies that the gateway has listened to
	forgotten := func() bool { return g.stderr.count("has not taken over") == agreed }
	for _, l := range []struct {
		what, body string
		orders     []string
		want       string
	}{
		{"no offer", "{", nil, "400"},
		{"a huge offer", `{"version": "` + strings.Repeat("x", 200_000) + `"}`, nil, "400"},
		{"another protocol", `{"protocol": 99}`, nil, "409"},
		{"nothing more", offer, nil, `"slot":"a"`},
		{"half an order", offer, []string{`{"do": "gi`}, `"slot":"a"`},
		{"no order", offer, []string{"what?\n"}, `"slot":"a"`},
		{"an unknown order", offer, []string{`{"do": "explode"}` + "\n"}, "no such order"},
		{"a huge order", offer, []string{`{"do": "` + strings.Repeat("x", 200_000) + `"}` + "\n"}, `"slot":"a"`},
		{"drain at once", offer, []string{`{"do": "drain"}` + "\n"}, "was not taken"},
		{"give, and nothing more", offer, []string{`{"do": "give"}` + "\n"}, `"did":"give"`},
		{"back, give, back", offer, []string{`{"do": "back"}` + "\n", `{"do": "give"}` + "\n", `{"do": "back"}` + "\n"}, `"did":"give"`},
		{"a report", offer, []string{`{"do": "report"}` + "\n"}, `"metrics":`},
	} {
		said := lie(l.what, l.body, l.orders...)
		if !strings.Contains(said, l.want) {
			t.Errorf("%s: %.300q, want %q", l.what, said, l.want)
		}
		if strings.HasPrefix(said, "HTTP/1.1 101") {
			agreed++
		}
		testenv.Eventually(t, "it is forgotten: "+l.what, func() bool {
			return forgotten() && w.asked("/v1/ready") == http.StatusOK
		})
		if now := w.host(); now != before {
			t.Errorf("%s: the host has changed:\n%s", l.what, difference(before, now))
		}
		w.echo(l.what)
	}
	if strings.Contains(g.stderr.String(), "\x1b") {
		t.Error("a liar writes escape sequences into the log")
	}
	// One that goes once it has told the gateway to drain leaves a gateway that serves.
	if said := lie("drain, and gone", offer, `{"do": "give"}`+"\n", `{"do": "drain"}`+"\n"); !strings.Contains(said, `"did":"drain"`) {
		t.Errorf("drain, and gone: %.300q", said)
	}
	testenv.Eventually(t, "it takes everything back", func() bool {
		return g.stderr.count("this one takes new flows again") == 1 && w.asked("/v1/ready") == http.StatusOK
	})
	testenv.Eventually(t, "the host is as before", func() bool { return w.host() == before }, func() any { return difference(before, w.host()) })
	w.echo("drain, and gone")
	// One that says nothing more is forgotten after a while, though its connection stays. It
	// is there for as long as the upgrade takes that it keeps out.
	c, err := net.Dial("unix", w.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := fmt.Fprintf(c, ask, len(offer), offer); err != nil {
		t.Fatal(err)
	}
	if said, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.HasPrefix(said, "HTTP/1.1 101") {
		t.Fatalf("the silent one: %q, %v", said, err)
	}
	silent := w.alive(c)
	out, code, _ := w.upgrade("-c", config, "--watch", "0s")
	silent()
	if code != 1 || !strings.Contains(out, "it hands over to process 1 already") {
		t.Errorf("two at once: exit code %d:\n%s", code, out)
	}
	testenv.Eventually(t, "the silent one is forgotten", func() bool {
		_, code, _ = w.upgrade("-c", config, "--watch", "0s")
		return code == 0
	})
	flows.talk("after the upgrade")
}

// A configuration that refuses what the older one let through is taken back while it is watched.
func TestUpgradeRefusesMore(t *testing.T) {
	w, config := upgradeWorld(t)
	g := w.start(config)
	for range 20 {
		w.echo("before")
	}
	flows := w.hold(4)
	good := w.read("sslgate.yaml")
	bad := strings.Replace(good, "authorities: [staff]}", "authorities: [staff], allow: [{san_dns: [nobody.test]}]}", 1)
	if bad == good {
		t.Fatalf("no rule to change in\n%s", good)
	}
	strict := w.pem("strict.yaml", []byte(bad))
	_, stop := w.triesWithin(testenv.Patience())
	out, code, _ := w.upgrade("-c", strict, "--watch", "1h")
	stop()
	if code != 1 || !strings.Contains(out, "the new one refuses more") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if !g.stderr.wait("this one goes on", g.cmd.Done()) {
		t.Error("the older process has not taken back")
	}
	w.echo("after")
	flows.talk("after")
}

// Counters go on from the older process's; its flows that end later are counted once; and of
// memory both together never have more than is configured.
func TestUpgradeCounters(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	w.rewrite("drain: 3s", "drain: 3s, memory: 768MiB")
	w.start(config)
	for range 5 {
		w.echo("before")
	}
	held := w.hold(3)
	testenv.Eventually(t, "five are counted", func() bool { return w.counted(w.socket(), "sslgate_flows_total") == 5 })
	out, code, second := w.upgrade("-c", config, "--watch", "0s")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	// The new one's probe is a flow too.
	testenv.Eventually(t, "the counters go on", func() bool { return w.counted(w.socket(), "sslgate_flows_total") == 6 },
		func() any { return w.counted(w.socket(), "sslgate_flows_total") })
	ceilings := func() (newer, older int) {
		return w.counted(w.socket(), "sslgate_memory_ceiling_bytes"), w.counted(w.socket()+".old", "sslgate_memory_ceiling_bytes")
	}
	if newer, older := ceilings(); newer+older > 768<<20 || newer < 128<<20 || older < 128<<20 {
		t.Errorf("ceilings of %d and %d bytes", newer, older)
	}
	w.echo("after")
	held.close()
	testenv.Eventually(t, "each is counted once", func() bool {
		_, err := os.Stat(w.socket() + ".old")
		return err != nil && w.counted(w.socket(), "sslgate_flows_total") == 10
	}, func() any { return w.counted(w.socket(), "sslgate_flows_total") })
	testenv.Eventually(t, "all memory is the new one's", func() bool { return w.counted(w.socket(), "sslgate_memory_ceiling_bytes") == 768<<20 })
	testenv.Eventually(t, "ten records are counted", func() bool { return w.counted(w.socket(), "sslgate_audit_records_written_total") == 10 },
		func() any { return w.counted(w.socket(), "sslgate_audit_records_written_total") })
	w.end(second, syscall.SIGTERM)
	w.records(10)
}

// The command's output is a pipe that nobody reads any more, as after ssh: the new process has
// it too, and lives on.
func TestUpgradePipe(t *testing.T) {
	t.Parallel()
	w, config := upgradeWorld(t)
	w.start(config)
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := w.command("upgrade", "-c", config, "--watch", "0s")
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = out.Close()
	text := make(chan string, 1)
	go func() {
		var all strings.Builder
		for lines := bufio.NewScanner(r); lines.Scan(); {
			all.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "it stays") {
				break
			}
		}
		_ = r.Close()
		text <- all.String()
	}()
	<-cmd.Done()
	said := <-text
	ready := regexp.MustCompile(`(?m)^process (\d+) is ready`).FindStringSubmatch(said)
	if ready == nil {
		t.Fatalf("no process takes over:\n%s", said)
	}
	process, err := strconv.Atoi(ready[1])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.end(process, syscall.SIGTERM) })
	for range 3 { // each reload writes into the log
		if out, err := w.sslgate("reload", "--socket", w.socket()); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	w.echo("nobody reads its log")
}
