package lab_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/sslgate/sslgate/internal/lab"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func TestMain(m *testing.M) { testenv.NoLeaks(m) }

func newLab(t *testing.T, opt lab.Options) *lab.Lab {
	t.Helper()
	testenv.TUN(t)
	l, err := lab.New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return l
}

// serve answers every connection with the peer's address.
func serve(t *testing.T, l *lab.Lab, addr netip.AddrPort) {
	t.Helper()
	ln, err := l.Listen(lab.Server, "tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { _ = ln.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, c.RemoteAddr().(*net.TCPAddr).IP.String())
			_ = c.Close()
		}
	}()
}

func TestTrafficCrossesTheGateway(t *testing.T) {
	for _, tc := range []struct {
		name string
		opt  lab.Options
	}{
		{"plain", lab.Options{Servers: 2}},
		{"narrow hop and GRO", lab.Options{Servers: 2, HopMTU: 1400, GRO: true}},
		{"own MTU", lab.Options{Servers: 2, ClientMTU: 1400}},
		{"two gateways", lab.Options{Servers: 2, Two: true, GRO: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLab(t, tc.opt)
			for _, six := range []bool{false, true} {
				for i := range 3 {
					to := netip.AddrPortFrom(lab.ServerAddr(i, six), 443)
					serve(t, l, to)
					far, err := l.Sniff(lab.Server, lab.ServerIface, lab.TCPTo(443))
					if err != nil {
						t.Fatal(err)
					}
					c, err := l.Dial(testenv.Context(t), lab.Client, "tcp", to.String())
					if err != nil {
						t.Fatal(err)
					}
					got, err := io.ReadAll(c)
					_ = c.Close()
					if err != nil || string(got) != lab.ClientAddr(six).String() {
						t.Errorf("%s: the server saw %q (%v), want %s", to, got, err, lab.ClientAddr(six))
					}
					if err := far.Wait(testenv.Context(t), 1); err != nil {
						t.Errorf("sniffer: %v", err)
					}
					if p := far.Packets(); len(p) == 0 || p[0].Flags != lab.SYN || p[0].Dst != to || p[0].Src.Addr() != lab.ClientAddr(six) {
						t.Errorf("sniffer saw %+v", p)
					}
					if err := far.Close(); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
}

func TestHopSaysTooBig(t *testing.T) {
	l := newLab(t, lab.Options{HopMTU: 1400})
	for _, six := range []bool{false, true} {
		proto := uint8(1)
		if six {
			proto = 58
		}
		icmp, err := l.Sniff(lab.Server, lab.ServerIface, func(p lab.Packet) bool { return p.Proto == proto && p.Len > 500 })
		if err != nil {
			t.Fatal(err)
		}
		big := lab.Segment{
			Src:   netip.AddrPortFrom(lab.ServerAddr(0, six), 443),
			Dst:   netip.AddrPortFrom(lab.ClientAddr(six), 40000),
			Flags: lab.ACK, Payload: make([]byte, 1430),
		}.Packet()
		if !six {
			big[6] |= 0x40 // do not fragment
		}
		if err := l.SendRaw(lab.Server, big); err != nil {
			t.Fatal(err)
		}
		if err := icmp.Wait(testenv.Context(t), 1); err != nil {
			t.Errorf("IPv6 %v: no ICMP error came back: %v", six, err)
		}
		_ = icmp.Close()
	}
}

func TestFragmentsArrive(t *testing.T) {
	l := newLab(t, lab.Options{})
	for _, six := range []bool{false, true} {
		to := netip.AddrPortFrom(lab.ServerAddr(0, six), 443)
		serve(t, l, to)
		syn := lab.Segment{Src: netip.AddrPortFrom(lab.ClientAddr(six), 41000), Dst: to, Seq: 7, Flags: lab.SYN}
		back, err := l.Sniff(lab.Client, lab.ClientIface, func(p lab.Packet) bool {
			return p.Flags == lab.SYN|lab.ACK && p.Dst.Port() == 41000
		})
		if err != nil {
			t.Fatal(err)
		}
		wire, err := l.Sniff(lab.Client, lab.ClientIface, func(p lab.Packet) bool { return p.Fragment && p.Dst.Addr() == to.Addr() })
		if err != nil {
			t.Fatal(err)
		}
		frags, err := syn.Fragments(24, 99)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.SendRaw(lab.Client, frags...); err != nil {
			t.Fatal(err)
		}
		// Without a gateway the kernel forwards both, and the server answers:
		// checksum, offsets and cut are right.
		if err := back.Wait(testenv.Context(t), 1); err != nil {
			t.Errorf("IPv6 %v: no SYN-ACK: %v", six, err)
		}
		if err := wire.Wait(testenv.Context(t), 2); err != nil || wire.Count() != 2 {
			t.Errorf("IPv6 %v: %d fragments on the wire, want 2", six, wire.Count())
		}
		if six {
			syn.Src = netip.AddrPortFrom(syn.Src.Addr(), 41001)
			ext, err := l.Sniff(lab.Client, lab.ClientIface, func(p lab.Packet) bool {
				return p.Flags == lab.SYN|lab.ACK && p.Dst.Port() == 41001
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := l.SendRaw(lab.Client, syn.BehindOptions()); err != nil {
				t.Fatal(err)
			}
			if err := ext.Wait(testenv.Context(t), 1); err != nil {
				t.Errorf("behind destination options: no SYN-ACK: %v", err)
			}
			_ = ext.Close()
		}
		_, _ = back.Close(), wire.Close()
	}
}

func TestCommandRunsInside(t *testing.T) {
	ip := testenv.Tool(t, "ip")
	l := newLab(t, lab.Options{})
	out, err := l.Command(lab.Gateway, ip, "-o", "link").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte(lab.LANIface)) || !bytes.Contains(out, []byte(lab.WANIface)) {
		t.Errorf("ip link in the gateway: %v\n%s", err, out)
	}
	sleep := l.Command(lab.Server, "sleep", "60")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sleep.Done():
	case <-time.After(testenv.Patience()):
		t.Fatal("the command outlived the lab")
	}
	if err := sleep.Wait(); err == nil || !strings.Contains(err.Error(), syscall.SIGKILL.String()) {
		t.Errorf("the command ended with %v", err)
	}
	if err := l.Do(lab.Client, func() error { return nil }); err == nil {
		t.Error("Do works in a closed lab")
	}
}

// world lists what a lab could leave behind: the links of this namespace, the
// named namespaces, and all network namespaces that are in use or mounted.
func world(t *testing.T) []string {
	t.Helper()
	var all []string
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		all = append(all, "link "+l.Attrs().Name)
	}
	names, _ := filepath.Glob("/run/netns/sslgate-lab-test*")
	all = append(all, names...)
	tasks, _ := filepath.Glob("/proc/self/task/*/ns/net")
	for _, task := range tasks {
		if ns, err := os.Readlink(task); err == nil {
			all = append(all, ns)
		}
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if to, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(to, "net:") {
			all = append(all, "fd "+to)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func TestNothingIsLeftBehind(t *testing.T) {
	testenv.TUN(t)
	before := world(t)
	for _, opt := range []lab.Options{{Servers: 3}, {Name: "sslgate-lab-test", Named: true, HopMTU: 1400}, {Name: "sslgate-lab-test", Named: true, Two: true}} {
		l, err := lab.New(opt)
		if err != nil {
			t.Fatal(err)
		}
		if got := world(t); slices.Equal(got, before) {
			t.Error("the listing does not see the lab")
		}
		if err := l.Remove(); err != nil {
			t.Error(err)
		}
		// The kernel ends a thread a moment after its goroutine.
		var left []string
		testenv.Eventually(t, fmt.Sprintf("nothing is left behind of %+v", opt), func() bool {
			left = slices.DeleteFunc(world(t), func(s string) bool { return slices.Contains(before, s) })
			return len(left) == 0
		}, func() any { return left })
	}
}

// The process's first thread cannot end: it must never be in a namespace.
func TestFirstThreadStaysOutside(t *testing.T) {
	l := newLab(t, lab.Options{})
	first := fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), os.Getpid())
	home, err := os.Readlink(first)
	if err != nil {
		t.Fatal(err)
	}
	for range 200 {
		if err := l.Do(lab.Client, func() error {
			if syscall.Gettid() == os.Getpid() {
				return errors.New("inside, on the first thread")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if now, err := os.Readlink(first); err != nil || now != home {
		t.Errorf("the first thread went from %s to %s (%v)", home, now, err)
	}
}

func TestNamedLabSurvivesAndGoes(t *testing.T) {
	testenv.TUN(t)
	for two, spaces := range map[bool]int{false: 3, true: 5} {
		t.Run(fmt.Sprintf("%d namespaces", spaces), func(t *testing.T) { namedLab(t, two, spaces) })
	}
}

func namedLab(t *testing.T, two bool, spaces int) {
	name := fmt.Sprintf("sslgate-lab-test-%d", os.Getpid())
	l, err := lab.New(lab.Options{Name: name, Named: true, Two: two})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = lab.Down(name) })
	if _, err := lab.New(lab.Options{Name: name, Named: true}); !errors.Is(err, lab.ErrHelp) {
		t.Errorf("a second lab of the same name: %v", err)
	}
	if err := l.Close(); err != nil { // as the end of the process would
		t.Fatal(err)
	}
	again, err := lab.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	if again.Two() != two {
		t.Errorf("Two is %t in a lab that was opened", again.Two())
	}
	serve(t, again, netip.AddrPortFrom(lab.ServerAddr(0, false), 80))
	c, err := again.Dial(testenv.Context(t), lab.Client, "tcp", lab.ServerAddr(0, false).String()+":80")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := again.Close(); err != nil {
		t.Error(err)
	}
	// A file without a namespace is what a crash in the middle leaves.
	if err := os.WriteFile("/run/netns/"+name+"-hop", nil, 0o444); err != nil {
		t.Fatal(err)
	}
	gone, err := lab.Down(name)
	if err != nil || len(gone) != spaces+1 {
		t.Errorf("Down: %v, %v", gone, err)
	}
	if left, _ := filepath.Glob("/run/netns/" + name + "*"); left != nil {
		t.Errorf("left behind: %v", left)
	}
	if _, err := lab.Open(name); !errors.Is(err, lab.ErrHelp) {
		t.Errorf("Open after Down: %v", err)
	}
}

// An interface's receive work can be put on a CPU and back, and a wrong interface is said.
func TestReceiveOn(t *testing.T) {
	l := newLab(t, lab.Options{})
	for _, cpu := range []int{0, -1} {
		if err := l.ReceiveOn(lab.Client, lab.ClientIface, cpu); err != nil {
			t.Error(err)
		}
	}
	if err := l.ReceiveOn(lab.Client, "nothere0", 0); err == nil {
		t.Error("an interface that is not there was set")
	}
}
