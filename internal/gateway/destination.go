package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/handshake"
	"github.com/sslgate/sslgate/internal/audit"
	"github.com/sslgate/sslgate/internal/dialer"
	"github.com/sslgate/sslgate/internal/reason"
)

// Dials leave by the OUTPUT hook and so skip the host's FORWARD firewall. Without this
// check a client could reach services that listen on the gateway's own loopback or
// link-local addresses, through the gateway. With Local, connections to an address of
// this host are captured too. There the client did mean that address, but the host's
// INPUT firewall has not been asked: so only a rule that terminates, or one that names
// the address, allows it. No client can mean a loopback address.

// forbidden says why a destination must not be dialled, "" if it may be. named says that
// the rule names the destination exactly, terminated that the rule is not a bypass.
// Addresses that are never a host are refused even if a rule names them.
func (g *Gateway) forbidden(dst netip.Addr, named, terminated bool) (string, error) {
	dst = dst.Unmap()
	switch {
	case dst.IsUnspecified(), dst.IsMulticast(), dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "not a unicast address", nil
	case g.local && dst.IsLoopback():
		return "loopback address", nil
	case named:
		return "", nil
	case dst.IsLoopback():
		return "loopback address", nil
	case dst.IsLinkLocalUnicast():
		return "link-local address", nil
	}
	for _, p := range g.refused {
		if p.Contains(dst) {
			return "an address of the TUN", nil
		}
	}
	own, err := g.own.get()
	if err != nil {
		return "", err
	}
	for _, p := range own {
		if p.Addr() == dst && !(g.local && terminated) {
			return "the gateway's own address", nil
		}
	}
	return "", nil
}

// direction says what of a flow is on this host. Nobody but a program of this host can have
// one of its addresses: package tun drops what a client sends from one.
func (g *Gateway) direction(src, dst netip.Addr) (audit.Direction, error) {
	if g.localOut {
		if here, err := g.here.is(src.Unmap()); err != nil || here {
			return audit.LocalOut, err
		}
	}
	if !g.local {
		return audit.Forwarded, nil
	}
	own, err := g.own.get()
	if err == nil && slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == dst.Unmap() }) {
		return audit.LocalIn, nil
	}
	return audit.Forwarded, nil
}

// looped ends a flow that is a connection of sslgate itself. Package tun keeps them out by the
// mark of their sockets; where a chain of another program hides it, each would be answered by
// one more connection, until a limit is met.
func (fl *flow) looped() bool {
	if fl.direction != audit.LocalOut {
		return false
	}
	ours, err := fl.g.ours(fl.facts.Src, fl.facts.Dst)
	if err == nil && !ours {
		return false
	}
	e := &handshake.Error{Reason: reason.OwnConnection, Wanted: handshake.AlertNone, Received: handshake.AlertNone}
	if err != nil { // what may be a loop is none
		e.Reason, e.Err = reason.Internal, err
	}
	fl.out.policy = fl.set.ID()
	fl.refuse(e)
	fl.client.Reset()
	return true
}

// hereCache remembers for ownAddrsFor which addresses are this host's. What is not there is
// asked for.
type hereCache struct {
	ask func(netip.Addr) (bool, error)
	now func() time.Time

	mu    sync.Mutex
	known map[netip.Addr]bool
	until time.Time
}

// maxHere bounds what is remembered.
const maxHere = 4096

func (h *hereCache) is(a netip.Addr) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if !now.Before(h.until) || len(h.known) >= maxHere {
		h.known, h.until = map[netip.Addr]bool{}, now.Add(ownAddrsFor)
	}
	if here, ok := h.known[a]; ok {
		return here, nil
	}
	here, err := h.ask(a)
	if err == nil {
		h.known[a] = here
	}
	return here, err
}

// ownAddrs caches the gateway's own addresses.
type ownAddrs struct {
	list func() ([]netip.Prefix, error)
	now  func() time.Time

	mu    sync.Mutex
	addrs []netip.Prefix
	until time.Time
}

// ownAddrsFor is how long the list is used. It is short because addresses come and go;
// without a cache each connection would cost a netlink dump.
const ownAddrsFor = time.Second

func (o *ownAddrs) get() ([]netip.Prefix, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.now()
	if now.Before(o.until) {
		return o.addrs, nil
	}
	addrs, err := o.list()
	if err != nil {
		return nil, fmt.Errorf("list own addresses: %w", err)
	}
	o.addrs, o.until = addrs, now.Add(ownAddrsFor)
	return addrs, nil
}

func hostAddrs() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			out = append(out, p)
		}
	}
	return out, nil
}

// hostDial connects by the host's own sockets.
func hostDial(mark dialer.Mark) func(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
	// One address, so no Happy Eyeballs. TCP_NODELAY is Go's default and must stay: Nagle
	// with delayed ACKs costs 40 ms a round trip. Not DialTCP: it calls bind even without a
	// local address, and the kernel then searches for a port that nobody uses, which takes
	// 15 ms once some thousands are taken.
	d := mark.Dialer(func(_ string, fd int) error { return urgentInLine(fd) })
	d.FallbackDelay, d.KeepAlive = -1, keepAliveLater
	return func(ctx context.Context, dst netip.AddrPort) (net.Conn, error) {
		return d.DialContext(ctx, "tcp", dst.String())
	}
}

// urgentInLine makes the kernel leave urgent data in the stream (tcp(7), RFC 6093,
// section 3.4). Otherwise the kernel takes the urgent byte out, and the relayed stream
// lacks a byte: a bypassed flow is falsified, and a TLS flow ends. It is set before the
// socket connects, because a server may send such a byte first.
func urgentInLine(fd int) error {
	return os.NewSyscallError("setsockopt SO_OOBINLINE", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1))
}

// keepAliveLater is for net.Dialer. Keepalive costs four system calls, which a short flow
// need not make; keepAlive makes them later.
const keepAliveLater = -1

// keepAlive makes the kernel probe whether a silent destination is still there, with
// Go's own default intervals.
func keepAlive(c *net.TCPConn) {
	_ = c.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true}) // fails only on a closed socket
}

// dialError gives a failed dial its reason.
func dialError(err error) *handshake.Error {
	code := reason.DialUnreachable
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		code = reason.DialRefused
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, syscall.ETIMEDOUT), errors.As(err, &ne) && ne.Timeout():
		code = reason.DialTimeout
	}
	e := handshake.Refuse(handshake.StepApplicationData, code, "")
	e.Err = err
	return e
}
