package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/attack"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// peak is the highest resident memory that a process has had, in bytes.
func peak(t *testing.T, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmHWM:" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

// plainBinary is the program without the race detector, whose own memory is
// several times the program's.
func plainBinary(t *testing.T) string {
	t.Helper()
	if ready := os.Getenv("SSLGATE_BINARY"); ready != "" {
		return ready
	}
	path := filepath.Join(t.TempDir(), "sslgate")
	if out, err := exec.Command("go", "build", "-o", path, "github.com/sslgate/sslgate/cmd/sslgate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// startBinary runs a gateway of that program until the test ends.
func (w *world) startBinary(path, config string) *gateway {
	w.t.Helper()
	g := &gateway{w: w, cmd: w.lab.Command(lab.Gateway, path, "run", "-c", config), stderr: newLogBuffer()}
	g.cmd.Dir, g.cmd.Stderr, g.cmd.Stdout = w.dir, g.stderr, g.stderr
	if err := g.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { g.stop(syscall.SIGTERM) })
	if !g.stderr.wait("ready", g.cmd.Done()) {
		w.t.Fatalf("not ready:\n%s", g.stderr.String())
	}
	return g
}

// meets says whether a log says of a limit that it is met. Other lines name it too: a warning at the
// start does.
func meets(log, limit string) bool {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "limit met") && strings.Contains(line, `"`+limit+`"`) {
			return true
		}
	}
	return false
}

// Clients that ask for data and do not read it make the gateway hold it, and so do
// destinations that do not read what clients send. With limits.memory the gateway stays below
// the ceiling at ten times its load, and others are served all the same. Without
// limits.memory it exceeds it, which checks the test itself.
func TestMemoryStaysBelowItsCeiling(t *testing.T) {
	const ceiling = 192 << 20
	path := plainBinary(t)
	const rules = payRule + `
    - {name: old, to: ["*:8443"], action: bypass}
`
	for _, c := range []struct {
		name, memory string
		bounded      bool
	}{{"with limits.memory", ", memory: 192MiB", true}, {"control", "", false}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveAsked)
			plain := netip.AddrPortFrom(lab.ServerAddr(0, false), 8443)
			w.origin(plain.String(), serveAsked)
			from := w.addresses(9)
			config := w.limits(rules, "{flows_per_client: 1000, handshake: 10s, drain: 1s, stall: 1m"+c.memory+"}")
			g := w.startBinary(path, config)
			pid := g.cmd.Process.Pid
			if exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || filepath.Base(exe) != filepath.Base(path) {
				t.Fatalf("process %d is %s, %v", pid, exe, err)
			}
			idle := peak(t, pid)
			cert, key := filepath.Join(w.dir, "alice.pem"), filepath.Join(w.dir, "alice.key")
			// More than a megabyte each, of which 2000 hold ten times the ceiling and
			// more. Without a ceiling a quarter of them shows how much each takes.
			share := 1
			if !c.bounded {
				share = 4
			}
			flood := func(kind attack.Kind, say string, from []netip.Addr, plainly, encrypted int) (all []*assaulting) {
				secured := []netip.AddrPort{netip.MustParseAddrPort(server(false))}
				return append(all,
					w.assault(attack.Job{
						Kind: kind, From: from, To: []netip.AddrPort{plain}, Plain: true, Say: []byte(say), Workers: plainly / share, For: 2 * testenv.Patience(),
					}),
					w.assault(attack.Job{
						Kind: kind, From: from, To: secured, Name: "pay.example", Cert: cert, Key: key, Say: []byte(say), Workers: encrypted / share, For: 2 * testenv.Patience(),
					}))
			}
			attacks := append(flood(attack.Windows, "more", from[:4], 900, 300), flood(attack.Uploads, "push", from[4:8], 600, 200)...)
			// Only then are the others heard: how soon the load is there depends on the machine.
			grown := func() int64 { return (peak(t, pid) - idle) * int64(share) }
			testenv.Eventually(t, "the load is as large as it has to be", func() bool {
				if c.bounded {
					return meets(g.stderr.String(), "limits.memory")
				}
				return grown() >= 10*ceiling
			}, func() any { return fmt.Sprintf("%d MiB of %d", grown()>>20, 10*ceiling>>20) })
			served := w.assault(attack.Job{
				Kind: attack.Clients, From: from[8:], To: []netip.AddrPort{netip.MustParseAddrPort(server(false))}, Name: "pay.example",
				Cert: cert, Key: key, Workers: 2, For: testenv.Scaled(8 * time.Second), Say: []byte("ping"),
			}).wait()
			most := peak(t, pid)
			var did []attack.Done
			for _, a := range attacks {
				did = append(did, a.stop())
			}
			t.Logf("idle %d MiB, at most %d of %d MiB; clients %+v; attackers %+v", idle>>20, most>>20, ceiling>>20, served, did)
			if !c.bounded {
				return // without a limit all of the load takes more than ten times the ceiling
			}
			if most > ceiling {
				t.Errorf("%d MiB resident, the ceiling is %d MiB\n%s", most>>20, ceiling>>20, g.stderr.String())
			}
			if served.Good == 0 {
				t.Errorf("nobody else was served: %+v", served)
			}
			g.stop(syscall.SIGTERM)
			ended, refused := 0, 0
			for _, r := range w.records(1) {
				switch {
				case r.str("end") == string(reason.EndMemory):
					ended++
				case r.str("reason") == string(reason.MemoryLimit):
					refused++
				}
			}
			// Which of the two happens depends on speed: if buffers become short before they
			// are full, no flow has to be ended.
			if ended+refused == 0 {
				t.Error("no flow was ended or refused for want of memory")
			}
			if !meets(g.stderr.String(), "limits.memory") {
				t.Error("the log does not say that limits.memory is met")
			}
			t.Logf("%d flows were ended, %d refused", ended, refused)
		})
	}
}
