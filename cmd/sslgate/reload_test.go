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
	"time"

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

// A reload says which certificate was taken, and of which it has taken the place. What
// stands in a certificate cannot change the terminal.
func TestReloadSaysCertificates(t *testing.T) {
	until := time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
	before, now := &admin.Certificate{Subject: "CN=a", Serial: "a1", NotAfter: until}, &admin.Certificate{Subject: "CN=b\x1b[31m", Serial: "b2", NotAfter: until.AddDate(1, 0, 0)}
	var out, errs strings.Builder
	t.Setenv("COLUMNS", "200")
	err := printReload(&out, &errs, admin.ReloadResult{Policy: "p2", Before: "p1", CertificatesMore: 2, Certificates: []admin.CertificateChange{
		{Kind: "identity", Name: "pay", Old: before, New: now}, {Kind: "authority", Name: "staff", New: before}, {Kind: "authority", Name: "staff", Old: before},
	}}, true)
	want := `identity pay: CN=b\x1b[31m, serial b2, until 2028-01-02 03:04:05 UTC (before: CN=a, serial a1, until 2027-01-02 03:04:05 UTC)
authority staff: new: CN=a, serial a1, until 2027-01-02 03:04:05 UTC
authority staff: gone: CN=a, serial a1, until 2027-01-02 03:04:05 UTC
2 certificates changed besides
reloaded: policy p2 (before: p1), 0 live flows ended
`
	if err != nil || out.String() != want || errs.Len() > 0 {
		t.Errorf("%v, %s, want\n%s%s", err, out.String(), want, errs.String())
	}
}
