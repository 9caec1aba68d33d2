package e2e

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// nobody is the user of these tests.
const nobody = 65534

// unprivileged is a command in the gateway's namespace as nobody, with
// CAP_NET_ADMIN and nothing else, as the systemd unit has it. It gets a TUN
// node that everybody may open, which udev gives.
func (w *world) unprivileged(args ...string) *lab.Cmd {
	w.t.Helper()
	testenv.Tool(w.t, "setpriv")
	testenv.Tool(w.t, "unshare")
	path, err := binary()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, dir := range []string{filepath.Dir(path), filepath.Dir(w.dir)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			w.t.Fatal(err)
		}
	}
	err = filepath.Walk(w.dir, func(name string, _ os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, nobody, nobody)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	const script = `mount -t tmpfs tmpfs /dev/net
mknod -m 0666 /dev/net/tun c 10 200
exec setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin \
	--bounding-set=-all,+net_admin --no-new-privs "$@"`
	cmd := w.lab.Command(lab.Gateway, "unshare", append([]string{"-m", "sh", "-ec", script, "sh", path}, args...)...)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=1")
	return cmd
}

// systemd listens to what a service says of itself.
type systemd struct {
	t    *testing.T
	conn *net.UnixConn
	said []string
}

func newSystemd(t *testing.T, path string) *systemd {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &systemd{t: t, conn: conn}
}

// wait reads until the word comes.
func (s *systemd) wait(word string) {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(testenv.Deadline())
	buf := make([]byte, 1000)
	for {
		n, err := s.conn.Read(buf)
		if err != nil {
			s.t.Fatalf("systemd did not hear %s: %v; it heard %q", word, err, s.said)
		}
		s.said = append(s.said, string(buf[:n]))
		if strings.HasPrefix(string(buf[:n]), word) {
			return
		}
	}
}

// The life of a systemd unit: guard, start, signs of life, reload, stop, all as a user with only
// CAP_NET_ADMIN and in its Landlock.
func TestLifeUnprivileged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	more := "admin: {socket: admin.sock}\n"
	config := w.config(payRule, more)
	sd := newSystemd(t, filepath.Join(w.dir, "notify"))

	if out, err := w.unprivileged("guard", "-c", config).CombinedOutput(); err != nil {
		t.Fatalf("guard: %v\n%s", err, out)
	}
	s := w.leak()
	w.knock(40000)
	w.nothingLeaked(s, "guard by an unprivileged user")

	cmd := w.unprivileged("run", "-c", config)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+filepath.Join(w.dir, "notify"), "WATCHDOG_USEC=1000000")
	g := &gateway{w: w, cmd: cmd, stderr: newLogBuffer()}
	cmd.Stderr, cmd.Stdout = g.stderr, g.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer g.stop(syscall.SIGTERM)
	defer func() {
		if t.Failed() {
			t.Logf("gateway said:\n%s", g.stderr.String())
		}
	}()
	sd.wait("READY=1")
	for range 3 {
		sd.wait("WATCHDOG=1")
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"NoNewPrivs:\t1", "CapEff:\t0000000000001000", "CapBnd:\t0000000000001000", "Uid:\t65534\t65534"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the process is not as the unit makes it, no %q in:\n%s", want, status)
		}
	}
	w.echo("before the reload")

	// A reload that names files that were not there before.
	if err := os.Mkdir(filepath.Join(w.dir, "new"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pay.pem", "pay.key"} {
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		w.pem(filepath.Join("new", name), b)
	}
	w.config(payRule, more)
	w.rewrite("pay: {certificate: pay.pem, key: pay.key}", "pay: {certificate: new/pay.pem, key: new/pay.key}")
	if out, err := w.unprivileged("reload", "--socket", w.socket()).CombinedOutput(); err != nil {
		t.Fatalf("reload: %v\n%s", err, out)
	}
	sd.wait("RELOADING=1\nMONOTONIC_USEC=")
	sd.wait("READY=1")
	w.echo("after the reload")

	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	sd.wait("STOPPING=1")
	g.stop(syscall.SIGTERM)
	if strings.Contains(g.stderr.String(), "Landlock") {
		t.Errorf("not restricted:\n%s", g.stderr.String())
	}
	w.knock(40001)
	w.nothingLeaked(s, "after the stop")
}

// echo sends a word through the gateway and back.
func (w *world) echo(when string) {
	w.t.Helper()
	c, err := w.dialTLS(false, nil)
	if err == nil {
		defer c.Close()
		if _, err = c.Write([]byte("word")); err == nil {
			_, err = io.ReadFull(c, make([]byte, 4))
		}
	}
	if err != nil {
		w.t.Errorf("%s: %v", when, err)
	}
}

// While records cannot be written no new flow begins, with a reason of its own. No record of
// a flow that was let through is lost. Then everything works again.
func TestAuditDiskFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, lab.Options{})
	w.origin(server(false), serveEcho)
	testenv.Tool(t, "unshare")
	// Only the gateway sees the small disk; the test reaches it by the gateway's root in /proc.
	mnt := filepath.Join(w.dir, "log")
	if err := os.Mkdir(mnt, 0o700); err != nil {
		t.Fatal(err)
	}
	w.config(payRule, "")
	config := w.rewrite("audit: {file: audit.jsonl}", "audit: {file: log/audit.jsonl}")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := w.lab.Command(lab.Gateway, "unshare", "-m", "sh", "-ec", `mount -t tmpfs -o size=64k tmpfs log; exec "$@"`, "sh", path, "run", "-c", config)
	cmd.Dir, cmd.Env = w.dir, append(os.Environ(), "GORACE=halt_on_error=1")
	g := &gateway{w: w, cmd: cmd, stderr: newLogBuffer()}
	cmd.Stderr, cmd.Stdout = g.stderr, g.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer g.stop(syscall.SIGTERM)
	if !g.stderr.wait("ready", cmd.Done()) {
		t.Fatal(g.stderr.String())
	}
	w.echo("with room")
	disk := fmt.Sprintf("/proc/%d/root%s", cmd.Process.Pid, mnt)
	f, err := os.Create(filepath.Join(disk, "ballast"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	for err = error(nil); err == nil; { // and the rest of the last block
		_, err = f.Write([]byte{0})
	}
	_ = f.Close()
	// The records fill the last block of their own file, and then no more.
	deadline := testenv.Deadline()
	for !strings.Contains(g.stderr.String(), "audit records cannot be written") {
		if time.Now().After(deadline) {
			t.Fatalf("never said:\n%s", g.stderr.String())
		}
		if c, err := w.dialTLS(false, nil); err == nil {
			_ = c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	if c, err := w.dialTLS(false, nil); err == nil {
		_ = c.Close()
		t.Error("a flow began that cannot be recorded")
	}
	if err := os.Remove(filepath.Join(disk, "ballast")); err != nil {
		t.Fatal(err)
	}
	if !g.stderr.wait("audit records are written again", cmd.Done()) {
		t.Fatal(g.stderr.String())
	}
	w.echo("with room again")
	b, err := os.ReadFile(filepath.Join(disk, "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), `"reason":"audit_unavailable"`) {
		t.Errorf("the refused flow has no record with its reason:\n%s\n%s", b, g.stderr.String())
	}
}
