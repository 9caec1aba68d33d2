package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/reason"
	"github.com/sslgate/sslgate/policy"
)

// With `source: client` in a rule, the destination sees the client's address: the socket is
// bound to an address that is not the gateway's (IP_TRANSPARENT), and package tun routes the
// answers back. If such a connection cannot be made, none is made: this code never falls back
// to the gateway's address.

// connectTo makes the TCP connection that the plan asks for.
func (fl *flow) connectTo(ctx context.Context, plan *policy.Plan, dst netip.AddrPort) (net.Conn, error) {
	switch plan.Source {
	case policy.SourceGateway:
		conn, err := fl.g.dial(ctx, dst)
		if err != nil {
			return nil, dialError(err)
		}
		return conn, nil
	case policy.SourceClient:
		if fl.direction == audit.LocalOut {
			return fl.connectFrom(ctx, fl.facts.Src.Addr().Unmap(), dst)
		}
		return fl.connectAs(ctx, fl.facts.Src.Addr().Unmap(), dst)
	default:
		return nil, handshake.Refuse(handshake.StepApplicationData, reason.Internal, "a plan with an unknown source address")
	}
}

func (fl *flow) connectAs(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	why, err := fl.g.impossibleSource(src, dst.Addr())
	if err != nil {
		return nil, err
	}
	if why != "" {
		return nil, handshake.Refuse(handshake.StepApplicationData, reason.DialSource, why)
	}
	conn, err := fl.g.dialAs(ctx, src, dst)
	if err != nil {
		return nil, dialAsError(err)
	}
	local, ok := conn.LocalAddr().(*net.TCPAddr)
	if !ok || local.AddrPort().Addr().Unmap() != src {
		_ = conn.Close()
		return nil, handshake.Refuse(handshake.StepApplicationData, reason.DialSource, fmt.Sprintf("the connection came from %v", conn.LocalAddr()))
	}
	fl.out.dest.from = netip.AddrPortFrom(src, local.AddrPort().Port())
	return conn, nil
}

// connectFrom connects from the address of a program of this host. It is the host's own
// address, so the kernel routes the answers back by itself, and no socket can have the
// program's port too.
func (fl *flow) connectFrom(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	if src.Is4() != dst.Addr().Is4() {
		return nil, handshake.Refuse(handshake.StepApplicationData, reason.DialSource, "client and destination are of different address families")
	}
	conn, err := fl.g.dialFrom(ctx, src, dst)
	if err != nil {
		return nil, dialAsError(err)
	}
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		fl.out.dest.from = netip.AddrPortFrom(src, local.AddrPort().Port())
	}
	return conn, nil
}

// hostDialFrom connects from an address of this host.
func hostDialFrom(mark dialer.Mark) func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
		d := mark.Dialer(func(_ string, fd int) error {
			if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
				return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", err)
			}
			return urgentInLine(fd)
		})
		d.FallbackDelay, d.KeepAlive, d.LocalAddr = -1, keepAliveLater, net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
		return d.DialContext(ctx, "tcp", dst.String())
	}
}

// impossibleSource says why no connection can be made from the client's address src, "" if
// one can. A destination on this host would send its answers to the real client. And an
// address of this host as src does not identify a client.
func (g *Gateway) impossibleSource(src, dst netip.Addr) (string, error) {
	if src.Is4() != dst.Is4() {
		return "client and destination are of different address families", nil
	}
	if dst.IsLoopback() {
		return "the destination is on the gateway itself", nil
	}
	if !src.IsGlobalUnicast() {
		return "the client's address is of its own link alone", nil
	}
	own, err := g.own.get()
	if err != nil {
		return "", err
	}
	for _, p := range own {
		switch p.Addr() {
		case dst:
			return "the destination is on the gateway itself", nil
		case src:
			return "the client's address is the gateway's own", nil
		}
	}
	return "", nil
}

// dialAsError gives a failed dial from the client's address its reason. Errors from the
// network have the reasons of every dial; errors from before that have a reason of their own.
func dialAsError(err error) *handshake.Error {
	var call *os.SyscallError
	before := errors.As(err, &call) && (call.Syscall != "connect" || // bind, setsockopt
		errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE) || // no port left
		errors.Is(err, syscall.EINVAL)) // no such source can be routed
	if before {
		e := handshake.Refuse(handshake.StepApplicationData, reason.DialSource, "")
		e.Err = err
		return e
	}
	e := dialError(err)
	if e.Reason == reason.DialTimeout {
		e.Detail = err.Error() + "; dialled from the client's address: does the destination route its answers to clients through this host?"
	}
	return e
}

// hostDialAs connects from the address src by the host's own sockets. Package tun recognizes
// these connections by mark.
func hostDialAs(mark dialer.Mark) func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
	return func(ctx context.Context, src netip.Addr, dst netip.AddrPort) (net.Conn, error) {
		d := mark.Dialer(transparent, func(_ string, fd int) error { return urgentInLine(fd) })
		// One address, so no Happy Eyeballs.
		d.FallbackDelay, d.KeepAlive, d.LocalAddr = -1, keepAliveLater, net.TCPAddrFromAddrPort(netip.AddrPortFrom(src, 0))
		return d.DialContext(ctx, "tcp", dst.String())
	}
}

// transparent prepares a socket for an address that is not the host's (ip(7)).
func transparent(network string, fd int) error {
	level, option := unix.SOL_IP, unix.IP_TRANSPARENT
	if network == "tcp6" {
		level, option = unix.SOL_IPV6, unix.IPV6_TRANSPARENT
	}
	if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
		return os.NewSyscallError("setsockopt IP_TRANSPARENT", err)
	}
	// connect chooses the port, when the destination is known. Without this option bind
	// would give each port to one connection only, whatever its destination. IPv6 too.
	if err := unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
		return os.NewSyscallError("setsockopt IP_BIND_ADDRESS_NO_PORT", err)
	}
	return nil
}

// CheckClientSource says whether this process may connect from the addresses of clients:
// nil, or an error that says what is missing.
func CheckClientSource() error {
	for network, family := range map[string]int{"tcp4": unix.AF_INET, "tcp6": unix.AF_INET6} {
		fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if errors.Is(err, unix.EAFNOSUPPORT) {
			continue // a host without IPv6 has no such clients
		}
		if err != nil {
			return fmt.Errorf("open a socket: %w", err)
		}
		err = transparent(network, fd)
		_ = unix.Close(fd)
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("no connection can be made under a client's address: %w: CAP_NET_ADMIN is missing: run as root, or `setcap cap_net_admin+ep` the program", err)
		}
		if err != nil {
			return fmt.Errorf("no connection can be made under a client's address: %w", err)
		}
	}
	return dialer.Mark(1).Check()
}
