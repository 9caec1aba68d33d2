package bench

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestParseStat(t *testing.T) {
	for _, c := range []struct {
		text string
		want time.Duration
		ok   bool
	}{
		{"7 (sslgate) S 1 7 7 0 -1 4194560 900 0 0 0 150 50 3 2 20 0 9 0 1 1 1", 2050 * time.Millisecond, true},
		{"7 (a) b 1 2) S 1 7 7 0 -1 0 0 0 0 0 1 0 0 0 20 0", 10 * time.Millisecond, true},
		{"7 (short) S 1 7 7", 0, false},
		{"7 (words) S 1 7 7 0 -1 0 0 0 0 0 x 0 0 0 20 0", 0, false},
		{"", 0, false},
	} {
		got, err := parseStat([]byte(c.text))
		if got != c.want || (err == nil) != c.ok {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

func TestParsePSS(t *testing.T) {
	const text = "00400000-7ffe000 ---p 00000000 00:00 0 [rollup]\nRss:   9000 kB\nPss:   1234 kB\nPss_Anon: 99 kB\n"
	if got, err := parsePSS([]byte(text)); err != nil || got != 1234<<10 {
		t.Errorf("%d, %v", got, err)
	}
	for _, bad := range []string{"", "Rss: 1 kB\n", "Pss: 1 MB\n", "Pss: x kB\n"} {
		if got, err := parsePSS([]byte(bad)); err == nil {
			t.Errorf("%q: %d and no error", bad, got)
		}
	}
}

// What is read of a real process, its children included, is not nothing.
func TestProcesses(t *testing.T) {
	cmd := exec.Command("sh", "-c", "echo; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; echo; sleep 60 & wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range processes(cmd.Process.Pid)[1:] {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	buf := make([]byte, 1)
	for range 2 {
		if _, err := out.Read(buf); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := testenv.Deadline(); len(processes(cmd.Process.Pid)) != 2; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			testenv.Missing(t, "this kernel does not list children")
		}
	}
	if d, err := cpuTime(cmd.Process.Pid); err != nil || d <= 0 {
		t.Errorf("CPU time %v, %v", d, err)
	}
	if n, err := pss(cmd.Process.Pid); err != nil || n < 64<<10 {
		t.Errorf("PSS %d, %v", n, err)
	}
	if _, err := cpuTime(1 << 30); err == nil {
		t.Error("a process that is not there has used CPU time")
	}
}

func TestAllowedCPUs(t *testing.T) {
	all, err := allowedCPUs()
	if err != nil || len(all) == 0 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestCounters(t *testing.T) {
	const text = "TcpExt: A B C\nTcpExt: 1 20 300\nIpExt: A B\nIpExt: 5 x\n"
	for _, c := range []struct {
		group string
		names []string
		want  uint64
		ok    bool
	}{
		{"TcpExt:", []string{"A", "C"}, 301, true},
		{"TcpExt:", []string{"B"}, 20, true},
		{"IpExt:", []string{"A"}, 5, true},
		{"IpExt:", []string{"B"}, 0, false},
		{"IpExt:", []string{"C"}, 0, false},
		{"Tcp:", []string{"A"}, 0, false},
	} {
		if got, err := counters(text, c.group, c.names...); got != c.want || (err == nil) != c.ok {
			t.Errorf("%s %v: %d, %v", c.group, c.names, got, err)
		}
	}
}
