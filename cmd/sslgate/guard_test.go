package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/vishvananda/netns"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// inNewNamespace runs f in a network namespace of its own.
func inNewNamespace(t *testing.T, f func()) {
	t.Helper()
	testenv.Root(t)
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread, and the namespace, end with the goroutine
		ns, err := netns.New()
		if err == nil {
			defer func() { _ = ns.Close() }()
			f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
}

func nftTables(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("nft", "list", "ruleset").CombinedOutput()
	if err != nil {
		t.Errorf("nft list ruleset: %v\n%s", err, out)
	}
	return string(out)
}

// writeGuard writes a configuration whose certificates are missing and whose
// policy has a mistake: the guard needs neither.
func writeGuard(t *testing.T, capture string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sslgate.yaml")
	text := "version: 1\n" + capture + "identities: {x: {certificate: none.pem, key: none.key}}\npolicy: {rulez: []}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestGuardAndRelease(t *testing.T) {
	testenv.Tool(t, "nft")
	file := writeGuard(t, "capture: {interfaces: [eth1], ports: [443, 8443], exempt: [eth0]}\n")
	inNewNamespace(t, func() {
		var out, errOut bytes.Buffer
		if got, code, err := runCmd(newGuardCmd(&out, &errOut), &out, "-c", file); code != 0 || !strings.Contains(got, "port 443, 8443 from eth1 goes nowhere") {
			t.Errorf("guard: %d, %v, %q", code, err, got)
		}
		if !strings.Contains(errOut.String(), "sslgate check") {
			t.Errorf("the mistakes elsewhere are not mentioned: %q", errOut.String())
		}
		guarded := nftTables(t)
		for _, want := range []string{"table inet sslgate", "443, 8443", `"eth1"`, `"eth0"`, "hook forward"} {
			if !strings.Contains(guarded, want) {
				t.Errorf("no %s in\n%s", want, guarded)
			}
		}
		for _, answer := range []string{"", "no\n", "y\n", strings.Repeat("yes", 1000)} {
			out.Reset()
			if got, code, err := runCmd(newReleaseCmd(strings.NewReader(answer), &out, &errOut), &out, "-c", file); code != 1 || !strings.Contains(got, "Type yes") {
				t.Errorf("release, answer %.10q: %d, %v, %q", answer, code, err, got)
			}
			if nftTables(t) != guarded {
				t.Fatalf("released by the answer %.10q", answer)
			}
		}
		out.Reset()
		if got, code, err := runCmd(newReleaseCmd(strings.NewReader("yes\n"), &out, &errOut), &out, "-c", file); code != 0 || !strings.Contains(got, "passes uninspected") {
			t.Errorf("release: %d, %v, %q", code, err, got)
		}
		if left := nftTables(t); left != "" {
			t.Errorf("left:\n%s", left)
		}
		out.Reset()
		if got, code, err := runCmd(newReleaseCmd(strings.NewReader(""), &out, &errOut), &out, "-c", file, "--yes"); code != 0 || strings.Contains(got, "Type yes") {
			t.Errorf("release --yes: %d, %v, %q", code, err, got)
		}
	})
}

func TestGuardRefuses(t *testing.T) {
	for name, capture := range map[string]string{
		"attach":    "tun: {attach: true}\ncapture: {ports: [443]}\n",
		"no ports":  "capture: {interfaces: [eth1]}\n",
		"two roles": "capture: {interfaces: [eth1], ports: [443], exempt: [eth1]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			file := writeGuard(t, capture)
			var out, errOut bytes.Buffer
			for _, cmd := range []string{"guard", "release"} {
				c := newGuardCmd(&out, &errOut)
				if cmd == "release" {
					c = newReleaseCmd(strings.NewReader("yes\n"), &out, &errOut)
				}
				if _, code, err := runCmd(c, &out, "-c", file); code != 2 || err == nil {
					t.Errorf("%s: %d, %v", cmd, code, err)
				}
			}
		})
	}
}
