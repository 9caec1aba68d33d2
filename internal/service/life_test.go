package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"go.uber.org/zap"

	"github.com/sslgate/sslgate/internal/admin"
	"github.com/sslgate/sslgate/internal/config"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// What systemd is told, word by word.
func TestNotify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	env := map[string]string{"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": strconv.Itoa(os.Getpid())}
	n := newNotifier(func(k string) string { return env[k] }, zap.NewNop())
	defer n.close()
	if n.every != 5*time.Second {
		t.Errorf("a sign of life every %v, want 5s", n.every)
	}
	n.ready("policy x")
	n.reloading()
	n.alive()
	n.stopping(30 * time.Second)
	for _, want := range []string{
		`^READY=1\nSTATUS=policy x$`, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*\nSTATUS=reloading$`, `^WATCHDOG=1$`,
		`^STOPPING=1\nSTATUS=draining\nEXTEND_TIMEOUT_USEC=40000000$`,
	} {
		buf := make([]byte, 1000)
		_ = ln.SetReadDeadline(testenv.Deadline())
		got, err := ln.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(want).Match(buf[:got]) {
			t.Errorf("%q, want %s", buf[:got], want)
		}
	}
}

// systemd hears who is the main process only in some states of the unit. So a process that waits
// for the next one says it each second, and no other does.
func TestMainIsRepeated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	ln, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	t.Setenv("NOTIFY_SOCKET", path)
	s, at := newHouse(t).s, time.Now()
	o := &s.over
	s.repeatMain(at) // it waits for nobody
	o.awaits.Store(true)
	for _, after := range []time.Duration{0, 100 * time.Millisecond, time.Second, 1900 * time.Millisecond, 2 * time.Second} {
		s.repeatMain(at.Add(after))
	}
	takes := func(offer *admin.Offer) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.to = offer
	}
	takes(&admin.Offer{}) // the next one has come
	s.repeatMain(at.Add(time.Minute))
	takes(nil)
	s.reloading.Lock() // systemd waits for the end of that
	s.repeatMain(at.Add(2 * time.Minute))
	s.reloading.Unlock()
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.repeatMain(at.Add(3 * time.Minute))
	o.awaits.Store(false)
	s.repeatMain(at.Add(time.Hour))
	s.notify.send("STATUS=the end")
	said := 0
	for text := ""; text != "STATUS=the end"; {
		buf := make([]byte, 1000)
		_ = ln.SetReadDeadline(testenv.Deadline())
		n, err := ln.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		if text = string(buf[:n]); text == fmt.Sprintf("MAINPID=%d", os.Getpid()) {
			said++
		}
	}
	if said != 3 {
		t.Errorf("said %d times, want 3", said)
	}
}

func TestNotifyWithoutSystemd(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"nobody": {}, "no socket": {"NOTIFY_SOCKET": filepath.Join(t.TempDir(), "none")},
	} {
		n := newNotifier(func(k string) string { return env[k] }, zap.NewNop())
		n.ready("")
		n.close()
		if n.every != 0 {
			t.Errorf("%s: a watchdog nobody asked for", name)
		}
	}
	env := map[string]string{"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
	if n := newNotifier(func(k string) string { return env[k] }, zap.NewNop()); n.every != 0 {
		t.Error("somebody else's watchdog")
	}
}

// The probe arrives at a TUN that is read, and misses at one that is not.
func TestProbe(t *testing.T) {
	testenv.TUN(t)
	testenv.Tool(t, "ip")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h, err := netns.New()
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = h.Close() }()
		out, err := exec.Command("sh", "-ec", "ip tuntap add t0 mode tun; ip addr add 192.0.0.8/32 dev t0 scope link; ip link set t0 up").CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
			return
		}
		err = probe(context.Background(), "t0", 0x50, func() uint64 { return 7 })
		if err == nil || !strings.Contains(err.Error(), "no packet of t0 was read") {
			t.Errorf("nobody reads: %v", err)
		}
		n := uint64(0)
		if err := probe(context.Background(), "t0", 0x50, func() uint64 { n++; return n }); err != nil {
			t.Errorf("somebody reads: %v", err)
		}
		if err := probe(context.Background(), "gone0", 0, func() uint64 { return 0 }); err == nil {
			t.Error("no device, and no error")
		}
	}()
	<-done
}

// TestSandbox runs itself, for what is given up does not come back.
func TestSandbox(t *testing.T) {
	if os.Getenv("SSLGATE_TEST_SANDBOX") != "" {
		sandboxed(t)
		return
	}
	dir := t.TempDir()
	for _, d := range []string{"audit", "elsewhere"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestSandbox$", "-test.v")
	cmd.Env = append(os.Environ(), "SSLGATE_TEST_SANDBOX="+dir)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "no Landlock") {
		testenv.Missing(t, "the kernel has no Landlock")
	}
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func sandboxed(t *testing.T) {
	dir := os.Getenv("SSLGATE_TEST_SANDBOX")
	c := &config.Config{}
	c.Audit.File = filepath.Join(dir, "audit", "a.jsonl")
	c.Admin.Socket = config.AdminOff
	s := &Service{rt: &config.Runtime{Config: c}, log: zap.NewNop()}
	s.sandbox()
	if err := os.WriteFile(filepath.Join(dir, "elsewhere", "x"), nil, 0o600); !errors.Is(err, fs.ErrPermission) {
		if err == nil {
			t.Skip("no Landlock")
		}
		t.Errorf("write elsewhere: %v", err)
	}
	if err := exec.Command("/bin/true").Run(); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("execute: %v", err)
	}
	// The record file is written, rotated and made anew, and a reload reads any file.
	if err := os.WriteFile(c.Audit.File, []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
	if err := os.Rename(c.Audit.File, c.Audit.File+".1"); err != nil {
		t.Error(err)
	}
	if err := os.Remove(c.Audit.File + ".1"); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadFile("/etc/passwd"); err != nil {
		t.Error(err)
	}
	if _, err := os.ReadDir(dir); err != nil {
		t.Error(err)
	}
}
