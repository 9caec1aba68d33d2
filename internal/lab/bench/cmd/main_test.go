package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sslgate/sslgate/internal/lab/bench"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--help"}, 0, "plain-up1"},
		{[]string{"--nonsense"}, 2, "nonsense"},
		{[]string{"word"}, 2, "word"},
		{[]string{"role-load"}, 1, "too few arguments"},
		{[]string{"role-unknown", "{}"}, 1, "unknown role"},
		{[]string{"role-load", "{"}, 1, "task"},
		{[]string{"role-pin", "0"}, 1, "too few arguments"},
	} {
		var out, errs bytes.Buffer
		if code := run(context.Background(), c.args, strings.NewReader(""), &out, &errs); code != c.code || !strings.Contains(errs.String(), c.want) {
			t.Errorf("%v: exit code %d, said %q", c.args, code, errs.String())
		}
	}
}

func TestBadOptions(t *testing.T) {
	testenv.Root(t)
	testenv.Tool(t, "nft")
	for _, c := range [][]string{
		{"--rounds", "1000"}, {"--peers", "nobody"}, {"--only", "nothing-of-this-kind"}, {"--peers", "relay", "--only", "tls-up1"},
	} {
		var out, errs bytes.Buffer
		if code := run(context.Background(), c, strings.NewReader(""), &out, &errs); code != 2 || out.Len() > 0 {
			t.Errorf("%v: exit code %d, said %q", c, code, errs.String())
		}
	}
}

// Every peer goes through a short run for real, with the real programs.
func TestPeers(t *testing.T) {
	testenv.TUN(t)
	testenv.Tool(t, "nft")
	program := build(t, "bench", "github.com/sslgate/sslgate/internal/lab/bench/cmd")
	for _, p := range bench.Peers() {
		t.Run(string(p), func(t *testing.T) {
			args := []string{"--quick", "--json", "--peers", string(p), "--only", "plain-conns,tls-up1,retls-down1,originate-conns,originate-up1,plain-loss,plain-synflood"}
			want := []string{"plain-conns", "plain-loss", "plain-synflood.during"}
			var prof string
			switch p {
			case bench.HAProxy:
				testenv.Tool(t, "haproxy")
				want = append(want, "tls-up1", "tls-up1.cpu", "retls-down1", "originate-conns", "originate-up1")
			case bench.Stunnel:
				testenv.Tool(t, "stunnel")
				want = []string{"originate-conns", "originate-conns.cpu", "originate-up1"}
			case bench.SSLGate:
				prof = t.TempDir()
				args = append(args, "--sslgate", build(t, "sslgate", "github.com/sslgate/sslgate/cmd/sslgate"), "--profile", prof)
				want = append(want, "tls-up1", "tls-up1.cpu", "retls-down1", "originate-conns", "originate-up1")
			case bench.Go:
				want = []string{"tls-up1", "tls-up1.cpu", "retls-down1", "originate-conns", "originate-up1"}
			}
			rows := measure(t, program, args)
			for _, name := range want {
				if row, ok := rows[name]; !ok || row.Value <= 0 || row.Peer != p || row.Unit == "" {
					t.Errorf("%s: %+v", name, row)
				}
			}
			if row, ok := rows["plain-synflood.upstream"]; ok && row.Value != 0 {
				t.Errorf("spoofed SYNs made %v connections to the origin", row.Value)
			}
			if prof != "" {
				profiles(t, prof)
			}
		})
	}
}

type row struct {
	Test, Unit string
	Peer       bench.Peer
	Value      float64
}

// tooSlow is what the program says where the machine had no time to send its flood
// in a second or less. It measures nothing then, rightly; the test tries again.
const tooSlow = "spoofed SYNs were sent"

// measure runs the program and sees to it that nothing is left behind.
func measure(t *testing.T, program string, args []string) map[string]row {
	t.Helper()
	tmp := t.TempDir()
	var out, errs bytes.Buffer
	for try := 1; ; try++ {
		out.Reset()
		errs.Reset()
		cmd := exec.Command(program, args...)
		cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
		cmd.Stdout, cmd.Stderr = &out, &errs
		err := cmd.Run()
		if err == nil {
			break
		}
		if try == 5 || !strings.Contains(errs.String(), tooSlow) {
			t.Fatalf("%v:\n%s", err, errs.String())
		}
	}
	rows := map[string]row{}
	for line := range strings.Lines(out.String()) {
		var r row
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		rows[r.Test] = r
	}
	nothingLeft(t, program, tmp)
	return rows
}

// nothingLeft fails if files are in tmp or processes of the program run on.
func nothingLeft(t *testing.T, program, tmp string) {
	t.Helper()
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(all) == 0 {
		t.Fatal("no processes", err)
	}
	for _, path := range all {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(program)) {
			t.Errorf("%s still runs: %q", path, text)
		}
	}
}

func build(t *testing.T, name, pkg string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// profiles checks that there is a gzipped profile for every test of the run.
func profiles(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"plain-conns", "tls-up1", "retls-down1", "plain-loss", "plain-synflood"} {
		b, err := os.ReadFile(filepath.Join(dir, name+"-1.prof"))
		if err != nil || !bytes.HasPrefix(b, []byte{0x1f, 0x8b}) {
			t.Errorf("profile of %s: %d bytes, %v", name, len(b), err)
		}
	}
}

// A run that is interrupted ends soon and takes everything with it.
func TestInterrupted(t *testing.T) {
	testenv.TUN(t)
	testenv.Tool(t, "nft")
	program, tmp := build(t, "bench", "github.com/sslgate/sslgate/internal/lab/bench/cmd"), t.TempDir()
	cmd := exec.Command(program, "--peers", "relay,direct", "--only", "plain-up1", "--rounds", "50")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
	var out bytes.Buffer
	cmd.Stdout = &out
	progress, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for sc := bufio.NewScanner(progress); sc.Scan(); {
		said.WriteString(sc.Text() + "\n")
		if strings.Contains(sc.Text(), "round 1/50") {
			_ = cmd.Process.Signal(os.Interrupt)
		}
	}
	err = cmd.Wait()
	if cmd.ProcessState.ExitCode() != 1 || out.Len() > 0 || !strings.Contains(said.String(), "context canceled") {
		t.Errorf("%v, printed %q, said %q", err, out.String(), said.String())
	}
	nothingLeft(t, program, tmp)
}
