package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab/testenv"
	"github.com/sslgate/sslgate/policy"
)

// asClient has each kind of rule that dials, and all of them as the client.
func asClient() policy.Spec {
	spec := mtls()
	spec.Rules[0].Destination.Source = "client"
	first := spec.Rules[0]
	first.Name, first.To, first.Destination.Dial = "first", []string{"203.0.113.6:443"}, "first"
	proxy := spec.Rules[0]
	proxy.Name, proxy.To, proxy.Destination.ProxyProtocol = "proxy", []string{"203.0.113.7:443"}, "v2"
	named := policy.RuleSpec{Name: "named", To: []string{"203.0.113.1:443"}, Action: "bypass", Destination: policy.DestinationSpec{Source: "client"}}
	bypass := policy.RuleSpec{Name: "bypass", To: []string{"203.0.113.8:443", "[2001:db8:5::8]:443"}, Action: "bypass", Destination: policy.DestinationSpec{Source: "client"}}
	spec.Rules = append([]policy.RuleSpec{first, proxy, named, bypass}, spec.Rules...)
	return spec
}

// What cannot be dialled as the client is not dialled at all: the flow ends with
// its own reason, and nothing ever leaves from the gateway's address.
func TestClientSourceNeverFallsBack(t *testing.T) {
	var failure error // of the dial; nil: a connection from another address
	asked := 0
	h := newHouse(t, asClient(), nil)
	h.gw.dialAs = func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
		asked++
		if src != client4 && src != client6 || src.Is4() != dst.Addr().Is4() {
			t.Errorf("asked to dial %v as %v", dst, src)
		}
		if failure != nil {
			return nil, failure
		}
		return (&net.Dialer{}).DialContext(ctx, "tcp", h.origin)
	}
	denied := &net.OpError{Op: "dial", Err: os.NewSyscallError("setsockopt IP_TRANSPARENT", syscall.EPERM)}
	n := 0
	for _, c := range []struct {
		dst, reason, detail string
		failure             error
		asked               bool
	}{
		{"203.0.113.5:443", "destination_not_as_client", "IP_TRANSPARENT", denied, true},
		{"[2001:db8:5::5]:443", "destination_not_as_client", "IP_TRANSPARENT", denied, true},
		{"203.0.113.6:443", "destination_not_as_client", "IP_TRANSPARENT", denied, true},
		{"203.0.113.7:443", "destination_not_as_client", "IP_TRANSPARENT", denied, true},
		{"203.0.113.8:443", "destination_not_as_client", "IP_TRANSPARENT", denied, true},
		{"[2001:db8:5::8]:443", "destination_not_as_client", "IP_TRANSPARENT", denied, true},
		{"203.0.113.5:443", "destination_not_as_client", "the connection came from 127.0.0.1", nil, true},
		{"203.0.113.8:443", "destination_not_as_client", "the connection came from 127.0.0.1", nil, true},
		{"203.0.113.1:443", "destination_not_as_client", "the destination is on the gateway itself", denied, false},
		{"203.0.113.5:443", "destination_timeout", "route its answers to clients through this host?", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, true},
		{"203.0.113.5:443", "destination_refused", "refused", &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, true},
	} {
		failure, asked = c.failure, 0
		if strings.Contains(c.dst, ".8:") || strings.Contains(c.dst, ":8]") || strings.Contains(c.dst, ".1:") {
			ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience())
			if conn, err := h.client.Dial(ctx, netip.MustParseAddrPort(c.dst)); err == nil { // else the RST was faster
				_ = conn.SetReadDeadline(testenv.Deadline())
				if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("%s: the client read: %v", c.dst, err)
				}
				_ = conn.Close()
			}
			cancel()
		} else if conn, err := h.tlsClient(netip.MustParseAddrPort(c.dst), h.alice(), nil); err == nil {
			_ = conn.SetReadDeadline(testenv.Deadline())
			_, _ = conn.Read(make([]byte, 1))
			_ = conn.Close()
		}
		n++
		r := h.record(n)
		if r.str("reason") != c.reason || !strings.Contains(r.str("detail"), c.detail) || r.str("dialed") != "" || r.str("dialed_from") != "" {
			t.Errorf("%s: %v", c.dst, r)
		}
		if (asked == 1) != c.asked {
			t.Errorf("%s: asked %d times", c.dst, asked)
		}
	}
	if d := h.dials.Load(); d != 0 {
		t.Errorf("%d dials under the gateway's address", d)
	}
}

func TestImpossibleSources(t *testing.T) {
	h := newHouse(t, mtls(), nil)
	for _, c := range []struct {
		src, dst string
		possible bool
	}{
		{"192.0.2.1", "203.0.113.5", true},
		{"2001:db8::1", "2001:db8:5::5", true},
		{"10.0.0.1", "203.0.113.5", true},
		{"fd00::1", "2001:db8:5::5", true},
		{"192.0.2.1", "2001:db8:5::5", false},
		{"192.0.2.1", "127.0.0.1", false},
		{"192.0.2.1", "203.0.113.1", false},   // the gateway's own
		{"203.0.113.1", "203.0.113.5", false}, // the gateway's own
		{"fe80::1", "2001:db8:5::5", false},
		{"127.0.0.1", "203.0.113.5", false},
		{"224.0.0.1", "203.0.113.5", false},
		{"0.0.0.0", "203.0.113.5", false},
		{"255.255.255.255", "203.0.113.5", false},
	} {
		why, err := h.gw.impossibleSource(netip.MustParseAddr(c.src), netip.MustParseAddr(c.dst))
		if err != nil || (why == "") != c.possible {
			t.Errorf("%s to %s: %q, %v", c.src, c.dst, why, err)
		}
	}
	failing := errors.New("no list")
	h.gw.own = &ownAddrs{list: func() ([]netip.Prefix, error) { return nil, failing }, now: time.Now}
	if _, err := h.gw.impossibleSource(client4, server4.Addr()); !errors.Is(err, failing) {
		t.Errorf("own addresses unknown: %v", err)
	}
}

func TestDialAsErrorsHaveReasons(t *testing.T) {
	call := func(name string, err error) error {
		return &net.OpError{Op: "dial", Err: os.NewSyscallError(name, err)}
	}
	for _, c := range []struct {
		err    error
		reason string
	}{
		{call("bind", syscall.EADDRNOTAVAIL), "destination_not_as_client"},
		{call("setsockopt SO_MARK", syscall.EPERM), "destination_not_as_client"},
		{call("connect", syscall.EADDRNOTAVAIL), "destination_not_as_client"},
		{call("connect", syscall.EINVAL), "destination_not_as_client"},
		{call("connect", syscall.ECONNREFUSED), "destination_refused"},
		{call("connect", syscall.EHOSTUNREACH), "destination_unreachable"},
		{call("connect", syscall.EPERM), "destination_unreachable"},
		{call("connect", syscall.ETIMEDOUT), "destination_timeout"},
		{context.DeadlineExceeded, "destination_timeout"},
	} {
		if e := dialAsError(c.err); string(e.Reason) != c.reason {
			t.Errorf("%v: %s, want %s", c.err, e.Reason, c.reason)
		}
	}
}

// The options are set where the kernel asks for them: on a bound socket of
// either family, with the mark.
func TestTransparentSocket(t *testing.T) {
	testenv.Root(t)
	if err := CheckClientSource(); err != nil {
		t.Fatal(err)
	}
	for _, six := range []bool{false, true} {
		family, level, option := unix.AF_INET, unix.SOL_IP, unix.IP_TRANSPARENT
		var foreign unix.Sockaddr = &unix.SockaddrInet4{Addr: client4.As4()}
		if six {
			family, level, option = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_TRANSPARENT
			foreign = &unix.SockaddrInet6{Addr: client6.As16()}
		}
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		network := map[bool]string{false: "tcp4", true: "tcp6"}[six]
		if err := transparent(network, fd); err != nil {
			t.Fatal(err)
		}
		for _, o := range []struct{ level, option, want int }{{level, option, 1}, {unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1}} {
			if got, err := unix.GetsockoptInt(fd, o.level, o.option); err != nil || got != o.want {
				t.Errorf("IPv6 %v: option %d of level %d is %#x, %v", six, o.option, o.level, got, err)
			}
		}
		if err := unix.Bind(fd, foreign); err != nil {
			t.Errorf("IPv6 %v: bind to a foreign address: %v", six, err)
		}
	}
}
