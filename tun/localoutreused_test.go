package tun

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
)

const aUser, anotherUser = 65534, 1234

// TestLocalOutOwnerless: a program closes its socket, and the kernel still sends what is left,
// which has no user any more. It goes into the TUN like the rest of the connection, also where
// connection tracking has forgotten that.
func TestLocalOutOwnerless(t *testing.T) {
	cfg := testConfig()
	cfg.Out = &Outgoing{OwnMark: 0x50, Users: []uint32{aUser}}
	g := newGateway(t, cfg)
	g.gw.run("sysctl -qw net.netfilter.nf_conntrack_tcp_be_liberal=1")
	serveIn(t, g.server, "10.0.2.2:443", "[fd00:2::2]:443")
	for _, addr := range []string{"10.0.2.2:443", "[fd00:2::2]:443"} {
		for _, forgotten := range []bool{false, true} {
			d := g.dialOut(t, addr, aUser)
			i := g.syn(t, addr)
			g.accept(t, i)
			c, err := d.wait(t)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, "words"); err != nil {
				t.Error(err)
			}
			left := func(what string, is func(p info) bool) {
				t.Helper()
				for {
					if p := parse(testenv.Receive(t, what+" in the TUN", g.tun)); p.proto == unix.IPPROTO_TCP && p.sport == i.sport && is(p) {
						return
					}
				}
			}
			left("words", func(p info) bool { return strings.HasSuffix(string(p.body), "words") })
			if forgotten {
				g.gw.do(func() error { return netlink.ConntrackTableFlush(netlink.ConntrackTable) })
			}
			_ = c.Close() // nobody has acknowledged the words: they are sent again, and a FIN
			left("a FIN", func(p info) bool { return p.body[13]&1 != 0 })
		}
	}
	g.noneArrived(t, "what closed sockets have left")
}

// TestLocalOutPortReused: a program has a port that another user's had just before, to the
// same destination. Its connection is decided about anew, whatever is remembered of the other.
func TestLocalOutPortReused(t *testing.T) {
	cfg := testConfig()
	cfg.Out = &Outgoing{OwnMark: 0x50, Users: []uint32{aUser}}
	g := newGateway(t, cfg)
	serveIn(t, g.server, "10.0.2.2:443", "[fd00:2::2]:443")
	passes := func(addr string, port int) net.Conn {
		t.Helper()
		c, err := g.dialOutFrom(t, addr, anotherUser, port).wait(t)
		if err != nil {
			t.Fatalf("%s from port %d: %v", addr, port, err)
		}
		_ = c.SetDeadline(testenv.Deadline())
		if _, err := io.WriteString(c, "x"); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Errorf("%s from port %d: %v", addr, port, err)
		}
		return c
	}
	for n, addr := range []string{"10.0.2.2:443", "[fd00:2::2]:443"} {
		port := 40001 + 10*n
		g.resets(t, passes(addr, port))
		d := g.dialOutFrom(t, addr, aUser, port)
		i := g.syn(t, addr)
		if int(i.sport) != port {
			t.Errorf("from port %d", i.sport)
		}
		g.accept(t, i)
		c, err := d.wait(t)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
		for { // its RST is in the TUN, and with it the port is free
			if p := parse(testenv.Receive(t, "a RST in the TUN", g.tun)); p.proto == unix.IPPROTO_TCP && p.body[13]&tcpRST != 0 {
				break
			}
		}
		_ = passes(addr, port).Close()
	}
}
