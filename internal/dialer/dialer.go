// Package dialer makes every connection that sslgate itself opens. Where connections of
// programs of this host are captured, those of sslgate must not be: their sockets carry a
// firewall mark by which package tun knows them. So no other package has a dialer of its
// own (internal/archtest).
package dialer

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mark is the firewall mark (SO_MARK, socket(7)) of sslgate's own sockets; 0: none. To set
// one takes CAP_NET_ADMIN.
type Mark uint32

// Dialer returns a dialer for IP whose sockets carry the mark, those that look names up
// too. Each of more is called with a socket, before it is bound or connected.
func (m Mark) Dialer(more ...func(network string, fd int) error) *net.Dialer {
	d := m.plain(more...)
	if m != 0 {
		// By TCP too: a name server may be at a captured port.
		d.Resolver = &net.Resolver{PreferGo: true, Dial: m.plain().DialContext}
	}
	return d
}

// Checked is Dialer where check is asked for each address that a name has turned out to have, with
// its port, before it is connected to; its error ends that. Lookups of names are not asked for.
func (m Mark) Checked(check func(address string) error) *net.Dialer {
	d := m.Dialer()
	before := d.Control
	d.Control = func(network, address string, raw syscall.RawConn) error {
		if err := check(address); err != nil || before == nil {
			return err
		}
		return before(network, address, raw)
	}
	return d
}

// plain is Dialer without a resolver of its own.
func (m Mark) plain(more ...func(network string, fd int) error) *net.Dialer {
	if m == 0 && len(more) == 0 {
		return &net.Dialer{}
	}
	return &net.Dialer{Control: func(network, _ string, raw syscall.RawConn) error {
		var err error
		if cerr := raw.Control(func(fd uintptr) { err = m.prepare(network, int(fd), more) }); cerr != nil {
			return fmt.Errorf("prepare a socket: %w", cerr)
		}
		return err
	}}
}

// Set gives a socket the mark.
func (m Mark) Set(fd int) error {
	if m == 0 {
		return nil
	}
	return os.NewSyscallError("setsockopt SO_MARK", unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(m)))
}

func (m Mark) prepare(network string, fd int, more []func(string, int) error) error {
	if err := m.Set(fd); err != nil {
		return err
	}
	for _, f := range more {
		if err := f(network, fd); err != nil {
			return err
		}
	}
	return nil
}

// Check says whether this process may set the mark: nil, or an error that says what is
// missing.
func (m Mark) Check() error {
	if m == 0 {
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := m.prepare("tcp4", fd, nil); err != nil {
		return fmt.Errorf("sslgate's own connections cannot be told from those of other programs: %w: CAP_NET_ADMIN is missing: run as root, or `setcap cap_net_admin+ep` the program", err)
	}
	return nil
}

// Unix connects to a socket in the file system, which no packet leaves. Without a deadline
// in ctx it takes as long as within says; 0: as long as it takes.
func Unix(ctx context.Context, path string, within time.Duration) (net.Conn, error) {
	return (&net.Dialer{Timeout: within}).DialContext(ctx, "unix", path)
}
