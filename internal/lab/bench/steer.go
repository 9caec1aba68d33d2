package bench

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/sslgate/sslgate/internal/lab"
)

// Everything here happens inside the namespaces of one lab and goes with it.

const (
	// tproxyMark and tproxyTable lead packets of captured connections to the
	// local sockets of a kernel-socket peer.
	tproxyMark  = 1
	tproxyTable = 100
	// tproxyBase is added to a mode's port for the port of the peer's socket.
	tproxyBase = 9000
)

func (m mode) tproxyPort() uint16 { return m.port() + tproxyBase }

// nft loads rules in a namespace.
func (s *site) nft(ns lab.NS, rules string) error {
	c := s.lab.Command(ns, "nft", "-f", "-")
	c.Stdin = strings.NewReader(rules)
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("nft in %s: %w: %s", ns, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// tproxy redirects connections to the peers on kernel sockets, as described in the kernel's
// Documentation/networking/tproxy.rst.
func (s *site) tproxy() error {
	var b strings.Builder
	b.WriteString("table ip bench {\n\tchain steer {\n\t\ttype filter hook prerouting priority mangle\n")
	for _, m := range modes() {
		fmt.Fprintf(&b, "\t\tiifname %q tcp dport %d tproxy to :%d meta mark set %d accept\n", lab.LANIface, m.port(), m.tproxyPort(), tproxyMark)
	}
	b.WriteString("\t}\n}\n")
	if err := s.nft(lab.Gateway, b.String()); err != nil {
		return err
	}
	return s.lab.Netlink(lab.Gateway, func(h *netlink.Handle) error {
		rule := netlink.NewRule()
		rule.Family, rule.Mark, rule.Table = netlink.FAMILY_V4, tproxyMark, tproxyTable
		if err := h.RuleAdd(rule); err != nil {
			return fmt.Errorf("rule for TPROXY: %w", err)
		}
		lo, err := h.LinkByName("lo")
		if err != nil {
			return err
		}
		_, all, err := net.ParseCIDR("0.0.0.0/0")
		if err != nil {
			return err
		}
		if err := h.RouteAdd(&netlink.Route{
			LinkIndex: lo.Attrs().Index, Dst: all, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: tproxyTable,
		}); err != nil {
			return fmt.Errorf("route for TPROXY: %w", err)
		}
		return nil
	})
}

// redirect leads a mode's connections to the socket of a peer that asks connection tracking
// where they were going to (SO_ORIGINAL_DST).
func (s *site) redirect(m mode) error {
	return s.nft(lab.Gateway, fmt.Sprintf(`table ip bench {
	chain steer {
		type nat hook prerouting priority dstnat
		iifname %q tcp dport %d redirect to :%d
	}
}
`, lab.LANIface, m.port(), m.tproxyPort()))
}

// routeSpoofed routes the answers to a flood back to where it came from. Nobody answers
// there, as with unused addresses.
func (s *site) routeSpoofed() error {
	return s.lab.Netlink(lab.Gateway, func(h *netlink.Handle) error {
		dev, err := h.LinkByName(lab.LANIface)
		if err != nil {
			return err
		}
		_, dst, err := net.ParseCIDR(spoofed.String())
		if err != nil {
			return err
		}
		if err := h.RouteAdd(&netlink.Route{LinkIndex: dev.Attrs().Index, Dst: dst, Gw: asIP(lab.ClientAddr(false))}); err != nil {
			return fmt.Errorf("route of the flood's addresses: %w", err)
		}
		return nil
	})
}

func asIP(a netip.Addr) net.IP { return net.IP(a.AsSlice()) }

// lossy drops 0.5 % of the data packets towards the client, until the returned
// function is called. Segmentation is done before the link, so that packets
// of at most its MTU are lost and not whole 64 KiB bursts.
func (s *site) lossy() (restore func() error, err error) {
	if err := s.offload(false); err != nil {
		return nil, err
	}
	const rules = `table ip lossy {
	chain in {
		type filter hook prerouting priority raw
		meta l4proto tcp meta length > 1000 numgen random mod 1000 < 5 drop
	}
}
`
	if err := s.nft(lab.Client, rules); err != nil {
		return nil, errors.Join(err, s.offload(true))
	}
	return func() error {
		return errors.Join(s.nft(lab.Client, "delete table ip lossy\n"), s.offload(true))
	}, nil
}

// offload turns segmentation offload of the gateway's interface towards the
// client on or off (SIOCETHTOOL, linux/ethtool.h).
func (s *site) offload(on bool) error {
	return s.lab.Do(lab.Gateway, func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer func() { _ = unix.Close(fd) }()
		for _, cmd := range []uint32{unix.ETHTOOL_STSO, unix.ETHTOOL_SGSO} {
			value := struct{ cmd, data uint32 }{cmd, 0}
			if on {
				value.data = 1
			}
			req := struct {
				name [unix.IFNAMSIZ]byte
				data unsafe.Pointer
				_    [16]byte // struct ifreq is 40 bytes
			}{data: unsafe.Pointer(&value)}
			copy(req.name[:unix.IFNAMSIZ-1], lab.LANIface)
			if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
				return fmt.Errorf("segmentation offload of %s: %w", lab.LANIface, errno)
			}
		}
		return nil
	})
}
