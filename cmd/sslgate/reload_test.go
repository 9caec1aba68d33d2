package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func (d *door) Reload(context.Context) (*admin.ReloadResult, error) {
	return &admin.ReloadResult{Policy: "after", Before: "before"}, nil
}

// With --pid the gateway of that number is asked, or gets SIGHUP where it is
// not the one that listens.
func TestReloadOfAProcess(t *testing.T) {
	sh := testenv.Tool(t, "sh")
	testenv.Signals(t, syscall.SIGHUP)
	socket := openDoor(t, &door{}, admin.NewHub())
	if code, out, errs := called("reload", "--socket", socket, "--pid", strconv.Itoa(os.Getpid())); code != 0 || errs != "" || !strings.Contains(out, "policy after") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	for _, at := range []string{socket, socket + "x"} {
		gateway := exec.Command(sh, "-c", `trap "echo hup; exit 0" HUP; echo ready; while read -r _; do :; done`)
		in, err := gateway.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := gateway.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := gateway.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		if l, err := lines.ReadString('\n'); l != "ready\n" {
			t.Fatalf("%q %v", l, err)
		}
		code, said, errs := called("reload", "--socket", at, "--pid", strconv.Itoa(gateway.Process.Pid))
		if code != 0 || !strings.Contains(said, "SIGHUP") {
			t.Errorf("%d %q %q", code, said, errs)
		}
		_ = in.Close()
		if l, err := io.ReadAll(lines); string(l) != "hup\n" {
			t.Errorf("the process got no SIGHUP: %q %v", l, err)
		}
		_ = gateway.Wait()
		if code, _, errs := called("reload", "--socket", at, "--pid", strconv.Itoa(gateway.Process.Pid)); code != 1 || errs == "" {
			t.Errorf("a process that has gone: %d %q", code, errs)
		}
	}
}
