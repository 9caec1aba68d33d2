package tun

import (
	"encoding/binary"
	"errors"
	"flag"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/lab/testenv"
)

func outConfig() SteerConfig {
	cfg := testConfig()
	cfg.Out = &Outgoing{OwnMark: 0x50}
	return cfg
}

// dialling is a dial of a program of this host that goes on.
type dialling struct {
	conn net.Conn
	err  error
	done chan struct{}
}

// dialOut begins to dial in the gateway's namespace, as the user.
func (g *gateway) dialOut(t *testing.T, addr string, uid int) *dialling {
	t.Helper()
	return g.dialOutFrom(t, addr, uid, 0)
}

// dialOutFrom is dialOut from a port that may just have been another connection's.
func (g *gateway) dialOutFrom(t *testing.T, addr string, uid, port int) *dialling {
	t.Helper()
	d := &dialling{done: make(chan struct{})}
	var fd int
	at := netip.MustParseAddrPort(addr)
	var from, to unix.Sockaddr = &unix.SockaddrInet6{Port: port}, &unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()}
	domain := unix.AF_INET6
	if at.Addr().Is4() {
		domain, from, to = unix.AF_INET, &unix.SockaddrInet4{Port: port}, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	g.gw.do(func() (err error) {
		// The user of a socket is the one for which its file was made.
		if uid != 0 {
			if _, err := unix.SetfsuidRetUid(uid); err != nil {
				return err
			}
			defer func() { _, _ = unix.SetfsuidRetUid(0) }()
		}
		if fd, err = unix.Socket(domain, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil || port == 0 {
			return err
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		return unix.Bind(fd, from)
	})
	go func() {
		defer close(d.done)
		if d.err = unix.Connect(fd, to); d.err != nil {
			_ = unix.Close(fd)
			return
		}
		file := os.NewFile(uintptr(fd), "socket")
		d.conn, d.err = net.FileConn(file)
		_ = file.Close()
	}()
	t.Cleanup(func() {
		select {
		case <-d.done:
		default:
			_ = unix.Shutdown(fd, unix.SHUT_RDWR) // ends a connect that hangs
		}
		<-d.done
		if d.conn != nil {
			_ = d.conn.Close()
		}
	})
	return d
}

// wait waits for the end of the dial.
func (d *dialling) wait(t *testing.T) (net.Conn, error) {
	t.Helper()
	testenv.Receive(t, "the end of the dial", d.done)
	return d.conn, d.err
}

// syn takes the next SYN out of the TUN, which must be one from this host.
func (g *gateway) syn(t *testing.T, addr string) info {
	t.Helper()
	for {
		i := parse(testenv.Receive(t, "a SYN to "+addr+" in the TUN", g.tun))
		if i.proto != unix.IPPROTO_TCP || i.body[13]&(tcpSYN|tcpACK) != tcpSYN {
			continue
		}
		if to := netip.AddrPortFrom(i.dst, i.dport).String(); to != addr {
			t.Fatalf("a SYN to %s in the TUN, not to %s", to, addr)
		}
		return i
	}
}

// accept answers a SYN, as stack would.
func (g *gateway) accept(t *testing.T, i info) {
	t.Helper()
	g.write(t, packet{src: i.dst.String(), dst: i.src.String(), proto: unix.IPPROTO_TCP, sport: i.dport, dport: i.sport, synack: true,
		ack: binary.BigEndian.Uint32(i.body[4:]) + 1}.bytes())
}

// none says that no TCP has come out of the TUN, and none to a captured port to the server.
func (g *gateway) none(t *testing.T, when string) {
	t.Helper()
	for {
		select {
		case p := <-g.tun:
			if i := parse(p); i.proto == unix.IPPROTO_TCP {
				t.Errorf("%s: in the TUN: %v", when, i)
			}
			continue
		default:
		}
		break
	}
	g.noneArrived(t, when)
}

// noneArrived says that no TCP to a captured port has come to the server.
func (g *gateway) noneArrived(t *testing.T, when string) {
	t.Helper()
	for len(g.sniff.got) > 0 {
		if i := parse(<-g.sniff.got); i.proto == unix.IPPROTO_TCP && (i.dport == 443 || i.dport == 8443) {
			t.Errorf("%s: came to the server: %v", when, i)
		}
	}
}

// resets ends a connection to the server's port 443 and waits for its last packet there.
func (g *gateway) resets(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	for {
		i := parse(testenv.Receive(t, "a RST at the server", g.sniff.got))
		if i.proto == unix.IPPROTO_TCP && i.dport == 443 && i.body[13]&tcpRST != 0 {
			return
		}
	}
}

// reaches dials a server that listens, and must not meet the TUN.
func (g *gateway) reaches(t *testing.T, addr string, uid int) {
	t.Helper()
	c, err := g.dialOut(t, addr, uid).wait(t)
	if err != nil {
		t.Errorf("user %d to %s: %v", uid, addr, err)
		return
	}
	_ = c.Close()
}

// echoPackets answers UDP in the namespace.
func echoPackets(t *testing.T, n *ns, addr string) {
	t.Helper()
	var pc net.PacketConn
	n.do(func() (err error) { pc, err = net.ListenPacket("udp", addr); return err })
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 100); ; {
			k, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(b[:k], from)
		}
	}()
	t.Cleanup(func() { _ = pc.Close(); <-done })
}

func serveIn(t *testing.T, n *ns, addrs ...string) {
	t.Helper()
	for _, a := range addrs {
		var ln net.Listener
		n.do(func() (err error) { ln, err = net.Listen("tcp", a); return err })
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(c, c)
					_ = c.Close()
				}()
			}
		}()
		t.Cleanup(func() { _ = ln.Close(); <-done })
	}
}

// TestLocalOut: connections of this host's programs to captured ports go into the TUN, with
// the host's own address, and nothing else does: other ports, sslgate's own sockets, what
// stays on the host, answers of services. When the device is gone, what is captured goes
// nowhere, and everything else goes on.
func TestLocalOut(t *testing.T) {
	g := newGateway(t, outConfig())
	g.watch(t)
	serveIn(t, g.server, "10.0.2.2:80", "[fd00:2::2]:80")
	serveIn(t, g.gw, "127.0.0.1:443", "[::1]:443", "10.0.2.1:443", "[fd00:2::1]:443", "10.0.1.1:8080", "[fd00:1::1]:8080")
	for addr, from := range map[string]string{"10.0.2.2:443": "10.0.2.1", "[fd00:2::2]:8443": "fd00:2::1"} {
		d := g.dialOut(t, addr, 0)
		i := g.syn(t, addr)
		if i.src.String() != from {
			t.Errorf("%s is dialled from %v in the TUN", addr, i.src)
		}
		g.accept(t, i)
		if _, err := d.wait(t); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		if _, err := d.conn.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		testenv.Eventually(t, "the data is in the TUN", func() bool {
			i := parse(testenv.Receive(t, "data", g.tun))
			return strings.HasSuffix(string(i.body), "hello")
		})
	}
	for len(g.tun) > 0 {
		<-g.tun
	}
	// Who dials another address of this host is led elsewhere by a destination NAT.
	g.gw.table(`table inet nat { chain out { type nat hook output priority -100; ip daddr 10.0.3.1 tcp dport 443 dnat ip to 10.0.2.2:443; ip6 daddr fd00:3::1 tcp dport 443 dnat ip6 to [fd00:2::2]:443; } }`)
	for _, addr := range []string{"10.0.3.1:443", "[fd00:3::1]:443"} {
		d := g.dialOut(t, addr, 0)
		select {
		case <-d.done:
			t.Errorf("%s, which a NAT leads out of the host: %v", addr, d.err)
		case <-time.After(200 * time.Millisecond):
		}
	}
	g.noneArrived(t, "behind a destination NAT")
	for _, addr := range []string{"10.0.2.2:53", "[fd00:2::2]:53"} {
		echoPackets(t, g.server, addr)
	}
	rest := func(when string) {
		t.Helper()
		for _, addr := range []string{"10.0.2.2:53", "[fd00:2::2]:53"} { // as to a name server
			g.gw.do(func() error {
				c, err := net.Dial("udp", addr)
				if err != nil {
					return err
				}
				defer c.Close()
				_ = c.SetDeadline(testenv.Deadline())
				if _, err := c.Write([]byte("?")); err != nil {
					return err
				}
				_, err = c.Read(make([]byte, 1))
				return err
			})
		}
		for _, addr := range []string{"10.0.2.2:80", "[fd00:2::2]:80", "127.0.0.1:443", "[::1]:443", "10.0.2.1:443", "[fd00:2::1]:443"} {
			g.reaches(t, addr, 0)
		}
		for _, addr := range []string{"10.0.1.1:8080", "[fd00:1::1]:8080"} { // answers go to a captured port
			var c net.Conn
			if err := g.client.try(func() (err error) {
				// The port is free again at once.
				d := net.Dialer{Timeout: testenv.Patience(), LocalAddr: &net.TCPAddr{Port: 443}, Control: func(_, _ string, c syscall.RawConn) error {
					return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
				}}
				if c, err = d.Dial("tcp", addr); err == nil {
					_ = c.(*net.TCPConn).SetLinger(0)
				}
				return err
			}); err != nil {
				t.Errorf("%s: a client from port 443: %v", when, err)
				continue
			}
			_ = c.Close()
		}
	}
	rest("running")
	serveIn(t, g.server, "10.0.2.2:443", "[fd00:2::2]:443")
	for _, addr := range []string{"10.0.2.2:443", "[fd00:2::2]:443"} {
		var c net.Conn
		g.gw.do(func() (err error) { c, err = dialer.Mark(0x50).Dialer().Dial("tcp", addr); return err })
		g.resets(t, c)
	}

	_ = g.dev.Close() // as a crash does
	for len(g.tun) > 0 {
		<-g.tun
	}
	for _, addr := range []string{"10.0.2.2:443", "[fd00:2::2]:443"} {
		d := g.dialOut(t, addr, 0)
		select {
		case <-d.done:
			t.Errorf("%s without the TUN: %v", addr, d.err)
		case <-time.After(300 * time.Millisecond):
		}
	}
	rest("after a crash")
	g.none(t, "after a crash")
}

// TestLocalOutGuard: with the guard alone, programs are told at once that they cannot
// connect to captured ports, also where a destination NAT of the host makes one of another.
// Everything else passes.
func TestLocalOutGuard(t *testing.T) {
	l := newLab(t)
	g := &gateway{lab: l, tun: make(chan []byte)}
	serveIn(t, l.server, "10.0.2.2:80", "[fd00:2::2]:80", "10.0.2.2:443", "[fd00:2::2]:443")
	c, err := g.dialOut(t, "10.0.2.2:443", 0).wait(t)
	if err != nil {
		t.Fatal(err)
	}
	g.resets(t, c)
	l.gw.do(func() error { return Guard(outConfig()) })
	l.gw.table(`table ip nat4 { chain out { type nat hook output priority -100; ip daddr 10.0.2.2 tcp dport 9000 dnat to 10.0.2.2:443; } }`)
	for _, addr := range []string{"10.0.2.2:443", "[fd00:2::2]:443", "10.0.2.2:9000"} {
		if _, err := g.dialOut(t, addr, 0).wait(t); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	g.reaches(t, "10.0.2.2:80", 0)
	g.reaches(t, "[fd00:2::2]:80", 0)
	g.none(t, "guard alone")
	// UDP to a captured port is refused like that of clients.
	l.gw.do(func() error {
		c, err := net.Dial("udp", "10.0.2.2:443")
		if err != nil {
			return err
		}
		defer c.Close()
		_, _ = c.Write([]byte("x"))
		_ = c.SetReadDeadline(testenv.Deadline())
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.EPERM) {
			t.Errorf("UDP to a captured port: %v", err)
		}
		return nil
	})
}

// TestLocalOutChosen: by user, by port and by destination. Connections that are not chosen
// pass until their last packet, when their socket has no user any more.
func TestLocalOutChosen(t *testing.T) {
	const user, other = 65534, 1234
	for name, c := range map[string]struct {
		out            Outgoing
		chosen, passed map[string]int // address to user
	}{
		"users": {Outgoing{Users: []uint32{user, 7}},
			map[string]int{"10.0.2.2:443": user, "[fd00:2::2]:443": user}, map[string]int{"10.0.2.2:443": other, "[fd00:2::2]:8443": 0}},
		"all but one": {Outgoing{ExceptUsers: []uint32{user}},
			map[string]int{"10.0.2.2:443": other, "[fd00:2::2]:443": 0}, map[string]int{"10.0.2.2:443": user, "[fd00:2::2]:443": user}},
		"root's group": {Outgoing{Groups: []uint32{0}}, map[string]int{"10.0.2.2:443": other}, nil},
		"another group": {Outgoing{Groups: []uint32{5}, Users: []uint32{user}},
			map[string]int{"10.0.2.2:443": user}, map[string]int{"10.0.2.2:443": other}},
		"ports": {Outgoing{Ports: []uint16{8443}}, map[string]int{"10.0.2.2:8443": 0}, map[string]int{"10.0.2.2:443": 0, "[fd00:2::2]:443": 0}},
		"to": {Outgoing{To: []netip.Prefix{netip.MustParsePrefix("10.0.2.0/28"), netip.MustParsePrefix("fd00:9::/32")}},
			map[string]int{"10.0.2.2:443": 0, "10.0.2.2:8443": user}, map[string]int{"[fd00:2::2]:443": 0, "10.0.3.2:443": 0}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Out = &c.out
			cfg.Out.OwnMark = 0x50
			g := newGateway(t, cfg)
			serveIn(t, g.server, "10.0.2.2:443", "[fd00:2::2]:443", "10.0.2.2:8443", "[fd00:2::2]:8443")
			serveIn(t, g.other, "10.0.3.2:443")
			for addr, uid := range c.passed {
				conn, err := g.dialOut(t, addr, uid).wait(t)
				if err != nil {
					t.Errorf("user %d to %s: %v", uid, addr, err)
					continue
				}
				if _, err := io.WriteString(conn, "all of it"); err != nil {
					t.Error(err)
				}
				_ = conn.(*net.TCPConn).CloseWrite()
				if back, err := io.ReadAll(conn); string(back) != "all of it" {
					t.Errorf("%q, %v", back, err)
				}
				_ = conn.Close()
			}
			select {
			case p := <-g.tun:
				t.Errorf("what is not chosen is in the TUN: %v", parse(p))
			case <-time.After(100 * time.Millisecond):
			}
			for addr, uid := range c.chosen {
				g.dialOut(t, addr, uid)
				g.syn(t, addr)
			}
		})
	}
}

// TestLocalOutHandOver: connections of this host's programs stay with the gateway that they
// began at, and new ones go to the one that has taken over.
func TestLocalOutHandOver(t *testing.T) {
	a := newGateway(t, outConfig())
	a.watch(t)
	open := func(addr string, at, not *gateway) net.Conn {
		t.Helper()
		d := at.dialOut(t, addr, 0)
		at.accept(t, at.syn(t, addr))
		if _, err := d.wait(t); err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		if not != at {
			not.none(t, "a connection of the other gateway")
		}
		return d.conn
	}
	says := func(c net.Conn, word string, at *gateway) {
		t.Helper()
		if _, err := io.WriteString(c, word); err != nil {
			t.Error(err)
		}
		for {
			i := parse(testenv.Receive(t, word+" in the TUN", at.tun))
			if !strings.HasSuffix(string(i.body), word) {
				continue
			}
			// Acknowledged, or the next word waits for a retransmission of this one, which
			// comes ever later.
			at.write(t, packet{src: i.dst.String(), dst: i.src.String(), proto: unix.IPPROTO_TCP, sport: i.dport, dport: i.sport,
				flags: tcpACK, seq: 2, ack: binary.BigEndian.Uint32(i.body[4:]) + uint32(len(word))}.bytes())
			return
		}
	}
	addrs := []string{"10.0.2.2:443", "[fd00:2::2]:443"}
	var held []net.Conn
	for _, addr := range addrs {
		held = append(held, open(addr, a, a))
	}
	b := secondOn(t, a, outConfig())
	b.watch(t)
	take(t, a, b)
	for i, addr := range addrs {
		says(held[i], "held", a)
		says(open(addr, b, a), "young", b)
	}
	b.none(t, "what a has")
	_ = a.dev.Close() // a has ended
	within(t, func() string {
		if b.steer.Beside() {
			return "a is there yet"
		}
		return ""
	})
	for i := range held {
		says(held[i], "late", b) // which answers with a RST
	}
}

// TestLocalOutForgotten: connection tracking has forgotten a captured connection, and the
// first packet that it sees again is an answer of the gateway. What the program sends goes
// into the TUN all the same, and after a crash nowhere.
func TestLocalOutForgotten(t *testing.T) {
	g := newGateway(t, outConfig())
	g.gw.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1")
	serveIn(t, g.server, "10.0.2.2:443", "[fd00:2::2]:443")
	var held []net.Conn
	for _, addr := range []string{"10.0.2.2:443", "[fd00:2::2]:443"} {
		d := g.dialOut(t, addr, 0)
		i := g.syn(t, addr)
		g.accept(t, i)
		c, err := d.wait(t)
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
		g.gw.do(func() error {
			return netlink.ConntrackTableFlush(netlink.ConntrackTable)
		})
		g.write(t, packet{src: i.dst.String(), dst: i.src.String(), proto: unix.IPPROTO_TCP, sport: i.dport, dport: i.sport, flags: tcpACK,
			ack: binary.BigEndian.Uint32(i.body[4:]) + 1}.bytes())
		if _, err := io.WriteString(c, "words"); err != nil {
			t.Error(err)
		}
		for {
			if i := parse(testenv.Receive(t, "words in the TUN", g.tun)); strings.HasSuffix(string(i.body), "words") {
				break
			}
		}
	}
	_ = g.dev.Close()
	for _, c := range held {
		_, _ = io.WriteString(c, "more")
	}
	time.Sleep(300 * time.Millisecond) // for what is sent again
	for len(g.tun) > 0 {
		<-g.tun
	}
	g.none(t, "after a crash")
}

// TestLocalOutAlone: where programs of this host alone are captured, the host forwards
// everything as before, captured ports and tunnels too.
func TestLocalOutAlone(t *testing.T) {
	cfg := outConfig()
	cfg.Interfaces = nil
	for name, set := range map[string]func(l *lab){
		"running":     func(l *lab) { gatewayOn(t, l, cfg) },
		"guard alone": func(l *lab) { l.gw.do(func() error { return Guard(cfg) }) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			set(l)
			serveIn(t, l.server, "10.0.2.2:443", "[fd00:2::2]:443")
			for _, addr := range []string{"10.0.2.2:443", "[fd00:2::2]:443"} {
				c, err := dialIn(l.client, addr, testenv.Patience())
				if err != nil {
					t.Errorf("%s through this host: %v", addr, err)
					continue
				}
				_ = c.Close()
			}
			esp := ip4("10.0.1.2", "10.0.2.2", unix.IPPROTO_ESP, nil, make([]byte, 32))
			l.send(l.client, "c0", "g0", esp)
			testenv.Eventually(t, "ESP is forwarded", func() bool {
				return parse(testenv.Receive(t, "a packet", l.sniff.got)).proto == unix.IPPROTO_ESP
			})
		})
	}
}

// TestLocalOutAllPorts: with all ports, a program that binds a port of a service that is
// excepted is captured like any other; the service's answers are not.
func TestLocalOutAllPorts(t *testing.T) {
	cfg := outConfig()
	cfg.Ports, cfg.AllPorts, cfg.ExceptPorts = nil, true, []uint16{2222}
	g := newGateway(t, cfg)
	serveIn(t, g.gw, "10.0.1.1:2222")
	c, err := dialIn(g.client, "10.0.1.1:2222", testenv.Patience())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g.gw.do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
	_ = c.SetDeadline(testenv.Deadline())
	_, _ = io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("an excepted service: %v", err)
	}
	go func() {
		_ = g.gw.try(func() error {
			d := net.Dialer{Timeout: time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP("10.0.2.1"), Port: 2222}}
			c, err := d.Dial("tcp", "10.0.2.2:7")
			if err == nil {
				_ = c.Close()
			}
			return err
		})
	}()
	if i := g.syn(t, "10.0.2.2:7"); i.sport != 2222 {
		t.Errorf("from port %d", i.sport)
	}
	testenv.Eventually(t, "the dial has ended", func() bool { return g.gw.try(func() error { return nil }) == nil })
}

var update = flag.Bool("update", false, "write the golden files")

// TestLocalOutTable: the chains as nft shows them.
func TestLocalOutTable(t *testing.T) {
	cfg := outConfig()
	cfg.Out.Users, cfg.Out.Groups, cfg.Out.ExceptUsers = []uint32{1001, 1000}, []uint32{50}, []uint32{999}
	cfg.Out.Ports = []uint16{8443}
	cfg.Out.To = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	g := newGateway(t, cfg)
	var got strings.Builder
	for _, chain := range []string{"out", "out_who", "out_to", "out_guard", "out_guard_who", "out_guard_to", "out_left"} {
		for line := range strings.Lines(g.gw.run("nft -n list chain inet sslgate " + chain)) {
			if strings.HasPrefix(line, "\t") {
				got.WriteString(strings.TrimPrefix(line, "\t"))
			}
		}
	}
	file := filepath.Join("testdata", "localout.nft")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the chains are\n%s\nwant (-update writes them)\n%s", got.String(), want)
	}
}

// Mistakes that would capture sslgate's own connections, or lead nowhere.
func TestLocalOutRefused(t *testing.T) {
	for name, change := range map[string]func(*SteerConfig){
		"no mark":               func(c *SteerConfig) { c.Out.OwnMark = 0 },
		"outside of the mask":   func(c *SteerConfig) { c.Out.OwnMark = 0x80 },
		"that of captured":      func(c *SteerConfig) { c.Out.OwnMark = c.Mark },
		"that of the other one": func(c *SteerConfig) { c.Out.OwnMark = c.Twin.Mark },
		"that of answers": func(c *SteerConfig) {
			c.ClientSource, c.ReturnMark, c.ReturnTable, c.Out.OwnMark = true, 0x20, 5520, 0x20
		},
		"that of clients' sockets": func(c *SteerConfig) {
			c.ClientSource, c.ReturnMark, c.ReturnTable, c.Out.OwnMark = true, 0x20, 5520, 0x30
		},
		"a port of nobody":      func(c *SteerConfig) { c.Out.Ports = []uint16{22} },
		"too many destinations": func(c *SteerConfig) { c.Out.To = make([]netip.Prefix, maxOutTo+1) },
	} {
		cfg := outConfig()
		if change(&cfg); cfg.check() == nil {
			t.Errorf("%s: taken", name)
		}
	}
	cfg := outConfig()
	if cfg.Interfaces = nil; cfg.check() != nil {
		t.Errorf("programs of this host alone: %v", cfg.check())
	}
}

// TestHasAddress: an address is this host's as long as the kernel takes packets to it.
func TestHasAddress(t *testing.T) {
	l := newLab(t)
	has := func(a string, want bool) {
		t.Helper()
		l.gw.do(func() error {
			if got, err := HasAddress(netip.MustParseAddr(a)); err != nil || got != want {
				t.Errorf("%s: %t, %v", a, got, err)
			}
			return nil
		})
	}
	for _, a := range []string{"10.0.3.1", "fd00:3::1", "::ffff:10.0.2.1", "127.0.0.1", "::1"} {
		has(a, true)
	}
	for _, a := range []string{"10.0.3.2", "fd00:3::2", "198.51.100.1", "2001:db8::1"} {
		has(a, false)
	}
	l.gw.run("ip link set o0 down")
	has("fd00:3::1", false) // IPv4 addresses stay the host's
}
