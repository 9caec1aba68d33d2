package tun

import (
	"errors"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

// Tests that say t.Parallel wait for the kernel most of the time. Those that look whether a
// device is gone, or free, once it is closed do not say it: a program that another
// test starts has all open files until its exec, the device among them.
func TestMain(m *testing.M) {
	testenv.Lanes(4)
	testenv.NoLeaks(m)
}

// ns is a network namespace, which lives as long as the test.
type ns struct {
	t     testing.TB
	name  string
	calls chan func()
	fd    netns.NsHandle
}

func newNS(t testing.TB, name string) *ns {
	t.Helper()
	testenv.TUN(t)
	n := &ns{t: t, name: name, calls: make(chan func())}
	ready := make(chan error)
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		var err error
		n.fd, err = netns.New()
		ready <- err
		if err != nil {
			return
		}
		for f := range n.calls {
			f()
		}
	}()
	if err := <-ready; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() {
		close(n.calls)
		<-done
		_ = n.fd.Close()
	})
	n.run("ip link set lo up")
	n.run("sysctl -qw net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0")
	return n
}

// do runs f in the namespace.
func (n *ns) do(f func() error) {
	n.t.Helper()
	if err := n.try(f); err != nil {
		n.t.Fatalf("in %s: %v", n.name, err)
	}
}

func (n *ns) try(f func() error) error {
	err := make(chan error)
	n.calls <- func() { err <- f() }
	return <-err
}

// run runs a command line in the namespace and returns its output.
func (n *ns) run(line string) string {
	n.t.Helper()
	out, err := n.command(line)
	if err != nil {
		n.t.Fatalf("in %s: %v", n.name, err)
	}
	return out
}

// script runs lines of shell in the namespace.
func (n *ns) script(lines string) {
	n.t.Helper()
	n.do(func() error {
		out, err := exec.Command("sh", "-ec", lines).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", lines, err, out)
		}
		return nil
	})
}

// command is run for a line that may fail.
func (n *ns) command(line string) (string, error) {
	var out []byte
	err := n.try(func() (err error) {
		words := strings.Fields(line)
		if out, err = exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w\n%s", line, err, out)
		}
		return err
	})
	return string(out), err
}

// state is everything that steering may touch, as the tools list it.
func (n *ns) state() string {
	n.t.Helper()
	var all strings.Builder
	for _, line := range []string{"nft list ruleset", "ip rule", "ip -6 rule", "ip route show table all", "ip -6 route show table all"} {
		fmt.Fprintf(&all, "# %s\n%s", line, n.run(line))
	}
	return all.String()
}

// lab is client - gateway - server, and an interface o0 in the gateway to a
// fourth namespace that is not captured.
type lab struct {
	client, gw, server, other *ns
	macs                      map[string]net.HardwareAddr // of the gateway's interfaces
	sniff                     *sniffer
	sport                     uint16
}

func newLab(t testing.TB) *lab {
	t.Helper()
	testenv.Tool(t, "ip")
	testenv.Tool(t, "nft")
	l := &lab{client: newNS(t, "client"), gw: newNS(t, "gateway"), server: newNS(t, "server"), other: newNS(t, "other"),
		macs: map[string]net.HardwareAddr{}, sport: 40000}
	l.wire("g0", l.client, "c0", 1)
	l.wire("g1", l.server, "s0", 2)
	l.wire("o0", l.other, "x0", 3)
	l.gw.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")
	l.sniff = newSniffer(t, l.server, "s0")
	return l
}

// wire joins an interface of the gateway with one of a peer: 10.0.n.1 and
// fd00:n::1 are the gateway, .2 is the peer.
func (l *lab) wire(gwIf string, peer *ns, peerIf string, n int) {
	l.gw.t.Helper()
	l.gw.do(func() error {
		veth := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: peerIf, PeerNamespace: netlink.NsFd(peer.fd)}
		veth.Name = gwIf
		return netlink.LinkAdd(veth)
	})
	l.gw.run(fmt.Sprintf("ip addr add 10.0.%d.1/24 dev %s", n, gwIf))
	l.gw.run(fmt.Sprintf("ip addr add fd00:%d::1/64 dev %s nodad", n, gwIf))
	l.gw.run("ip link set " + gwIf + " up")
	peer.run(fmt.Sprintf("ip addr add 10.0.%d.2/24 dev %s", n, peerIf))
	peer.run(fmt.Sprintf("ip addr add fd00:%d::2/64 dev %s nodad", n, peerIf))
	peer.run("ip link set " + peerIf + " up")
	peer.run(fmt.Sprintf("ip route add default via 10.0.%d.1", n))
	peer.run(fmt.Sprintf("ip -6 route add default via fd00:%d::1", n))
	l.gw.do(func() error {
		link, err := netlink.LinkByName(gwIf)
		if err == nil {
			l.macs[gwIf] = link.Attrs().HardwareAddr
		}
		return err
	})
}

// packetSocket opens an AF_PACKET socket on an interface, for IP packets.
func packetSocket(n *ns, ifc string) (fd, index int, err error) {
	err = n.try(func() error {
		i, err := netlink.LinkByName(ifc)
		if err != nil {
			return err
		}
		index = i.Attrs().Index
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: index})
	})
	return fd, index, err
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// send puts IP packets on the wire at a peer's interface, to a gateway's interface.
func (l *lab) send(from *ns, ifc, gwIf string, packets ...[]byte) {
	from.t.Helper()
	fd, index, err := packetSocket(from, ifc)
	if err != nil {
		from.t.Fatal(err)
	}
	defer func() { _ = unix.Close(fd) }()
	for _, p := range packets {
		to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: index, Halen: 6}
		if p[0]>>4 == 6 {
			to.Protocol = htons(unix.ETH_P_IPV6)
		}
		copy(to.Addr[:], l.macs[gwIf])
		if err := unix.Sendto(fd, p, 0, to); err != nil {
			from.t.Fatal(err)
		}
	}
}

// sniffer collects what arrives at an interface.
type sniffer struct {
	t   testing.TB
	got chan []byte
}

func newSniffer(t testing.TB, n *ns, ifc string) *sniffer {
	t.Helper()
	fd, _, err := packetSocket(n, ifc)
	if err != nil {
		t.Fatal(err)
	}
	s := &sniffer{t: t, got: make(chan []byte, 1024)}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 50000}); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 65536)
		for {
			size, from, err := unix.Recvfrom(fd, buf, 0)
			select {
			case <-stop:
				return
			default:
			}
			if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) || errors.Is(err, unix.ENETDOWN) {
				continue
			}
			if err != nil {
				return
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
				s.got <- append([]byte(nil), buf[:size]...)
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-done
		_ = unix.Close(fd)
	})
	return s
}

// until returns what arrives until a packet with source port sport does, which
// must come; that one is not in the result.
func until(t testing.TB, got <-chan []byte, sport uint16) [][]byte {
	t.Helper()
	var before [][]byte
	timeout := time.After(testenv.Patience())
	for {
		select {
		case p := <-got:
			if parse(p).sport == sport {
				return before
			}
			before = append(before, p)
		case <-timeout:
			t.Fatalf("no packet with source port %d arrived; others: %v", sport, describe(before))
		}
	}
}

// leaked sends the packets from the client and then one to a port that is not
// captured, waits for that one at the server and returns what else of the
// client's TCP arrived there.
func (l *lab) leaked(gwIf string, packets ...[]byte) []string {
	l.gw.t.Helper()
	return l.leakedFrom(l.client, "c0", gwIf, "10.0.1.2", packets...)
}

func (l *lab) leakedFrom(from *ns, ifc, gwIf, src string, packets ...[]byte) []string {
	from.t.Helper()
	l.sport++
	sentinel := packet{src: src, dst: "10.0.2.2", proto: unix.IPPROTO_UDP, sport: l.sport, dport: 9}.bytes()
	l.send(from, ifc, gwIf, packets...)
	l.send(from, ifc, gwIf, sentinel)
	before := until(from.t, l.sniff.got, l.sport)
	linger := time.After(30 * time.Millisecond) // for one that overtook
	for {
		select {
		case p := <-l.sniff.got:
			before = append(before, p)
			continue
		case <-linger:
		}
		break
	}
	var tcp []string
	for _, p := range before {
		if i := parse(p); i.proto != unix.IPPROTO_ICMPV6 && i.proto != 0 {
			tcp = append(tcp, i.String())
		}
	}
	return tcp
}
