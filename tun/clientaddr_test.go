package tun

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sslgate/sslgate/internal/lab/testenv"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

func sourceConfig() SteerConfig {
	cfg := testConfig()
	cfg.ClientSource, cfg.ReturnMark, cfg.ReturnTable = true, 0x20, 5520
	return cfg
}

var (
	clients = []string{"10.0.1.2", "fd00:1::2"}
	servers = []string{"10.0.2.2", "fd00:2::2"}
)

// dialAs connects from the gateway to address:443 under the client's address;
// sport 0 is any.
func (l *lab) dialAs(src string, sport int, dst string, timeout time.Duration) (net.Conn, error) {
	var conn net.Conn
	err := l.gw.try(func() (err error) {
		d := net.Dialer{FallbackDelay: -1, LocalAddr: &net.TCPAddr{IP: net.ParseIP(src), Port: sport}, Control: transparent}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		conn, err = d.DialContext(ctx, "tcp", net.JoinHostPort(dst, "443"))
		return err
	})
	return conn, err
}

func transparent(network, _ string, raw syscall.RawConn) error {
	var err error
	cerr := raw.Control(func(fd uintptr) {
		cfg := sourceConfig()
		level, opt := unix.SOL_IP, unix.IP_TRANSPARENT
		if network == "tcp6" {
			level, opt = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
		}
		err = errors.Join(
			unix.SetsockoptInt(int(fd), level, opt, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(cfg.SocketMark())))
	})
	return errors.Join(cerr, err)
}

// listen443 accepts at port 443 of the server's addresses.
func (l *lab) listen443(t testing.TB) <-chan net.Conn {
	t.Helper()
	conns := make(chan net.Conn, 64)
	for _, a := range servers {
		var ln net.Listener
		l.server.do(func() (err error) {
			ln, err = net.Listen("tcp", net.JoinHostPort(a, "443"))
			return err
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				conns <- c
			}
		}()
		t.Cleanup(func() { _ = ln.Close(); <-done })
	}
	t.Cleanup(func() {
		for len(conns) > 0 {
			_ = (<-conns).Close()
		}
	})
	return conns
}

// connected dials as the client, and checks whom the server sees and what
// passes both ways.
func (l *lab) connected(t testing.TB, conns <-chan net.Conn, src string, sport int, dst string) {
	t.Helper()
	c, err := l.dialAs(src, sport, dst, testenv.Patience())
	if err != nil {
		t.Errorf("%s to %s: %v", src, dst, err)
		return
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(testenv.Deadline())
	var far net.Conn
	select {
	case far = <-conns:
	case <-time.After(testenv.Patience()):
		t.Errorf("%s: the server has accepted nothing", dst)
		return
	}
	defer func() { _ = far.Close() }()
	_ = far.SetDeadline(testenv.Deadline())
	if got := far.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String(); got != src {
		t.Errorf("the server sees %s, want %s", got, src)
	}
	carries(t, c, far)
	carries(t, far, c)
}

// carries sends 1 MB and compares.
func carries(t testing.TB, from, to net.Conn) {
	t.Helper()
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	sent := make(chan error, 1)
	go func() {
		_, err := from.Write(data)
		sent <- err
	}()
	got := make([]byte, len(data))
	_, err := io.ReadFull(to, got)
	if err := errors.Join(err, <-sent); err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("1 MB is not what was sent: %v", err)
	}
}

// answersAt collects TCP from a server's port 443: want packets, and what comes within a
// moment if there should be none.
func answersAt(got <-chan []byte, want int) []string {
	var all []string
	patience := 200 * time.Millisecond
	if want > 0 {
		patience = testenv.Patience()
	}
	for linger := time.After(patience); want == 0 || len(all) < want; {
		select {
		case p := <-got:
			if i := parse(p); i.proto == unix.IPPROTO_TCP && i.sport == 443 {
				all = append(all, i.String())
			}
		case <-linger:
			return all
		}
	}
	return all
}

func TestClientSource(t *testing.T) {
	both := sourceConfig()
	both.Interfaces, both.Ports, both.AllPorts = []string{"g0", "g1"}, nil, true
	for name, c := range map[string]struct {
		cfg  SteerConfig
		host []string
	}{
		"plain":                      {cfg: sourceConfig()},
		"strict reverse path":        {sourceConfig(), []string{"sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.g1.rp_filter=1"}},
		"every port, both captured":  {cfg: both},
		"masquerade":                 {sourceConfig(), masquerade("inet", "100")},
		"connection tracking is off": {sourceConfig(), untracked},
		"stateful firewall": {sourceConfig(), []string{
			"nft add table inet fw", "nft add chain inet fw in { type filter hook input priority 0 ; policy drop ; }",
			"nft add rule inet fw in ct state established,related accept", "nft add rule inet fw in meta l4proto { icmp, icmpv6 } accept",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGateway(t, c.cfg)
			for _, line := range c.host {
				g.gw.run(line)
			}
			conns := g.listen443(t)
			atClient := newSniffer(t, g.client, "c0")
			for i, src := range clients {
				g.connected(t, conns, src, 0, servers[i])
			}
			if got := answersAt(atClient.got, 0); len(got) > 0 {
				t.Errorf("the client was sent %d answers, %s first", len(got), got[0])
			}
		})
	}
}

var untracked = []string{
	"nft add table inet fast", "nft add chain inet fast raw { type filter hook prerouting priority -500 ; }", "nft add rule inet fast raw notrack",
	"nft add chain inet fast out { type filter hook output priority -500 ; }", "nft add rule inet fast out notrack",
}

func masquerade(family, priority string) []string {
	return []string{
		"nft add table " + family + " home", "nft add chain " + family + " home post { type nat hook postrouting priority " + priority + " ; }",
		"nft add rule " + family + " home post oifname g1 masquerade",
	}
}

// NAT of others that comes even before ours: the destination sees nothing rather than the
// gateway's address.
func TestClientSourceNeverMasqueraded(t *testing.T) {
	g := newGateway(t, sourceConfig())
	for _, line := range masquerade("inet", "-195") {
		g.gw.run(line)
	}
	for i, src := range clients {
		if c, err := g.dialAs(src, 0, servers[i], 300*time.Millisecond); err == nil {
			_ = c.Close()
			t.Errorf("%s has connected", src)
		}
	}
	for len(g.sniff.got) > 0 {
		if i := parse(<-g.sniff.got); i.proto == unix.IPPROTO_TCP {
			t.Errorf("%v reached the server", i)
		}
	}
	out := g.gw.run("nft list chain inet sslgate verify")
	if i := strings.Index(out, "ct zone"); i < 0 || strings.Contains(out[i:], "packets 0 ") {
		t.Errorf("nothing was dropped:\n%s", out)
	}
}

// The client has a connection to the same destination by the very port that
// ours takes: connection tracking keeps them apart.
func TestClientSourceSamePort(t *testing.T) {
	g := newGateway(t, sourceConfig())
	// A host firewall that drops what connection tracking calls invalid.
	for _, line := range []string{"nft add table inet fw", "nft add chain inet fw pre { type filter hook prerouting priority 0 ; }", "nft add rule inet fw pre ct state invalid drop"} {
		g.gw.run(line)
	}
	conns := g.listen443(t)
	for i, name := range []string{"v4", "v6"} {
		const sport = 45678
		g.send(g.client, "c0", "g0", syns(sport)[name].bytes())
		until(t, g.tun, sport)
		g.connected(t, conns, clients[i], sport, servers[i])
		g.send(g.client, "c0", "g0", syns(sport)[name].bytes())
		until(t, g.tun, sport) // still the TUN's
	}
}

// An ICMP error from the destination's side about our packet reaches our
// socket, not the client.
func TestClientSourceTooBig(t *testing.T) {
	g := newGateway(t, sourceConfig())
	conns := g.listen443(t)
	atClient := newSniffer(t, g.client, "c0")
	for i, src := range clients {
		c, err := g.dialAs(src, 0, servers[i], testenv.Patience())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		far := <-conns
		defer func() { _ = far.Close() }()
		local := c.LocalAddr().(*net.TCPAddr).AddrPort()
		quoted := packet{src: src, dst: servers[i], proto: unix.IPPROTO_TCP, sport: local.Port(), dport: 443}.bytes()
		icmp := packet{src: servers[i], dst: src, proto: unix.IPPROTO_ICMP, icmpType: 3, icmpCode: 4, payload: quoted}
		level, opt := unix.SOL_IP, unix.IP_MTU
		if i == 1 {
			icmp.proto, icmp.icmpType, icmp.icmpCode = unix.IPPROTO_ICMPV6, 2, 0
			level, opt = unix.SOL_IPV6, unix.IPV6_MTU
		}
		g.send(g.server, "s0", "g1", tooBig(icmp, 1300, g.seqOf(t, local.Port())))
		within(t, func() string {
			mtu := 0
			raw, err := c.(*net.TCPConn).SyscallConn()
			if err == nil {
				err = raw.Control(func(fd uintptr) { mtu, _ = unix.GetsockoptInt(int(fd), level, opt) })
			}
			if err != nil || mtu != 1300 {
				return fmt.Sprintf("%s: path MTU %d, %v", src, mtu, err)
			}
			return ""
		})
	}
	for len(atClient.got) > 0 {
		if i := parse(<-atClient.got); i.proto == unix.IPPROTO_ICMP {
			t.Errorf("the client was sent %v", i)
		}
	}
}

// Packets of a connection whose socket is gone do not reach the client.
func TestClientSourceOrphans(t *testing.T) {
	for _, state := range []string{"steered", "guard alone", "without"} {
		t.Run(state, func(t *testing.T) {
			cfg := sourceConfig()
			cfg.ClientSource = state != "without"
			l := newLab(t)
			l.gw.do(func() error { return Guard(cfg) })
			if state == "steered" {
				g := &gateway{lab: l}
				g.open(t)
				l.gw.do(func() (err error) { g.steer, err = Steer(cfg, zap.NewNop()); return err })
				defer func() { _ = g.steer.Close(false) }()
			}
			atClient := newSniffer(t, l.client, "c0")
			for i, src := range clients {
				answer := packet{src: servers[i], dst: src, proto: unix.IPPROTO_TCP, sport: 443, dport: 51000, synack: true}
				l.send(l.server, "s0", "g1", answer.bytes())
			}
			want := map[string]int{"without": 2}[state]
			if got := answersAt(atClient.got, want); want == 2 && len(got) != 2 || want == 0 && len(got) == 2 {
				t.Errorf("the client was sent %v", got)
			}
		})
	}
}

// A transparent listener of somebody else on this host is not reached by a
// captured SYN, whatever port it comes from.
func TestClientSourceForeignListener(t *testing.T) {
	g := newGateway(t, sourceConfig())
	g.gw.do(func() error {
		lc := net.ListenConfig{Control: transparent}
		ln, err := lc.Listen(context.Background(), "tcp", "[::]:443")
		if err == nil {
			t.Cleanup(func() { _ = ln.Close() })
		}
		return err
	})
	for i, name := range []string{"v4", "v6"} {
		p := syns(443)[name]
		if got := g.leaked("g0", p.bytes()); len(got) > 0 {
			t.Errorf("%s reached the server: %v", clients[i], got)
		}
		until(t, g.tun, 443)
	}
}

// seqOf is the first sequence number behind the SYN that sport has sent to the
// server.
func (l *lab) seqOf(t testing.TB, sport uint16) uint32 {
	t.Helper()
	for timeout := time.After(testenv.Patience()); ; {
		select {
		case p := <-l.sniff.got:
			if i := parse(p); i.proto == unix.IPPROTO_TCP && i.sport == sport {
				at := 20
				if p[0]>>4 == 6 {
					at = 40
				}
				return binary.BigEndian.Uint32(p[at+4:]) + 1
			}
		case <-timeout:
			t.Fatal("no SYN was seen")
		}
	}
}

// tooBig finishes an ICMP error: the MTU, and the sequence number of the quoted
// segment, which the kernel compares with what is on its way (RFC 5927).
func tooBig(p packet, mtu uint16, seq uint32) []byte {
	quoted := bytes.Clone(p.payload)
	at := 20
	if netip.MustParseAddr(p.src).Is6() {
		at = 40
	}
	copy(quoted[at+4:], []byte{byte(seq >> 24), byte(seq >> 16), byte(seq >> 8), byte(seq)})
	p.payload, p.icmpMTU = quoted, mtu
	return p.bytes()
}
