package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// nextProtocol builds the program with the next version of the hand-over's protocol: of the
// real one, but for a number.
func nextProtocol(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs("../internal/admin/handover.go")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	of := regexp.MustCompile(`(?m)^const HandOverProtocol = ` + strconv.Itoa(admin.HandOverProtocol) + `$`)
	changed := of.ReplaceAll(text, fmt.Appendf(nil, "const HandOverProtocol = %d", admin.HandOverProtocol+1))
	if string(changed) == string(text) {
		t.Fatalf("%s has no version of the protocol", source)
	}
	dir := t.TempDir()
	put := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {source: put("handover.go", changed)}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "sslgate-next")
	args := []string{"build", "-overlay", put("overlay.json", overlay), "-o", path}
	if os.Getenv("SSLGATE_BINARY") == "" { // as the other one: most packages are compiled already
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "github.com/sslgate/sslgate/cmd/sslgate")...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// beforeUpgrades builds the program of the last commit that had no `sslgate upgrade`.
func beforeUpgrades(t *testing.T) string {
	t.Helper()
	git := func(args ...string) string {
		out, err := exec.Command("git", append([]string{"-C", ".."}, args...)...).Output()
		if err != nil {
			t.Skipf("the program of before cannot be built, git %s says: %v", args[0], err)
		}
		return strings.TrimSpace(string(out))
	}
	if git("rev-parse", "--is-shallow-repository") != "false" {
		t.Skip("the program of before cannot be built: this is a shallow clone, without the commits of that time")
	}
	first := git("log", "--diff-filter=A", "--format=%H", "--", "cmd/sslgate/upgrade.go")
	if first == "" || strings.Contains(first, "\n") {
		t.Skipf("the program of before cannot be built: the history does not say when the command came (%q)", first)
	}
	dir := t.TempDir()
	archive := filepath.Join(dir, "before.tar")
	git("archive", "--output", archive, first+"^")
	tree := filepath.Join(dir, "before")
	if err := os.Mkdir(tree, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xf", archive, "-C", tree).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	path := filepath.Join(dir, "sslgate-before")
	build := exec.Command("go", "build", "-trimpath", "-o", path, "./cmd/sslgate") // compiled once, wherever it lies
	build.Dir = tree
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// meet runs one program and lets the other ask it to hand over: it is refused with a sentence,
// and nothing happens to the running one. What is left then is a restart: the running one
// drains, and the other takes its place.
func (w *world) meet(t *testing.T, runs, asks, says, config string) {
	t.Helper()
	g := w.startBinary(runs, config)
	before := w.host()
	flows := w.hold(6)
	tried, stop := w.load()
	cmd := w.lab.Command(lab.Gateway, asks, "upgrade", "-c", config, "--watch", "0s")
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "COLUMNS=5000")
	out, err := cmd.CombinedOutput()
	stop()
	if err == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), says) || !strings.Contains(string(out), "goes on") {
		t.Errorf("%v, want exit code 1 and %q:\n%s", err, says, out)
	}
	if all := tried(); failed(all) > 0 || len(all) == 0 {
		t.Errorf("%d of %d new flows failed", failed(all), len(all))
	}
	flows.talk("after the hand-over was refused")
	w.runsNot(t, asks, config)
	flows.talk("after the other one was started beside it")
	if now := w.host(); now != before {
		t.Errorf("the host has changed:\n%s", difference(before, now))
	}
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	flows.talk("while it drains")
	flows.close()
	testenv.Receive(t, "it ends with its last flow", g.cmd.Done())
	next := w.startBinary(asks, config)
	w.echo("at the other one")
	next.stop(syscall.SIGTERM)
}

// runsNot starts a second gateway where one runs: it must end.
func (w *world) runsNot(t *testing.T, program, config string) {
	t.Helper()
	cmd := w.lab.Command(lab.Gateway, program, "run", "-c", config)
	cmd.Dir = w.dir
	said := newLogBuffer()
	cmd.Stdout, cmd.Stderr = said, said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Receive(t, "a second gateway ends", cmd.Done())
	if code := cmd.ProcessState.ExitCode(); code != 1 || said.count("\tready\t") > 0 {
		t.Errorf("a second gateway ends with %d:\n%s", code, said.String())
	}
}

// Programs that know other versions of the hand-over meet politely, whichever of them runs.
func TestVersionsOfTheHandOver(t *testing.T) {
	testenv.Slow(t)
	testenv.TUN(t)
	this, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	next := nextProtocol(t)
	const known = admin.HandOverProtocol
	for _, c := range []struct {
		name, runs, asks string
		want             string
	}{
		{"a later one asks", this, next, fmt.Sprintf("this gateway hands over by protocol %d, not %d: stop it and start the other", known, known+1)},
		{"a later one runs", next, this, fmt.Sprintf("this gateway hands over by protocol %d, not %d: stop it and start the other", known+1, known)},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, config := upgradeWorld(t)
			w.patient()
			w.rewrite("drain: 3s", "drain: 1h")
			w.meet(t, c.runs, c.asks, c.want, config)
		})
	}
	// Two of the later version hand over to each other: it is the number that keeps them apart.
	t.Run("two of the later one", func(t *testing.T) {
		w, config := upgradeWorld(t)
		w.startBinary(next, config)
		flows := w.hold(4)
		out, code, _ := w.upgrade("-c", config, "--binary", next, "--watch", "0s")
		if code != 0 {
			t.Fatalf("exit code %d:\n%s", code, out)
		}
		flows.talk("after the upgrade")
	})
}

// The program of the time before hand-overs, and this one: there is none, and a sentence says
// what to do.
func TestUpgradeFromBeforeUpgrades(t *testing.T) {
	testenv.Slow(t)
	testenv.TUN(t)
	this, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	before := beforeUpgrades(t)
	w, config := upgradeWorld(t)
	w.patient()
	w.rewrite("drain: 3s", "drain: 1h")
	w.meet(t, before, this, "the running gateway is of a version that cannot hand over: stop it and start the other", config)

	// And the other way round: the old program beside this one ends, and changes nothing.
	g := w.startBinary(this, config)
	flows := w.hold(4)
	at := w.host()
	w.runsNot(t, before, config)
	flows.talk("the old program was started beside this one")
	if now := w.host(); now != at {
		t.Errorf("the host has changed:\n%s", difference(at, now))
	}
	w.echo("new flows")
	flows.close()
	g.stop(syscall.SIGTERM)
}
