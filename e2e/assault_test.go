package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/attack"
	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/internal/reason"
)

// assaultEnv makes this program an attacker, in the client's namespace.
const assaultEnv = "SSLGATE_E2E_ASSAULT"

func assaultMain(job string) int {
	if err := attack.Main(job, os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// assaulting is an attack in progress.
type assaulting struct {
	t   *testing.T
	cmd *lab.Cmd
	in  *os.File
	out *bufio.Reader
}

// assault starts a process that attacks.
func (w *world) assault(j attack.Job) *assaulting {
	w.t.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	inR, inW, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	a := &assaulting{t: w.t, cmd: w.lab.Command(lab.Client, self), in: inW, out: bufio.NewReader(outR)}
	a.cmd.Env = append(os.Environ(), assaultEnv+"="+string(text))
	a.cmd.Stdin, a.cmd.Stdout, a.cmd.Stderr = inR, outW, os.Stderr
	if err := a.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	_ = inR.Close()
	_ = outW.Close()
	w.t.Cleanup(func() {
		_ = inW.Close()
		select {
		case <-a.cmd.Done():
		case <-time.After(testenv.Patience()):
			_ = a.cmd.Process.Kill()
			<-a.cmd.Done()
		}
		_ = outR.Close()
	})
	if line, err := a.out.ReadString('\n'); err != nil || line != "ready\n" {
		w.t.Fatalf("attacker said %q, %v", line, err)
	}
	if _, err := io.WriteString(inW, "go\n"); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// stop ends the attack and returns its result.
func (a *assaulting) stop() attack.Done {
	a.t.Helper()
	_ = a.in.Close()
	return a.wait()
}

// wait waits for its end.
func (a *assaulting) wait() (d attack.Done) {
	a.t.Helper()
	line, err := a.out.ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &d)
	}
	if err != nil {
		a.t.Fatalf("attacker: %v", err)
	}
	return d
}

// addresses gives the client further ones and returns them.
func (w *world) addresses(n int) []netip.Addr {
	w.t.Helper()
	var all []netip.Addr
	for i := range n {
		all = append(all, netip.AddrFrom4([4]byte{10, 77, 1, byte(100 + i)}))
	}
	w.addAddresses(all, 24)
	return all
}

func (w *world) addAddresses(all []netip.Addr, bits int) {
	w.t.Helper()
	err := w.lab.Netlink(lab.Client, func(h *netlink.Handle) error {
		link, err := h.LinkByName(lab.ClientIface)
		if err != nil {
			return err
		}
		for _, a := range all {
			addr, err := netlink.ParseAddr(netip.PrefixFrom(a, bits).String())
			if err != nil {
				return err
			}
			if a.Is6() {
				addr.Flags = unix.IFA_F_NODAD
			}
			if err := h.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// limits is a whole sslgate.yaml with other limits than config's.
func (w *world) limits(rules, limits string) string {
	w.t.Helper()
	text, err := os.ReadFile(w.config(rules, ""))
	if err != nil {
		w.t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(text), "limits: {")
	_, after, more := strings.Cut(after, "}")
	if !ok || !more {
		w.t.Fatalf("no limits in\n%s", text)
	}
	return w.pem("sslgate.yaml", []byte(before+"limits: "+limits+after))
}

// serveAsked echoes. To a client that says "more" it sends without end; of one that says
// "push" it reads no more.
func serveAsked(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute))
	_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10)
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil {
		return
	}
	if string(buf) == "more" {
		block := make([]byte, 64<<10)
		for {
			if _, err := c.Write(block); err != nil {
				return
			}
		}
	}
	if string(buf) == "push" {
		for { // until it is reset: a write of nothing would not tell
			if state, err := tcpState(c); err != nil || state != tcpEstablished {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	_, _ = c.Write(buf)
	_, _ = io.Copy(io.Discard, c)
}

// tcpEstablished is the kernel's word for a connection with both directions
// open (include/net/tcp_states.h).
const tcpEstablished = 1

func tcpState(c net.Conn) (uint8, error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var asked error
	err = raw.Control(func(fd uintptr) { info, asked = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
	if err = errors.Join(err, asked); err != nil {
		return 0, err
	}
	return info.State, nil
}

// The rate of the clients beside an attack: 20 flows a second, little enough for any machine,
// so that a loss is the attack's doing.
const (
	visitors = 4
	visits   = 200 * time.Millisecond
)

// How long the clients are measured: twenty flows before an attack, eighty during it.
const (
	quietSpan    = time.Second
	attackedSpan = 4 * time.Second
)

// of says whether the record is of that client.
func (r record) of(client netip.Addr) bool {
	return strings.HasPrefix(r.str("client"), client.String()+":")
}

// outcome is the code of what ended a flow, or else of the decision about it.
func (r record) outcome() string {
	if end := r.str("end"); end != "" && end != string(reason.EndClean) {
		return end
	}
	return r.str("reason")
}

// meets says whether a record of the client has each of the reasons by now.
func (w *world) meets(client netip.Addr, reasons []reason.Code) bool {
	all := w.records(0)
	for _, code := range reasons {
		if !slices.ContainsFunc(all, func(r record) bool { return r.of(client) && r.outcome() == string(code) }) {
			return false
		}
	}
	return true
}

// visiting is the job of the clients beside an attack.
func (w *world) visiting(from []netip.Addr, to netip.AddrPort, span time.Duration) attack.Job {
	return attack.Job{
		Kind: attack.Clients, From: from, To: []netip.AddrPort{to}, Name: "pay.example",
		Cert: filepath.Join(w.dir, "alice.pem"), Key: filepath.Join(w.dir, "alice.key"),
		Workers: visitors, Every: visits, For: span, Say: []byte("ping"),
	}
}

type attackDone = attack.Done // in tests a variable has the package's name

// keptRate measures clients during an attack, and fails if they have lost more than half of
// their rate. The promise is at most a fifth, which `scripts/bench --only assault --hold`
// checks; tests share their machine with others. What those do in between looks like the
// attack, so it is measured three times at most: an attack that starves others does so each
// time.
func keptRate(t *testing.T, quiet attack.Done, measure func() attack.Done) (during attack.Done) {
	t.Helper()
	rate := func(d attack.Done) float64 { return float64(d.Good) / d.Seconds }
	for range 3 {
		if during = measure(); rate(during) >= rate(quiet)/2 {
			break
		}
	}
	before, now := rate(quiet), rate(during)
	if quiet.Good < 5 || now < before/2 {
		t.Errorf("clients of other addresses: %.1f flows a second, %.1f without the attack: %+v", now, before, during)
	}
	if during.Ended+during.Refused > during.Good/100 {
		t.Errorf("flows of other addresses failed: %+v", during)
	}
	return during
}

// An IPv6 /64 attacks from many of its addresses. It counts as one client and meets the
// limits of one, and others are served.
func TestOneSlash64Attacks(t *testing.T) {
	for _, c := range []struct {
		kind    attack.Kind
		workers int
		reason  reason.Code
	}{
		{attack.Connections, 200, reason.ClientLimit},
		{attack.Hellos, 200, reason.ClientLimit},
		{attack.Handshakes, 16, reason.NoCertificate},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveAsked)
			w.origin(server(true), serveAsked)
			var net64 []netip.Addr
			for i := range 16 {
				net64 = append(net64, netip.MustParseAddr(fmt.Sprintf("fd77:1::%x:%x", 1+i, 1+i)))
			}
			w.addAddresses(net64, 64)
			from := w.addresses(2)
			to := netip.MustParseAddrPort(server(false))
			w.start(w.limits(payRule, "{flows_per_client: 64, handshake: 3s, drain: 1s}"))
			quiet := w.assault(w.visiting(from, to, testenv.Scaled(quietSpan))).wait()
			attack := w.assault(attack.Job{
				Kind: c.kind, From: net64, To: []netip.AddrPort{netip.MustParseAddrPort(server(true))}, Name: "pay.example",
				Workers: c.workers, For: 2 * time.Minute,
			})
			time.Sleep(time.Second)
			keptRate(t, quiet, func() attackDone { return w.assault(w.visiting(from, to, attackedSpan)).wait() })
			did := attack.stop()
			seen, addresses := map[string]int{}, map[netip.Addr]bool{}
			for _, r := range w.records(1) {
				if a := netip.MustParseAddrPort(r.str("client")).Addr(); a.Is6() {
					seen[r.str("reason")]++
					addresses[a] = true
				} else if r.str("reason") == string(reason.ClientLimit) {
					t.Errorf("%s meets the limit of one client", a)
				}
			}
			if seen[string(c.reason)] == 0 || len(addresses) < 8 {
				t.Errorf("from %d addresses of a /64: %v, want %s", len(addresses), seen, c.reason)
			}
			t.Logf("attacker %+v, of its flows %v", did, seen)
		})
	}
}

// While one address attacks, others are served. The attacker meets the limit that is meant
// for it, the record says which, and the log stays short.
func TestOneAddressAttacks(t *testing.T) {
	for _, c := range []struct {
		kind    attack.Kind
		workers int
		reasons []reason.Code // at least one of which is recorded
		limit   string        // which the log names
	}{
		{attack.Connections, 200, []reason.Code{reason.ClientLimit}, "limits.flows_per_client"},
		{attack.Hellos, 40, []reason.Code{reason.HandshakeTimeout}, "limits.handshake"},
		{attack.Handshakes, 16, []reason.Code{reason.NoCertificate}, ""},
		{attack.Windows, 20, []reason.Code{reason.EndClientStalled}, "limits.stall"},
		{attack.Uploads, 20, []reason.Code{reason.EndDestinationStalled}, "limits.stall"},
		{attack.Drips, 40, []reason.Code{reason.HelloTimeout}, "limits.handshake"},
		{attack.Fragments, 20, nil, ""},
		{attack.Chains, 16, []reason.Code{reason.UnknownCA}, ""},
		{attack.Shares, 16, []reason.Code{reason.HelloTooMany}, ""},
		{attack.Plain, 16, []reason.Code{reason.PlainHTTP}, ""},
	} {
		t.Run(string(c.kind), func(t *testing.T) {
			w := newWorld(t, lab.Options{})
			w.origin(server(false), serveAsked)
			from := w.addresses(3)
			to := []netip.AddrPort{netip.MustParseAddrPort(server(false))}
			g := w.start(w.limits(payRule, "{flows_per_client: 64, handshake: 3s, stall: 2s, drain: 1s}"))
			cert, key := filepath.Join(w.dir, "alice.pem"), filepath.Join(w.dir, "alice.key")
			job := attack.Job{
				Kind: c.kind, From: from[:1], To: to, Name: "pay.example", Workers: c.workers, For: 2 * time.Minute, Say: []byte("more"),
			}
			switch c.kind {
			case attack.Windows, attack.Uploads: // it takes a certificate to come that far
				job.Cert, job.Key = cert, key
			}
			if c.kind == attack.Uploads {
				job.Say = []byte("push")
			}
			quiet := w.assault(w.visiting(from[1:], to[0], testenv.Scaled(quietSpan))).wait()
			attack := w.assault(job)
			time.Sleep(time.Second)
			served := keptRate(t, quiet, func() attackDone { return w.assault(w.visiting(from[1:], to[0], attackedSpan)).wait() })
			if len(c.reasons) > 0 {
				testenv.Eventually(t, "the attacker meets its limit", func() bool { return w.meets(from[0], c.reasons) })
			}
			did := attack.stop()
			if did.Made < int64(c.workers)/2 {
				t.Errorf("that was no attack: %+v", did)
			}
			seen, others := map[string]int{}, map[string]int{}
			for _, r := range w.records(1) {
				if r.of(from[0]) {
					seen[r.outcome()]++
				} else {
					others[r.outcome()]++
				}
			}
			for _, code := range c.reasons {
				if seen[string(code)] == 0 {
					t.Errorf("no record of the attacker says %s: %v", code, seen)
				}
				if others[string(code)] > 0 {
					t.Errorf("%d records of other clients say %s: %v", others[string(code)], code, others)
				}
			}
			if lines := strings.Count(g.stderr.String(), "limit met"); lines > 12 {
				t.Errorf("%d lines in the log about limits", lines)
			} else if c.limit != "" && !strings.Contains(g.stderr.String(), c.limit) {
				t.Errorf("the log does not name %s:\n%s", c.limit, g.stderr.String())
			}
			t.Logf("attacker %+v, of its flows %v; clients %+v, %v", did, seen, served, others)
		})
	}
}
